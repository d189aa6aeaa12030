"""Fashion-MNIST: IDX files, and the preprocessing shared by training and deployment.

NumPy only: a deployed program prepares its images with the very function that
prepared the training images, bit for bit, without torch or Pillow.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASSES",
    "DEFAULT_DIRECTORY",
    "IMAGE_SIZE",
    "MEAN",
    "STD",
    "add_data_argument",
    "load_split",
    "preprocess",
    "read_idx",
    "resize_bilinear",
]

DEFAULT_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's `dataset-fashion-mnist` package puts the four files."""

CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

IMAGE_SIZE = 64
"""Height and width of the model's input, in pixels."""

MEAN = 0.2860
"""Mean of the training pixels, on the scale 0 (black) to 1 (white)."""

STD = 0.3530
"""Standard deviation of the training pixels, on the same scale."""

_IDX_UINT8 = 0x08
_FILE_PREFIXES = {"train": "train", "test": "t10k"}

Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzip-compressed if its name ends in `.gz`.

    The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, the element
    type, the rank, one big-endian uint32 per dimension, then the elements in C order.

    Raises:
        ValueError: the file is not IDX, holds another element type, or is cut short.
    """
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"{path}: not an IDX file")
    element_type, rank = content[2], content[3]
    if element_type != _IDX_UINT8:
        raise ValueError(f"{path}: element type 0x{element_type:02x}, expected 0x08 (uint8)")
    header = 4 + 4 * rank
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], dtype=">u4"))
    elements = np.frombuffer(content, dtype=np.uint8, offset=header)
    if len(shape) != rank or elements.size != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path}: {elements.size} elements, but the header says {shape}")
    return elements.reshape(shape)


def load_split(directory: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load `split`, "train" (60,000 images) or "test" (10,000).

    Returns:
        Images, uint8 [N, 28, 28], 0 = background; labels, int64 [N], indices into `CLASSES`.

    Raises:
        FileNotFoundError: `directory` has neither the plain nor the `.gz` file.
    """
    prefix = _FILE_PREFIXES[split]
    images = read_idx(_find(directory, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_find(directory, f"{prefix}-labels-idx1-ubyte"))
    return images, labels.astype(np.int64)


def _find(directory: Path, name: str) -> Path:
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{directory} holds neither {name} nor {name}.gz")


def resize_bilinear(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resize float32 [N, H, W] to [N, size, size], bilinear with half-pixel centres.

    Output pixel i samples the input at (i + 0.5) * H / size - 0.5; samples beyond the
    border take the border's value. This is ONNX Resize's `half_pixel` and torch's
    `align_corners=False`, without antialiasing. Rows first, then columns, each output
    as `low + (high - low) * fraction` in float32: no reduction whose order could vary.
    """
    for axis in (1, 2):
        low, high, fraction = _taps(images.shape[axis], size)
        column = fraction[:, None] if axis == 1 else fraction
        near = np.take(images, low, axis=axis)
        far = np.take(images, high, axis=axis)
        images = np.add(near, (far - near) * column, dtype=np.float32)
    return images


def _taps(length: int, size: int) -> Taps:
    """Find each output position's two neighbours, and the second one's weight, 0..1."""
    position = (np.arange(size) + 0.5) * (length / size) - 0.5
    position = position.clip(0, length - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, length - 1)
    return low, high, (position - low).astype(np.float32)


def preprocess(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn uint8 [N, 28, 28] into the model's input, float32 [N, 3, 64, 64].

    Scale to 0..1, resize to 64x64, normalise by `MEAN` and `STD`, and repeat the grey
    channel three times.
    """
    scaled = images.astype(np.float32) / np.float32(255)
    resized = resize_bilinear(scaled, IMAGE_SIZE)
    normalised = (resized - np.float32(MEAN)) / np.float32(STD)
    return np.repeat(normalised[:, None], 3, axis=1)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--data DIR`, the directory of the four IDX files."""
    parser.add_argument(
        "--data",
        type=Path,
        default=DEFAULT_DIRECTORY,
        metavar="DIR",
        help="directory of the four IDX files, plain or .gz (default: %(default)s)",
    )
