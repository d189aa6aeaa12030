"""What specs of integer layers share: their constants are laid out in panels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from numpy.typing import NDArray

from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.operands import ConvDims, GemmDims
from uqfc.packing import I32, U8, DepthwiseLayout, PanelLayout, Scalar

Dims = TypeVar("Dims", GemmDims, ConvDims)


class PanelConstants(ABC, Generic[Dims]):
    """A spec that is called with ``Dims``."""

    isa: Isa
    epilogue: Epilogue

    @abstractmethod
    def layout(self, dims: Dims) -> PanelLayout | DepthwiseLayout:
        """Layout of the weights."""

    def pack(self, dims: Dims, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of the weights: [n, k], [n, kh, kw, in_channels / groups] or [n, kh, kw].

        ValueError for another shape, or if the storage does not hold them.
        """
        layout = self.layout(dims)
        return layout.pack(weights.reshape(len(weights), *layout.shape[1:]), zero_points)

    def pad(self, dims: Dims, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Addends or multipliers [n] as the kernel reads them."""
        return self.epilogue.constants(self.isa, self.layout(dims).pad(values))
