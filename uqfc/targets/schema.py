"""The capability table of one device, and what a table may say."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

Isa: TypeAlias = Literal["amx", "vnni512", "avxvnni", "avx2", "portable"]
"""The family of kernels that codegen emits; ``portable`` is plain LLVM vectors."""

WeightDtype: TypeAlias = Literal["int8", "int4", "ternary", "binary", "float32"]
ActivationDtype: TypeAlias = Literal["uint8", "int8", "float32"]
Granularity: TypeAlias = Literal["per_tensor", "per_channel"]

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Triple: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(x86_64|aarch64|riscv64)(-[a-z0-9_.]{1,32}){2,3}$")
]
LlvmFeature: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[+-][a-z0-9._-]{1,32}$")]
CpuFeature: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
Description: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Target(BaseModel):
    """What code may be generated for a device, and which quantization it supports."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    description: Description
    triple: Triple
    """LLVM triple, e.g. ``x86_64-unknown-linux-gnu``."""
    cpu: Name
    """LLVM CPU name; its features are part of what the code may use."""
    features: tuple[LlvmFeature, ...] = ()
    """LLVM feature strings added to those of ``cpu``, e.g. ``+avx512vnni``."""
    isa: Isa
    cpu_features: tuple[CpuFeature, ...] = ()
    """Flags the CPU must have, in the names of ``/proc/cpuinfo``; the runtime checks them."""
    weight_dtypes: tuple[WeightDtype, ...] = Field(min_length=1)
    activation_dtypes: tuple[ActivationDtype, ...] = Field(min_length=1)
    granularity: tuple[Granularity, ...] = Field(min_length=1)
    """Granularities of the weights' scales."""
    modelled: StrictBool = False
    """True: no such device is at hand; the table is a model, and kernels run on this machine."""

    @model_validator(mode="after")
    def _isa_fits_triple(self) -> Target:
        if self.isa != "portable" and self.architecture != "x86_64":
            raise ValueError(f"isa '{self.isa}' needs an x86_64 triple; use isa 'portable'")
        return self

    @property
    def architecture(self) -> str:
        """First part of the triple, e.g. ``x86_64``."""
        return self.triple.partition("-")[0]

    @property
    def feature_string(self) -> str:
        """``features`` as LLVM takes them: joined by commas."""
        return ",".join(self.features)
