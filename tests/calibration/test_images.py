from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uqfc.calibration import Preprocess, iterate
from uqfc.errors import CalibrationError

Image = pytest.importorskip("PIL.Image")

TOML = """
size = [4, 6]
mean = [0.5, 0.25, 0.0]
std = [0.5, 0.25, 1.0]
"""
FIELDS: dict[str, Any] = {"size": (4, 6), "mean": (0.5, 0.25, 0.0), "std": (0.5, 0.25, 1.0)}


def write(path: Path, *shape: int) -> Any:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def read(directory: Path, *shape: int, **options: Any) -> list[Any]:
    return [batch["x"] for batch in iterate(directory, {"x": (shape, np.float32)}, **options)]


def test_pixels_are_normalised_as_stated(tmp_path: Path) -> None:
    (tmp_path / "preprocess.toml").write_text(TOML)
    (tmp_path / "notes.txt").write_text("not an image")
    second = write(tmp_path / "b.png", 4, 6, 3)
    first = write(tmp_path / "a.PNG", 4, 6, 3)
    images = read(tmp_path, 1, 3, 4, 6)
    mean, std = np.array([0.5, 0.25, 0], np.float32), np.array([0.5, 0.25, 1], np.float32)
    for image, pixels in zip(images, (first, second), strict=True):
        expected = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        assert image.dtype == np.float32
        assert np.array_equal(image[0], expected.transpose(2, 0, 1))


def test_layouts_and_colors(tmp_path: Path) -> None:
    pixels = write(tmp_path / "a.png", 4, 6, 3)
    plain: dict[str, Any] = {**FIELDS, "mean": (0, 0, 0), "std": (1, 1, 1)}
    unit = pixels.astype(np.float32) / np.float32(255)
    nhwc = read(tmp_path, 1, 4, 6, 3, preprocess=Preprocess(**plain, layout="nhwc"))
    assert np.array_equal(nhwc[0][0], unit)
    bgr = read(tmp_path, 1, 3, 4, 6, preprocess=Preprocess(**plain, color="bgr"))
    assert np.array_equal(bgr[0][0], unit[:, :, ::-1].transpose(2, 0, 1))


def test_gray_images_and_batches(tmp_path: Path) -> None:
    settings = {"size": [4, 6], "mean": [0], "std": [1], "color": "gray", "layout": "nhwc"}
    (tmp_path / "preprocess.json").write_text(json.dumps(settings))
    pixels = np.stack([write(tmp_path / f"{i}.png", 4, 6) for i in range(5)])
    data = iterate(tmp_path, {"x": ((2, 4, 6, 1), np.float32)})
    batches = np.concatenate([b["x"] for b in data])
    assert np.array_equal(batches[..., 0], pixels[:4].astype(np.float32) / np.float32(255))
    assert data.dropped == 1


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (33, 35)])
def test_the_centre_is_cut_out(shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    y, x = shape[0] // 2, shape[1] // 2
    pixels[y - 8 : y + 8, x - 8 : x + 8] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    how = Preprocess(
        (8, 8), (0, 0, 0), (1, 1, 1), layout="nhwc", resize=min(shape), interpolation="nearest"
    )
    assert np.array_equal(read(tmp_path, 1, 8, 8, 3, preprocess=how)[0], np.ones((1, 8, 8, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "rgba"}, "color is 'rgba'; accepted: rgb, bgr, gray"),
        ({"layout": "chwn"}, "layout is 'chwn'; accepted: nchw, nhwc"),
        ({"interpolation": "lanczos"}, "interpolation is"),
        ({"size": (4, 0)}, "positive integers"),
        ({"size": (4, 6, 3)}, "positive integers"),
        ({"size": (4.0, 6)}, "positive integers"),
        ({"resize": 5}, r"resize 5 is smaller than size \[4, 6\]"),
        ({"mean": (0.5,)}, r"mean is \[0.5\]; accepted: 3 finite number"),
        ({"std": (1, 0, 1)}, "std is .*; accepted: above 0"),
        ({"std": (1, float("nan"), 1)}, "3 finite number"),
    ],
)
def test_preprocessing_that_makes_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Preprocess(**{**FIELDS, **change})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("size = [4, 6]", "missing mean, std"),
        (TOML + "scale = 2", "unknown scale; accepted: size, mean"),
        ("size = ", "malformed preprocess file"),
        (TOML.replace("[4, 6]", "4"), "a field has a wrong type"),
        (TOML.replace("[4, 6]", '["4", "6"]'), "positive integers"),
        (TOML + 'color = "cmyk"', r"preprocess\.toml: preprocess: color is 'cmyk'"),
    ],
)
def test_malformed_preprocess_files(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "preprocess.toml").write_text(content)
    write(tmp_path / "a.png", 4, 6, 3)
    with pytest.raises(CalibrationError, match=message):
        read(tmp_path, 1, 3, 4, 6)


def test_directories_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"not stated; write .*preprocess\.toml"):
        read(tmp_path, 1, 3, 4, 6)
    (tmp_path / "preprocess.toml").write_text(TOML)
    with pytest.raises(CalibrationError, match=r"no images; accepted: .*\.jpg"):
        read(tmp_path, 1, 3, 4, 6)
    with pytest.raises(CalibrationError, match=r"gives float32 \[3, 4, 6\]; .* \[4, 6, 3\]"):
        read(tmp_path, 1, 4, 6, 3)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(CalibrationError, match=r"a\.png: not a readable image"):
        read(tmp_path, 1, 3, 4, 6)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preprocess.toml").write_text(TOML)
    write(tmp_path / "a.png", 4, 6, 3)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(CalibrationError, match="pip install pillow"):
        read(tmp_path, 1, 3, 4, 6)
