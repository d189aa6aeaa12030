"""``uqfc inspect``: what a binary says about itself; nothing of it is executed."""

from __future__ import annotations

from uqfc.cli.console import print_json, print_table, say
from uqfc.cli.options import AsJson
from uqfc.cli.run import Binary
from uqfc_runtime import ModelInfo, TensorInfo
from uqfc_runtime.artifact import read_artifact


def inspect(binary: Binary, as_json: AsJson = False) -> None:
    """Show a binary's interface, and each layer's types. Its target and memory, too, and why a
    layer has its types."""
    info = read_artifact(binary, runnable=False).info
    if as_json:
        print_json(info.raw)
        return
    _summarize(info)
    if info.layers:
        say("")
        print_table(
            ("layer", "op", "weights", "activations", "kernel", "requested", "chosen", "reason"),
            [
                (
                    layer.name,
                    layer.op,
                    layer.weight_dtype,
                    layer.activation_dtype,
                    layer.kernel,
                    layer.requested,
                    layer.chosen,
                    layer.reason,
                )
                for layer in info.layers
            ],
        )


def _summarize(info: ModelInfo) -> None:
    target = info.target
    features = f" (needs {' '.join(target.cpu_features)})" if target.cpu_features else ""
    say(f"{info.name}, by {info.producer}")
    say(f"target    {target.name}: {target.triple}{features}")
    say(f"strategy  {info.quant_strategy or '-'}")
    say(f"inputs    {_list(info.inputs)}")
    say(f"outputs   {_list(info.outputs)}")
    say(f"weights   {info.weights_bytes:,} bytes")
    say(f"arena     {info.arena_bytes:,} bytes, aligned to {info.arena_alignment}")
    recorded = info.verification
    seed = "none" if recorded is None else f"seed {recorded.seed} (`uqfc verify` replays it)"
    say(f"recorded  {seed}")


def _list(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{t.name} {t}" for t in tensors)
