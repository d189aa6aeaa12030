"""A directory of images as calibration data, with preprocessing that is stated, never guessed.

``preprocess.toml`` (or ``preprocess.json``) in the directory holds the fields of ``Preprocess``::

    size = [224, 224]               # height, width that the model gets
    resize = 256                    # optional: shorter side first, then the centre is cut out
    color = "rgb"                   # rgb, bgr or gray
    layout = "nchw"                 # nchw or nhwc
    mean = [0.485, 0.456, 0.406]    # per channel, of pixels in 0..1
    std = [0.229, 0.224, 0.225]
    interpolation = "bilinear"      # nearest, bilinear or bicubic

The value of a pixel is ``(pixel / 255 - mean) / std`` in float32.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from uqfc.errors import CalibrationError
from uqfc.numerics import F32

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
_LAYOUTS = ("nchw", "nhwc")
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocess:
    """How an image file becomes an input; see the module. Raises CalibrationError if malformed."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str = "rgb"
    layout: str = "nchw"
    resize: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        _one_of("color", self.color, tuple(_CHANNELS))
        _one_of("layout", self.layout, _LAYOUTS)
        _one_of("interpolation", self.interpolation, _INTERPOLATIONS)
        channels = _CHANNELS[self.color]
        sides = [*self.size] if self.resize is None else [*self.size, self.resize]
        if len(self.size) != 2 or not all(type(side) is int and side > 0 for side in sides):
            raise CalibrationError(
                f"preprocess: size {list(self.size)}, resize {self.resize}; "
                "accepted: size [height, width] and resize in pixels, positive integers"
            )
        if self.resize is not None and self.resize < max(self.size):
            raise CalibrationError(
                f"preprocess: resize {self.resize} is smaller than size {list(self.size)}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels or not np.isfinite(values).all():
                raise CalibrationError(
                    f"preprocess: {name} is {list(values)}; accepted: {channels} finite number(s), "
                    f"one for each channel of '{self.color}'"
                )
        if min(self.std) <= 0:
            raise CalibrationError(f"preprocess: std is {list(self.std)}; accepted: above 0")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        channels = _CHANNELS[self.color]
        return (channels, *self.size) if self.layout == "nchw" else (*self.size, channels)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> Preprocess:
        """From a parsed file; ``where`` names it in errors."""
        accepted = [f.name for f in fields(cls)]
        unknown = [key for key in values if key not in accepted]
        missing = [key for key in ("size", "mean", "std") if key not in values]
        if unknown or missing:
            raise CalibrationError(
                f"{where}: "
                + (f"unknown {', '.join(unknown)}; " if unknown else "")
                + (f"missing {', '.join(missing)}; " if missing else "")
                + f"accepted: {', '.join(accepted)} (size, mean and std are required)"
            )
        arguments: dict[str, Any] = dict(values)
        try:
            for key in ("size", "mean", "std"):
                arguments[key] = tuple(arguments[key])
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise CalibrationError(f"{where}: a field has a wrong type: {error}") from error
        except CalibrationError as error:
            raise CalibrationError(f"{where}: {error}") from error


def _one_of(field: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise CalibrationError(f"preprocess: {field} is {value!r}; accepted: {', '.join(accepted)}")


def load_preprocess(directory: Path) -> Preprocess:
    """The preprocessing that a directory of images states."""
    toml, as_json = directory / "preprocess.toml", directory / "preprocess.json"
    try:
        if toml.is_file():
            return Preprocess.from_mapping(tomllib.loads(toml.read_text("utf-8")), str(toml))
        if as_json.is_file():
            return Preprocess.from_mapping(json.loads(as_json.read_text("utf-8")), str(as_json))
    except ValueError as error:
        raise CalibrationError(f"{directory}: malformed preprocess file: {error}") from error
    raise CalibrationError(
        f"{directory}: how its images become inputs is not stated; write {toml} with size = "
        "[height, width], mean and std (of pixels in 0..1), and color and layout if they are not "
        "rgb and nchw"
    )


def read_images(
    directory: Path, shape: tuple[int, ...], dtype: np.dtype[Any], preprocess: Preprocess | None
) -> Iterator[F32]:
    """Each image of ``directory`` (not of its subdirectories), in the order of the file names.

    ``shape`` and ``dtype`` are those of one sample that the model takes: they are checked first.
    """
    how = preprocess or load_preprocess(directory)
    if how.shape != shape or dtype != np.float32:
        raise CalibrationError(
            f"{directory}: preprocessing gives float32 {list(how.shape)}; "
            f"the input of the model takes {dtype} {list(shape)} for a sample"
        )
    paths = sorted(p for p in directory.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise CalibrationError(
            f"{directory}: no images; accepted: files ending in {', '.join(sorted(SUFFIXES))}"
        )
    return (load_image(path, how) for path in paths)


def load_image(path: Path, how: Preprocess) -> F32:
    """One image file as a sample, ``how.shape``."""
    try:
        from PIL import Image  # noqa: PLC0415 - optional, only images need it
    except ImportError as error:
        raise CalibrationError(
            f"{path}: reading images needs pillow: pip install pillow (or give a .npz file)"
        ) from error
    height, width = how.size
    method = Image.Resampling[how.interpolation.upper()]
    try:
        with Image.open(path) as file:
            image = file.convert("L" if how.color == "gray" else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CalibrationError(f"{path}: not a readable image: {error}") from error
    if how.resize is None:
        image = image.resize((width, height), method)
    else:
        ratio = how.resize / min(image.size)
        wide, tall = (max(how.resize, round(side * ratio)) for side in image.size)
        left, top = (wide - width) // 2, (tall - height) // 2
        image = image.resize((wide, tall), method).crop((left, top, left + width, top + height))
    pixels = np.asarray(image, np.uint8).reshape(height, width, -1)
    if how.color == "bgr":
        pixels = pixels[:, :, ::-1]
    mean, std = np.asarray(how.mean, np.float32), np.asarray(how.std, np.float32)
    values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1) if how.layout == "nchw" else values)
