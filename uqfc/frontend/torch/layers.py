"""Names of layers, and which parameters of the module they hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.fx import Node

from uqfc.frontend.torch.network import LayerOrigin
from uqfc.frontend.torch.program import Program

WEIGHTED = ("conv1d", "conv2d", "linear")
BATCH_NORMS = ("batch_norm", "_native_batch_norm_legit_no_training")
STATISTIC = "running_mean"


def op_name(node: Node) -> str:
    """``conv2d`` of a call of any overload of ``aten::conv2d``; the target's name otherwise."""
    schema: Any = getattr(node.target, "_schema", None)
    name = str(schema.name if schema is not None else getattr(node.target, "__name__", node.target))
    return name.removeprefix("aten::")


def module_of(node: Node) -> tuple[str, str, str]:
    """Key of the innermost module's call, its path and its type; empty where there is none."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", "", ""
    key, (path, kind) = list(stack.items())[-1]
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return key, str(path), name


def layer_names(calls: list[Node], moves: frozenset[str]) -> dict[Node, str]:
    """A name of its own for every call: the path of the module if the call is all that it does
    (beside moves), else ``path.op``; a number is added to a name that is taken."""
    work = [node for node in calls if op_name(node) not in moves]
    counts = Counter(module_of(node)[0] for node in work)
    taken: Counter[str] = Counter()
    names: dict[Node, str] = {}
    for node in calls:
        key, path, _ = module_of(node)
        alone = bool(path) and counts[key] == 1 and op_name(node) not in moves
        name = path if alone else f"{path}.{op_name(node)}" if path else op_name(node)
        taken[name] += 1
        names[node] = name if taken[name] == 1 else f"{name}#{taken[name]}"
    return names


def argument(node: Node, index: int) -> Any:
    """A positional argument, or None if it is left out."""
    return node.args[index] if index < len(node.args) else None


def layer_origins(program: Program, names: dict[Node, str]) -> dict[Node, LayerOrigin]:
    """The layers whose weight, and bias if there is one, are parameters as they are."""
    origins: dict[Node, LayerOrigin] = {}
    for node in names:
        if op_name(node) not in WEIGHTED:
            continue
        weight, bias = argument(node, 1), argument(node, 2)
        if weight in program.parameters and (bias is None or bias in program.parameters):
            bias_name = None if bias is None else program.constants[bias]
            batch_norm = following_batch_norm(program, node)
            origins[node] = LayerOrigin(program.constants[weight], bias_name, batch_norm)
    return origins


def following_batch_norm(program: Program, node: Node) -> str | None:
    """The path of the module that alone reads the layer's result, and normalises its channels."""
    users = list(node.users)
    if len(users) != 1 or op_name(users[0]) not in BATCH_NORMS:
        return None
    if op_name(node) == "linear" and len(node.meta["val"].shape) != 2:
        return None
    mean = program.constants.get(argument(users[0], 3), "")
    path, _, statistic = mean.rpartition(".")
    return path if statistic == STATISTIC else None


def other_uses(
    program: Program, names: dict[Node, str], origins: dict[Node, LayerOrigin]
) -> dict[str, str]:
    """The calls that use a parameter, but for those that make it part of a layer."""
    explained = set(origins)
    for node, origin in origins.items():
        if origin.batch_norm is not None:
            explained.update(node.users)
    uses: dict[str, list[str]] = {}
    for parameter in sorted(program.parameters, key=program.nodes.index):
        users = [n for n in parameter.users if n in names and n not in explained]
        named = [f"{op_name(n)} '{names[n]}'" for n in users]
        named += ["output"] if any(n.op == "output" for n in parameter.users) else []
        if named:
            uses.setdefault(program.constants[parameter], []).extend(named)
    return {name: ", ".join(found) for name, found in uses.items()}
