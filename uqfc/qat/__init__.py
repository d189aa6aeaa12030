"""Quantization-aware training in PyTorch whose forward pass has the deployed network's bits.

Imports torch (``pip install 'uqfc[qat]'``); ``import uqfc`` does not, until one of these is used.
"""

from __future__ import annotations

from uqfc.qat.estimators import Estimator
from uqfc.qat.model import QatModel
from uqfc.qat.prepare import prepare_qat

__all__ = ["Estimator", "QatModel", "prepare_qat"]
