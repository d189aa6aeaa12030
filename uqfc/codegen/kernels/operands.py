"""What a kernel is called with: sizes (known at compile time) and pointers."""

from __future__ import annotations

from dataclasses import dataclass, field

from uqfc.codegen.vector import Pointer


@dataclass(frozen=True)
class GemmDims:
    """``out[rows, n] = x[rows, k] @ w[n, k].T``. Row strides: ``lda`` in bytes, others in elements.

    ``ldc`` is the stride of ``out``, ``ldr`` that of the residual.
    """

    rows: int
    k: int
    n: int
    lda: int
    ldc: int
    ldr: int = 0

    @staticmethod
    def dense(rows: int, k: int, n: int) -> GemmDims:
        """Contiguous operands."""
        return GemmDims(rows, k, n, lda=k, ldc=n, ldr=n)


@dataclass(frozen=True)
class ConvDims:
    """A dense NHWC convolution. Padding at the end is implied by the output size.

    Kernel weights are [out_channels, kernel_height, kernel_width, in_channels / groups].
    ``pitch``: elements from an output pixel to the next, 0: ``out_channels``. What takes as long
    with any is the same problem: it is not in the ``repr``.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_height: int
    out_width: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_begin: tuple[int, int] = (0, 0)
    groups: int = 1
    pitch: int = field(default=0, repr=False)

    @property
    def ldc(self) -> int:
        """As in ``GemmDims``."""
        return self.pitch or self.out_channels

    @property
    def pixels(self) -> int:
        """Output pixels of the batch: the rows of the equivalent matrix product."""
        return self.batch * self.out_height * self.out_width

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the input under one window."""
        return (
            (self.kernel[0] - 1) * self.dilation[0] + 1,
            (self.kernel[1] - 1) * self.dilation[1] + 1,
        )

    @property
    def is_padded(self) -> bool:
        """Some window is not inside the image."""
        size, out = (self.height, self.width), (self.out_height, self.out_width)
        last = [(out[i] - 1) * self.stride[i] + self.reach[i] for i in (0, 1)]
        return self.pad_begin != (0, 0) or last[0] > size[0] or last[1] > size[1]

    @property
    def is_product(self) -> bool:
        """A pointwise convolution of every pixel: ``product``."""
        same_size = (self.height, self.width) == (self.out_height, self.out_width)
        return self.kernel == (1, 1) and same_size and not self.is_padded and self.groups == 1

    @property
    def product(self) -> GemmDims:
        """The matrix product that a pointwise convolution is."""
        return GemmDims.dense(self.pixels, self.in_channels, self.out_channels)

    @property
    def segments(self) -> int:
        """Runs of adjacent bytes of a row of padded pixels that a window consists of."""
        adjacent = self.groups == 1 and (self.dilation[1] == 1 or self.kernel[1] == 1)
        return self.kernel[0] if adjacent else self.kernel[0] * self.kernel[1]

    @property
    def taps(self) -> int:
        """Length of the reduction of one output."""
        return self.kernel[0] * self.kernel[1] * (self.in_channels // self.groups)


@dataclass(frozen=True)
class Operands:
    """Pointers of one call. ``scratch`` is needed where ``scratch_bytes`` is not 0."""

    x: Pointer
    weights: Pointer
    addend: Pointer
    multiplier: Pointer
    out: Pointer
    residual: Pointer | None = None
    scratch: Pointer | None = None
