"""Matrix products: ``nn.linear`` where the right side is a constant matrix, else ``nn.matmul``."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops import matmul
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import Value, constant, dims, kind, known, rank


@converter("linear")
def linear(call: Call, b: Builder) -> Value:
    """``input @ weight.T + bias``; weight [N, K]."""
    x, weight, bias = call.product()
    if rank(weight) == 2 and rank(x) >= 1 and not isinstance(weight, SSAValue):
        return matmul.linear(b, x, weight, bias)
    product = matmul.multiply(b, x, matmul.swapped(b, weight))
    return product if bias is None else b.add(product, bias)


@converter("matmul")
def matmul_(call: Call, b: Builder) -> Value:
    return matmul.multiply(b, call.real_tensor("self"), call.real_tensor("other"))


@converter("mm", "bmm")
def matrices(call: Call, b: Builder) -> Value:
    return matmul.multiply(b, call.real_tensor("self"), call.real_tensor("mat2"))


@converter("addmm")
def addmm(call: Call, b: Builder) -> Value:
    """``beta * self + alpha * mat1 @ mat2``; a row of constants is a bias."""
    addend, x, y = (call.real_tensor(name) for name in ("self", "mat1", "mat2"))
    alpha, beta = call.real("alpha"), call.real("beta")
    bias = matmul.bias_of(addend, dims(y)[1]) if alpha == beta == 1.0 else None
    if bias is not None and not isinstance(y, SSAValue):
        return matmul.linear(b, x, b.transpose(y, (1, 0)), addend if rank(addend) == 1 else bias)
    product = matmul.scaled(b, matmul.multiply(b, x, y), alpha)
    return b.add(product, matmul.scaled(b, addend, beta))


@converter("scaled_dot_product_attention")
def attention(call: Call, b: Builder) -> Value:
    """``softmax(query @ key.T * scale + mask) @ value``."""
    call.must_be("dropout_p", 0.0)
    call.must_be("enable_gqa", False)
    query, key, value = (call.real_tensor(name) for name in ("query", "key", "value"))
    scale = call.real("scale") if call.given("scale") else float(dims(query)[-1] ** -0.5)
    scores = matmul.multiply(b, b.mul(query, constant(scale)), matmul.swapped(b, key))
    mask = call.optional("attn_mask")
    if call.flag("is_causal"):
        mask = constant(np.tri(*dims(scores)[-2:], dtype=np.bool_))
    if mask is not None:
        scores = masked(b, scores, mask)
    weights = b.emit(nn.SoftmaxOp(b.ssa(scores), rank(scores) - 1))
    return matmul.multiply(b, weights, value)


def masked(b: Builder, scores: Value, mask: Value) -> Value:
    """A mask of booleans says what is kept, one of floats is added."""
    if kind(mask) != i1:
        return b.add(scores, mask)
    array = known(mask)
    if array is not None and array.all():
        return scores
    return b.select(mask, scores, constant(-float("inf")))
