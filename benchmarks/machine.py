"""The machine and the versions that a table's figures belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from uqfc_runtime.cpu import cpu_features

PACKAGES = (
    "uqfc",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "ai-edge-litert",
    "torch",
    "torchvision",
)
NOTABLE = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
"""CPU features that decide which kernels a runtime has."""


def describe() -> dict[str, Any]:
    """What the JSON says of the machine."""
    features = cpu_features()
    return {
        "architecture": platform.machine(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "notable_features": [name for name in NOTABLE if name in features],
        "cpu_features": sorted(features),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(),
    }


def cpu_name() -> str:
    """As the kernel names it; empty where it does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def versions() -> dict[str, str]:
    """Of the packages that take part; those that are missing are left out."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def one_line(facts: Mapping[str, Any]) -> str:
    """For a caption, of ``describe``: the CPU, its notable features, the peers' versions."""
    peers = [f"{n} {v}" for n, v in facts["versions"].items() if n not in {"uqfc", "numpy", "onnx"}]
    return f"{facts['cpu']} ({', '.join(facts['notable_features'])}); {', '.join(peers)}"
