"""``CompiledModel``: a network that runs in this process and can be written to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from xdsl.dialects.builtin import ModuleOp

from uqfc.cache import Cache, decode_result, encode_result, key_of
from uqfc.codegen.artifact import (
    encode_info,
    write_atomically,
    write_object_file,
    write_shared_object,
)
from uqfc.codegen.header import default_prefix
from uqfc.codegen.isa import isa_for
from uqfc.codegen.jit import compile_objects, load, optimized, target_machine
from uqfc.codegen.module import RUN, Compiled, emit_module
from uqfc.codegen.select_kernels import Tuner
from uqfc.codegen.team import TEAM, team_object
from uqfc.dialects.tensors import Array
from uqfc.errors import TargetError, UqfcError
from uqfc.frontend.uqr import summary, write_uqr
from uqfc.interpreter import Interpreter, input_names, main_function
from uqfc.model_info import model_info
from uqfc.pipeline import Trace, kernel_passes, run_passes
from uqfc.profile import Profile, launch_times, profile
from uqfc.targets import Target, check_code, missing_cpu_features
from uqfc_runtime import Model
from uqfc_runtime.binding import Addresses
from uqfc_runtime.info import MAX_THREADS, LayerInfo, parse_info
from uqfc_runtime.verification import digest, verification_inputs

UQR_SUFFIXES = (".onnx", ".cann")
SEED = 20
"""Of the recorded inputs that ``uqfc verify`` replays."""


@dataclass(frozen=True)
class Origin:
    """The network with its quantize points, and where these come from: what a UQR file holds."""

    module: ModuleOp = field(repr=False)
    calibration: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None


class Lowered(NamedTuple):
    """A network on its way to a target: integer (or float) network, kernels, and LLVM code."""

    network: ModuleOp
    kernels: ModuleOp
    compiled: Compiled
    origin: Origin | None = None


@dataclass(frozen=True)
class Keeping:
    """Where a result is kept: in the cache, under its key."""

    cache: Cache
    key: str | None = None


@dataclass
class CompiledModel:
    """A network compiled for one target.

    ``lower`` gives the network and its kernels; it is called when one of them is wanted.
    """

    target: Target
    info: Mapping[str, Any]
    weights: bytes = field(repr=False)
    lower: Callable[[], Lowered] = field(repr=False)
    keeping: Keeping | None = field(default=None, repr=False)

    @cached_property
    def lowered(self) -> Lowered:
        """All levels of the network, which take long to get after a result from the cache."""
        return self.lower()

    @property
    def network(self) -> ModuleOp:
        """The integer (or float) network that every target runs."""
        return self.lowered.network

    @property
    def kernels(self) -> ModuleOp:
        """The network as placed kernels of this target."""
        return self.lowered.kernels

    @staticmethod
    def restored(
        keeping: Keeping, target: Target, again: Callable[[], CompiledModel]
    ) -> CompiledModel | None:
        """The result that was kept, or None. ``again`` compiles the same, and is called for the
        levels of IR; UqfcError then, should the result be another one."""
        model = CompiledModel(target, {}, b"", lambda: lowered_again(model, again), keeping)
        content = model._kept("objects")
        if content is None:
            return None
        model.info, (model.weights, *model.objects) = decode_result(content)
        return model

    def run(
        self, inputs: Mapping[str, ArrayLike], out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Outputs by name, from the compiled kernels. Thread-safe; see ``uqfc_runtime.Model.run``.

        Raises TargetError if this machine cannot run the target's code.
        """
        return self._loaded.run(inputs, out)

    def __call__(self, x: ArrayLike) -> Array | dict[str, Array]:
        """Run a network of one input."""
        return self._loaded(x)

    def reference(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What ``run`` must give, to the bit: the interpreter on the same network. Slow."""
        return Interpreter().run(self.network, inputs)

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        """Type, kernel, decision and reason of every kernel, in order."""
        return parse_info(encode_info(self.info)).layers

    def profile(self, *, runs: int = 200, warmup: int = 20) -> Profile:
        """Each kernel's time on this machine and how near it is to the limits; see ``profile``.

        Raises TargetError if this machine cannot run the target's code.
        """
        model, cache = self._loaded, None if self.keeping is None else self.keeping.cache
        return profile(
            self.kernels, self.target, self.info, model, runs=runs, warmup=warmup, cache=cache
        )

    def launch_times(self, *, runs: int, warmup: int) -> tuple[dict[str, float], float]:
        """Median microseconds of the kernels of each layer, by name, and of a call, on one thread,
        where one call follows the other.

        Raises TargetError if this machine cannot run the target's code.
        """
        model, cache = self._loaded, None if self.keeping is None else self.keeping.cache
        times, calls = launch_times(
            self.kernels,
            self.target,
            self.info,
            model,
            runs=runs,
            warmup=warmup,
            cache=cache,
            in_turn=False,
        )
        taken: dict[str, float] = {}
        for layer, median in zip(self.layers, np.median(times, axis=0), strict=True):
            taken[layer.name] = taken.get(layer.name, 0.0) + float(median)
        return taken, float(np.median(calls)) / 1e3

    def save(self, path: str | Path, *, prefix: str | None = None) -> None:
        """Write a shared object (``.so``), or an object file with its header (``.o`` and ``.h``).

        ``prefix`` is that of the functions in a ``.o``, so that models can be linked together.
        A name that ends in ``.onnx`` or ``.cann`` writes ``uqr()``, which is no binary.
        """
        where = Path(path)
        if where.suffix in UQR_SUFFIXES:
            write_atomically({where: [self.uqr()]})
            return
        info = {**self.info, "verification": self._verification()}
        match where.suffix:
            case ".so":
                write_shared_object(where, self.objects, self.weights, info, self.target)
            case ".o":
                isa = isa_for(self.target)
                ir = str(optimized(self.lowered.compiled.module, target_machine(isa)))
                name = prefix or default_prefix(where.stem)
                write_object_file(where, [ir], self.weights, info, self.target, name)
            case other:
                accepted = ", ".join((".so", ".o", *UQR_SUFFIXES))
                raise UqfcError(f"{where}: unknown suffix '{other}'; accepted: {accepted}")

    def uqr(self) -> bytes:
        """The network with its quantize points as a UQR file: compiled again, it has these bits.

        Raises UqfcError where this model was made of an integer network.
        """
        origin = self.lowered.origin
        if origin is None:
            raise UqfcError(
                "this model was made of an integer network: its quantize points are lost"
            )
        return write_uqr(
            origin.module,
            calibration=origin.calibration,
            provenance=origin.provenance,
            name=str(self.info["name"]),
        )

    @cached_property
    def objects(self) -> list[bytes]:
        """ELF objects of the kernels and of the function that calls them."""
        cache = None if self.keeping is None else self.keeping.cache
        module = self.lowered.compiled.module
        objects = compile_objects(module, isa_for(self.target), cache)
        self._keep("objects", encode_result(dict(self.info), [self.weights, *objects]))
        return objects

    @cached_property
    def _loaded(self) -> Model:
        missing = missing_cpu_features(self.target)
        if missing:
            raise TargetError(
                f"target {self.target.name} needs CPU features that this machine lacks: "
                + ", ".join(missing)
            )
        info, threads = encode_info(self.info), self.info["threads"]
        objects, symbols = self.objects, [RUN]
        if threads > 1:
            objects, symbols = [*objects, team_object(isa_for(self.target))], [RUN, *TEAM]
        code = load(objects, symbols)
        addresses = Addresses(*(code.address(name) for name in symbols))
        return Model.from_functions(addresses, info, self.weights, code, threads)

    def _verification(self) -> dict[str, Any]:
        """Hashes of the outputs for recorded inputs, by the interpreter."""
        kept = self._kept("verification")
        if kept is not None:
            return decode_result(kept)[0]
        parsed = parse_info(encode_info(self.info))
        outputs = self.reference(verification_inputs(parsed, SEED))
        found = {"seed": SEED, "outputs": {name: digest(y) for name, y in outputs.items()}}
        self._keep("verification", encode_result(found, []))
        return found

    def _kept(self, what: str) -> bytes | None:
        if self.keeping is None or self.keeping.key is None:
            return None
        return self.keeping.cache.get(key_of([what, self.keeping.key]))

    def _keep(self, what: str, content: bytes) -> None:
        if self.keeping is not None and self.keeping.key is not None:
            self.keeping.cache.put(key_of([what, self.keeping.key]), content)


def lowered_again(model: CompiledModel, again: Callable[[], CompiledModel]) -> Lowered:
    other = again()
    if encode_info(other.info) != encode_info(model.info) or other.weights != model.weights:
        raise UqfcError(
            "compiling again gave another result than the one in the cache: remove that by "
            "`uqfc cache --clear`, or compile without the cache"
        )
    return other.lowered


def build(
    network: ModuleOp,
    table: Target,
    target: str,
    name: str,
    strategy: str,
    trace: Trace | None = None,
    keeping: Keeping | None = None,
    tune: Tuner | None = None,
    *,
    threads: int = 1,
    origin: Origin | None = None,
) -> CompiledModel:
    """Lower the network to kernels of the target. ``target`` is its name or path.

    ``tune`` measures the kernels of layers that have several. ``threads``: most threads of one
    run; UqfcError if that is out of range. ``origin`` is what ``CompiledModel.uqr`` writes.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise UqfcError(f"threads: {threads} is out of range; accepted: 1 to {MAX_THREADS}")
    check_code(table)
    kernels = network.clone()
    run_passes(kernels, kernel_passes(target, tune, threads), trace)
    inputs = input_names(main_function(network))
    compiled = emit_module(kernels, len(inputs), isa_for(table), threads)
    info = model_info(
        network,
        kernels,
        compiled,
        table,
        name=name,
        strategy=strategy,
        threads=threads,
        ops=[] if origin is None else summary(origin.module),
    )
    lowered = Lowered(network, kernels, compiled, origin)
    return CompiledModel(table, info, compiled.weights, lambda: lowered, keeping)
