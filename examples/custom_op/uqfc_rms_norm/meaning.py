"""What ``rms.norm`` computes: slow, obvious, and right by definition."""

from __future__ import annotations

import numpy as np

from uqfc.dialects.tensors import Array
from uqfc.interpreter import meaning
from uqfc.numerics import F32, strided_sum
from uqfc_rms_norm.dialect import RmsNormOp


@meaning(RmsNormOp)
def rms_norm(op: RmsNormOp, x: F32, scale: F32) -> Array:
    mean = strided_sum(x * x)[..., None] / np.float32(x.shape[-1])
    return x / np.sqrt(mean + np.float32(op.epsilon.value.data)) * scale
