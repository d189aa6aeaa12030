"""Cut the small committed slices of Fashion-MNIST, for tests and demos without the dataset.

Writes beside this file:

- `test_images.npz`: `images` uint8 [1000, 28, 28] and `labels` int64 [1000], the first
  100 test images of each class, in the order of the dataset.
- `calibration_images.npz`: `images` uint8 [512, 28, 28], training images spread evenly
  over the 60,000.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from data import CLASSES, add_data_argument, load_split

HERE = Path(__file__).resolve().parent
TEST_IMAGES_PER_CLASS = 100
CALIBRATION_IMAGES = 512


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description="Cut the committed slices of Fashion-MNIST.")
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=HERE, help="directory (default: %(default)s)")
    arguments = parser.parse_args()

    images, labels = load_split(arguments.data, "test")
    firsts = [np.flatnonzero(labels == k)[:TEST_IMAGES_PER_CLASS] for k in range(len(CLASSES))]
    chosen = np.sort(np.concatenate(firsts))
    np.savez_compressed(
        arguments.out / "test_images.npz", images=images[chosen], labels=labels[chosen]
    )

    images, _ = load_split(arguments.data, "train")
    spread = np.arange(CALIBRATION_IMAGES) * len(images) // CALIBRATION_IMAGES
    np.savez_compressed(arguments.out / "calibration_images.npz", images=images[spread])


if __name__ == "__main__":
    main()
