"""Matrix products: ``nn.linear`` where the right side is a constant matrix, else ``nn.matmul``."""

from __future__ import annotations

from xdsl.ir import SSAValue

from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops import matmul
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import Value, rank


@converter("linear")
def linear(call: Call, b: Builder) -> Value:
    """``input @ weight.T + bias``; weight [N, K]."""
    x, weight, bias = call.product()
    if rank(weight) == 2 and rank(x) >= 1 and not isinstance(weight, SSAValue):
        return matmul.linear(b, x, weight, bias)
    product = matmul.multiply(b, x, matmul.swapped(b, weight))
    return product if bias is None else b.add(product, bias)
