"""Quantization-aware training in PyTorch whose forward pass has the deployed network's bits.

Imports torch (``pip install 'uqfc[qat]'``); ``import uqfc`` does not, until one of these is used.
"""

from __future__ import annotations

from uqfc.qat.estimators import Estimator
from uqfc.qat.exporting import export
from uqfc.qat.finetune import finetune
from uqfc.qat.mixed import BitWidths
from uqfc.qat.model import QatModel
from uqfc.qat.prepare import prepare_qat
from uqfc.qat.reporting import Epoch, FinetuneResult
from uqfc.qat.statistics import reestimate_statistics

__all__ = [
    "BitWidths",
    "Epoch",
    "Estimator",
    "FinetuneResult",
    "QatModel",
    "export",
    "finetune",
    "prepare_qat",
    "reestimate_statistics",
]
