"""Export torchvision's architectures to ONNX, with seeded random weights.

    python -m tests.models.torchvision_models --cache DIR

No pretrained weights are needed: batch normalisation is given random scales and shifts, and
variances measured on noise images, so that activations neither vanish nor explode, logits differ
between images, and rounding errors are not amplified: comparing INT8 with float then means
something.
Each model takes `image`, float32 [batch, 3, 224, 224], and returns `logits`, [batch, 1000].
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tests.models.catalog import (
    TORCHVISION_INPUT_SHAPE,
    TORCHVISION_NAMES,
    model_cache,
    noise_images,
)

__all__ = ["build", "export", "export_all"]

OPSET = 17
CALIBRATION_BATCH = 16
CALIBRATION_SEED = 7
LOGIT_DEVIATION = 2.0
RESIDUAL_SCALE = 0.3

# torchvision's Python files refer to these operators when imported; a CPU build of torch
# may be unable to load the library that defines them. The classifiers use none of them.
_UNUSED_OPERATORS = (
    "nms",
    "qnms",
    "roi_align",
    "_roi_align_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
)


def _declare_unused_operators() -> torch.library.Library:
    """Declare what importing torchvision looks up; the result must outlive the import."""
    library = torch.library.Library("torchvision", "DEF")
    for name in _UNUSED_OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
    return library


_LIBRARY = _declare_unused_operators()

from torchvision import models as tv  # noqa: E402 - after the declarations above
from torchvision.models import efficientnet as tv_efficientnet  # noqa: E402


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0: B0 without squeeze-excitation, with ReLU6 for SiLU.

    4,652,008 parameters, as in the TensorFlow TPU repository's `efficientnet/lite`. The
    other Lite rules (stem and head not scaled) do not matter at Lite0's scale of 1.
    """
    row = partial(
        tv_efficientnet.MBConvConfig,
        block=partial(tv_efficientnet.MBConv, se_layer=nn.Identity),
    )
    rows = [
        row(1, 3, 1, 32, 16, 1),
        row(6, 3, 2, 16, 24, 2),
        row(6, 5, 2, 24, 40, 2),
        row(6, 3, 2, 40, 80, 3),
        row(6, 5, 1, 80, 112, 3),
        row(6, 5, 2, 112, 192, 4),
        row(6, 3, 1, 192, 320, 1),
    ]
    model = tv_efficientnet.EfficientNet(
        rows,
        dropout=0.2,
        last_channel=1280,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
    )
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.SiLU):
                setattr(parent, name, nn.ReLU6(inplace=True))
    return model


_ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2": tv.mobilenet_v2,
    "mobilenet_v3_small": tv.mobilenet_v3_small,
    "mobilenet_v3_large": tv.mobilenet_v3_large,
    "resnet18": tv.resnet18,
    "resnet50": tv.resnet50,
    "efficientnet_lite0": efficientnet_lite0,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """Build the model `name`, one of `TORCHVISION_NAMES`, ready for inference.

    Raises:
        KeyError: no such model.
    """
    architecture = _ARCHITECTURES[name]
    torch.manual_seed(seed)
    model = architecture()
    images = noise_images(CALIBRATION_BATCH, CALIBRATION_SEED, TORCHVISION_INPUT_SHAPE[-1])
    _measure_statistics(model, torch.from_numpy(images))
    _spread_logits(model, torch.from_numpy(images))
    return model


def _measure_statistics(model: nn.Module, images: Tensor) -> None:
    """Draw each normalisation's scale and shift, and measure the power of what it normalises.

    The means stay 0: normalisations that centre make a deep random network chaotic (G. Yang et
    al., "A Mean Field Theory of Batch Normalization", ICLR 2019), so that its logits would show
    amplified rounding errors. For the same reason residual branches are small, as in training.
    """
    hooks: list[RemovableHandle] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
            hooks.append(module.register_forward_pre_hook(_measure_power))
    for module in model.modules():
        if getattr(module, "use_res_connect", False):
            last = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)][-1]
            last.weight.data.mul_(RESIDUAL_SCALE)
            last.bias.data.mul_(RESIDUAL_SCALE)
    model.eval()
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()


def _measure_power(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Set a normalisation's variance to its input's mean square, before it is applied."""
    assert isinstance(module, nn.BatchNorm2d)
    assert module.running_var is not None
    module.running_var.copy_(inputs[0].square().mean((0, 2, 3)))


def _spread_logits(model: nn.Module, images: Tensor) -> None:
    """Draw the linear layers, and make the logits' deviation about 2."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for linear in linears:
            nn.init.kaiming_normal_(linear.weight)
            nn.init.normal_(linear.bias, std=0.1)
        scale = LOGIT_DEVIATION / model(images).std()
        linears[-1].weight.mul_(scale)
        linears[-1].bias.mul_(scale)


def export(name: str, cache: Path) -> Path:
    """Write `cache/<name>.onnx`, opset 17, unless it is there; returns its path.

    BatchNormalization nodes are kept (TrainingMode.PRESERVE), in inference mode.
    """
    path = cache / f"{name}.onnx"
    if path.is_file():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on deprecation and on PRESERVE
        torch.onnx.export(
            build(name),
            (torch.zeros(TORCHVISION_INPUT_SHAPE),),
            str(partial_path),
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    partial_path.replace(path)
    return path


def export_all(cache: Path | None = None) -> dict[str, Path]:
    """Export what `cache` (default: `model_cache()`) lacks; returns all paths by name."""
    directory = model_cache() if cache is None else cache
    return {name: export(name, directory) for name in TORCHVISION_NAMES}


def main() -> None:
    """Export all models, or those named."""
    parser = argparse.ArgumentParser(description="Export torchvision's architectures to ONNX.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TORCHVISION_NAMES))
    parser.add_argument("--cache", type=Path, default=model_cache(), metavar="DIR")
    arguments = parser.parse_args()
    for name in arguments.names or TORCHVISION_NAMES:
        print(export(name, arguments.cache))


if __name__ == "__main__":
    main()
