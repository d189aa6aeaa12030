"""What kernels need to know of an instruction set: an ``Isa``, one for each ``Target.isa``.

``amx``      ``vnni512`` with the matrix tiles of AMX-INT8 (``isa.amx``) for large products;
``vnni512``  AVX-512 F/BW/VL/VNNI: 32 vector registers of 512 bits, masks, ``vpdpbusd``;
``avxvnni``  ``avx2`` with ``vpdpbusd`` on its registers;
``avx2``     x86-64-v3: 16 registers of 256 bits, ``vpmaddwd`` / ``vpmaddubsw``;
``portable`` plain LLVM vectors, nothing that is not in the target's baseline (SSE2 on x86-64).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from uqfc.codegen.isa.known import check_known
from uqfc.errors import TargetError

PANEL_VECTOR = 16
"""Channels of a vector; panels are one or two of them."""


@dataclass(frozen=True)
class Isa:
    """A machine to generate code for. Hashable, and part of the key of whatever is compiled."""

    name: str
    """The family of vector instructions: ``amx`` is of ``vnni512``, ``avxvnni`` of ``avx2``."""
    triple: str
    cpu: str
    features: tuple[str, ...]
    """LLVM feature strings, ``+avx512vnni``."""
    required: tuple[str, ...]
    """CPU features (Linux names) that the generated code may use."""
    tile_rows: int
    """Most rows of a GEMM tile."""
    tile_vectors: int
    """Vectors of 16 channels in a full panel of a GEMM tile."""
    overlapped_rows: int
    """Most rows of a GEMM tile whose sums fit the registers twice: 0 if none is worth it."""
    half_tiles: bool
    """Eight channels are half the work of 16."""
    accumulators: int
    """Independent sums that hide the latency of one dot product."""
    masked_memory: bool
    """Masked loads and stores of every element size are cheap."""
    native_round: bool
    """``llvm.roundeven`` is one instruction rather than a library call."""
    avx_vnni: bool = False
    """``avx2`` has AVX-VNNI."""
    tiles: bool = False
    """AMX-INT8: the network runs between ``amx.configure`` and ``amx.release``."""

    @property
    def panel(self) -> int:
        """Output channels of a full weight panel."""
        return self.tile_vectors * PANEL_VECTOR

    @property
    def tile_channels(self) -> tuple[int, ...]:
        """Output channels that tiles have, ascending; the last is a full panel."""
        whole = range(PANEL_VECTOR, self.panel + 1, PANEL_VECTOR)
        return (PANEL_VECTOR // 2, *whole) if self.half_tiles else tuple(whole)

    @property
    def feature_string(self) -> str:
        return ",".join(self.features)


class TargetLike(Protocol):
    """The fields of ``uqfc.targets.Target`` that code generation uses."""

    @property
    def isa(self) -> str: ...
    @property
    def triple(self) -> str: ...
    @property
    def cpu(self) -> str: ...
    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def cpu_features(self) -> tuple[str, ...]: ...


VNNI512 = Isa(
    name="vnni512",
    triple="x86_64-unknown-linux-gnu",
    cpu="x86-64-v4",
    features=("+avx512vnni",),
    required=("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd", "avx512_vnni"),
    tile_rows=14,
    tile_vectors=2,
    overlapped_rows=7,
    half_tiles=False,
    accumulators=8,
    masked_memory=True,
    native_round=True,
)
AMX = replace(
    VNNI512,
    features=(*VNNI512.features, "+amx-tile", "+amx-int8"),
    required=(*VNNI512.required, "amx_tile", "amx_int8"),
    tiles=True,
)
AVX2 = Isa(
    name="avx2",
    triple="x86_64-unknown-linux-gnu",
    cpu="x86-64-v3",
    features=(),
    required=("avx2", "fma", "bmi2"),
    tile_rows=6,
    tile_vectors=1,
    overlapped_rows=0,
    half_tiles=True,
    accumulators=1,
    masked_memory=False,
    native_round=True,
)
AVX_VNNI = replace(
    AVX2,
    features=("+avxvnni",),
    required=(*AVX2.required, "avx_vnni"),
    accumulators=4,
    avx_vnni=True,
)
PORTABLE = Isa(
    name="portable",
    triple="x86_64-unknown-linux-gnu",
    cpu="x86-64",
    features=(),
    required=(),
    tile_rows=2,
    tile_vectors=1,
    overlapped_rows=0,
    half_tiles=False,
    accumulators=1,
    masked_memory=False,
    native_round=False,
)
ISAS = {
    "amx": AMX,
    "vnni512": VNNI512,
    "avxvnni": AVX_VNNI,
    "avx2": AVX2,
    "portable": PORTABLE,
}
"""By the names that targets use."""


def isa_for(target: TargetLike) -> Isa:
    """The ``Isa`` of a target, with its triple, cpu and features.

    TargetError if there is none, if the table lacks CPU features that its kernels use (binaries
    would crash where they are missing), or if LLVM does not know what the table names.
    """
    if target.isa not in ISAS:
        known = ", ".join(ISAS)
        raise TargetError(f"target field 'isa': '{target.isa}' has no kernels; accepted: {known}")
    base = ISAS[target.isa]
    missing = [name for name in base.required if name not in target.cpu_features]
    if missing:
        raise TargetError(
            f"target field 'cpu_features': isa '{target.isa}' also needs: {', '.join(missing)}"
        )
    used = [_llvm_name(name) for name in base.required]
    forbidden = [f"-{name}" for name in used if f"-{name}" in target.features]
    if forbidden:
        raise TargetError(
            f"target field 'features': isa '{target.isa}' cannot do with {', '.join(forbidden)}"
        )
    check_known(target.triple, target.cpu, target.features)
    features = dict.fromkeys((*(f"+{name}" for name in used), *target.features))
    return replace(base, triple=target.triple, cpu=target.cpu, features=tuple(features))


def _llvm_name(feature: str) -> str:
    """What LLVM calls a CPU feature of that Linux name."""
    if feature.startswith("avx"):
        return feature.replace("_", "")
    return feature.replace("_", "-")
