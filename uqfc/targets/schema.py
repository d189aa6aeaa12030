"""The capability table of one device, and what a table may say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

Isa: TypeAlias = Literal["amx", "vnni512", "avxvnni", "avx2", "portable"]
"""The family of kernels that codegen emits; ``portable`` is plain LLVM vectors."""

Op: TypeAlias = Literal["conv2d", "depthwise", "linear"]
"""Ops with weights; ``conv2d`` is grouped convolutions too."""
WeightDtype: TypeAlias = Literal[
    "int8", "int4", "ternary", "binary", "fp8_e4m3", "fp8_e5m2", "float32"
]
ActivationDtype: TypeAlias = Literal["uint8", "int8", "fp8_e4m3", "fp8_e5m2", "float32"]
Granularity: TypeAlias = Literal["per_tensor", "per_channel", "per_block"]
"""Of the scales of weights; ``per_block``: one for each ``groups`` weights along the reduction."""

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Triple: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=r"^(x86_64|aarch64|riscv64|wasm32|nvptx64)(-[a-z0-9_.]{1,32}){2,3}$"),
]
LlvmFeature: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[+-][a-z0-9._-]{1,32}$")]
CpuFeature: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
Description: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Bytes: TypeAlias = Annotated[StrictInt, Field(ge=0, le=1 << 48)]
Cost: TypeAlias = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Features: TypeAlias = Annotated[tuple[LlvmFeature, ...], Field(max_length=64)]
CpuFeatures: TypeAlias = Annotated[tuple[CpuFeature, ...], Field(max_length=64)]
GroupSize: TypeAlias = Annotated[StrictInt, Field(ge=2, le=1 << 16)]

_STRICT = ConfigDict(extra="forbid", frozen=True)


class Capability(NamedTuple):
    """One combination that a device has a kernel for."""

    op: str
    weight: str
    activation: str
    granularity: str
    group: int
    """Weights that share a scale; 0 but for ``per_block``."""
    cost: float
    """Relative time of one multiply-accumulate: 1 is that of an int8 ``conv2d``, or of the
    device's own type."""


class Kernels(BaseModel):
    """All combinations of what is listed, at one cost."""

    model_config = _STRICT

    ops: tuple[Op, ...] = Field(min_length=1, max_length=8)
    weights: tuple[WeightDtype, ...] = Field(min_length=1, max_length=16)
    activations: tuple[ActivationDtype, ...] = Field(min_length=1, max_length=16)
    granularity: tuple[Granularity, ...] = Field(
        default=("per_tensor", "per_channel"), min_length=1, max_length=4
    )
    groups: tuple[GroupSize, ...] = Field(default=(), max_length=8)
    cost: Cost = 1.0

    @model_validator(mode="after")
    def _groups_are_of_blocks(self) -> Kernels:
        if bool(self.groups) != ("per_block" in self.granularity):
            raise ValueError("groups: sizes of blocks; given if, and only if, there is 'per_block'")
        return self

    def expanded(self) -> Iterator[Capability]:
        """Every combination."""
        for op, weight, activation, kind in product(
            self.ops, self.weights, self.activations, self.granularity
        ):
            for group in self.groups if kind == "per_block" else (0,):
                yield Capability(op, weight, activation, kind, group, self.cost)


class Memory(BaseModel):
    """Sizes in bytes; 0: there is none, or it is not known."""

    model_config = _STRICT

    l1: Bytes = 0
    """Data cache of one core."""
    l2: Bytes = 0
    scratch: Bytes = 0
    """Memory that is addressed, as opposed to cached: TCM, shared memory."""
    flash: Bytes = 0
    """Read-only memory for code and weights."""


class Simd(BaseModel):
    """The vector unit."""

    model_config = _STRICT

    name: Description
    bits: Annotated[StrictInt, Field(ge=8, le=1 << 16)]
    """Of a register; the least where that is not fixed."""


class Target(BaseModel):
    """What code may be generated for a device, and which quantization it supports."""

    model_config = _STRICT

    name: Name
    description: Description
    triple: Triple
    """LLVM triple, e.g. ``x86_64-unknown-linux-gnu``."""
    cpu: Name
    """LLVM CPU name; its features are part of what the code may use."""
    features: Features = ()
    """LLVM feature strings added to those of ``cpu``, e.g. ``+avx512vnni``."""
    isa: Isa
    cpu_features: CpuFeatures = ()
    """Flags the CPU must have, in the names of ``/proc/cpuinfo``; the runtime checks them."""
    kernels: tuple[Kernels, ...] = Field(min_length=1, max_length=32)
    memory: Memory = Memory()
    simd: Simd | None = None
    modelled: StrictBool = False
    """True: no such device is at hand; the table is a model, and kernels run on this machine."""
    no_code: Description | None = None
    """What uqfc lacks to generate code; the table is then for searches alone."""

    @model_validator(mode="after")
    def _isa_fits_triple(self) -> Target:
        if self.isa != "portable" and self.architecture != "x86_64":
            raise ValueError(f"isa '{self.isa}' needs an x86_64 triple; use isa 'portable'")
        if self.architecture in ("wasm32", "nvptx64") and self.no_code is None:
            raise ValueError(
                f"no_code: uqfc generates no code for {self.architecture}; say so in the table"
            )
        return self

    @model_validator(mode="after")
    def _kernels_are_stated_once(self) -> Target:
        seen: set[tuple[str | int, ...]] = set()
        for entry in self.kernels:
            for found in entry.expanded():
                if found[:-1] in seen:
                    what = ", ".join(str(part) for part in found[:4])
                    raise ValueError(f"kernels: two entries have ({what})")
                seen.add(found[:-1])
        return self

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """Every combination of the table, in its order."""
        return tuple(found for entry in self.kernels for found in entry.expanded())

    def weights_for(self, op: str, granularity: str | None = None) -> tuple[str, ...]:
        """The types of weights that there are kernels of an op for, as ``WeightDtype`` orders;
        ``granularity``: of those with such scales."""
        entries = [e for e in self.kernels if op in e.ops and granularity in (None, *e.granularity)]
        had = {weight for entry in entries for weight in entry.weights}
        return tuple(dtype for dtype in get_args(WeightDtype) if dtype in had)

    def cost(self, op: str, weight: str) -> float | None:
        """The least relative cost of a multiply-accumulate; None where there is no kernel."""
        costs = [e.cost for e in self.kernels if op in e.ops and weight in e.weights]
        return min(costs, default=None)

    @property
    def weight_dtypes(self) -> tuple[str, ...]:
        """The types of weights that some op has."""
        had = {weight for entry in self.kernels for weight in entry.weights}
        return tuple(dtype for dtype in get_args(WeightDtype) if dtype in had)

    @property
    def activation_dtypes(self) -> tuple[str, ...]:
        """The types of activations that some op has."""
        had = {activation for entry in self.kernels for activation in entry.activations}
        return tuple(dtype for dtype in get_args(ActivationDtype) if dtype in had)

    @property
    def architecture(self) -> str:
        """First part of the triple, e.g. ``x86_64``."""
        return self.triple.partition("-")[0]

    @property
    def feature_string(self) -> str:
        """``features`` as LLVM takes them: joined by commas."""
        return ",".join(self.features)
