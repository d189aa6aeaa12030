"""Names of layers, and which parameters of the module they hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.fx import Node

from uqfc.frontend.torch.network import LayerOrigin
from uqfc.frontend.torch.program import Program, arguments_of, op_name, overload_name

BATCH_NORM = "_native_batch_norm_legit_no_training"
STATISTIC = "running_mean"
TRANSPOSES = ("t", "transpose", "permute")


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


def weight_and_bias(node: Node) -> tuple[Any, Any] | None:
    """The nodes of what is [O, I / groups, …] or [N, K], and of the bias, of a layer."""
    given = arguments_of(node)
    match op_name(node):
        case "conv1d" | "conv2d" | "linear":
            return given["weight"], given.get("bias")
        case "convolution" if not given["transposed"]:
            return given["weight"], given.get("bias")
        case "addmm" if given.keys().isdisjoint(("alpha", "beta")):
            return untransposed(given["mat2"]), given["self"]
        case "mm":
            return untransposed(given["mat2"]), None
        case "matmul":
            return untransposed(given["other"]), None
        case _:
            return None


def untransposed(node: Any) -> Any:
    """The matrix that ``node`` is the transpose of; None if it is not one."""
    if not isinstance(node, Node) or op_name(node) not in TRANSPOSES:
        return None
    return node.args[0] if rank_of(node) == 2 else None


def rank_of(node: Node) -> int:
    return len(node.meta["val"].shape)


def layer_origins(program: Program) -> dict[Node, LayerOrigin]:
    """The layers whose weight, and bias if there is one, are parameters as they are."""
    origins: dict[Node, LayerOrigin] = {}
    for node in program.calls:
        weight, bias = weight_and_bias(node) or (None, None)
        plain_bias = bias is None or (bias in program.parameters and rank_of(bias) == 1)
        if weight in program.parameters and rank_of(weight) > 1 and plain_bias:
            bias_name = None if bias is None else program.constants[bias]
            batch_norm = following_batch_norm(program, node)
            origins[node] = LayerOrigin(program.constants[weight], bias_name, batch_norm)
    return origins


def following_batch_norm(program: Program, node: Node) -> str | None:
    """The path of the module that alone reads the layer's result, and normalises its channels."""
    users = program.users(node)
    if len(users) != 1 or op_name(users[0]) != BATCH_NORM:
        return None
    convolution = "conv" in op_name(node)
    if not convolution and rank_of(node) != 2:
        return None
    mean = program.constants.get(arguments_of(users[0])["running_mean"], "")
    path, _, statistic = mean.rpartition(".")
    return path if statistic == STATISTIC else None


def other_uses(
    program: Program, names: dict[Node, str], origins: dict[Node, LayerOrigin]
) -> dict[str, str]:
    """The calls that use a parameter or buffer, but for those that make it part of a layer."""
    explained: set[Node] = set()
    for node, origin in origins.items():
        own = [n for n in node.all_input_nodes if op_name(n) in TRANSPOSES and len(n.users) == 1]
        explained.update((node, *own))
        if origin.batch_norm is not None:
            explained.update(node.users)
    uses: dict[str, str] = {}
    for node, name in program.constants.items():
        users = [n for n in program.users(node) if n not in explained]
        if node in program.parameters | program.buffers and users:
            called = [f"{overload_name(n)} '{names[n]}'" if n in names else n.op for n in users]
            uses[name] = ", ".join(called)
    return uses
