"""Gradients of a depthwise convolution of float32 images [N, H, W, C], in one pass over them.

``uqf_depthwise_gradient(g, x, weight, dx, dweight, *window.PARAMETERS, first, last)``
    channels ``first`` to ``last`` (of whole vectors, but for the end) of ``dx`` [N, H, W, C] and
    ``dweight`` [kh, kw, C]; ``g`` [N, H', W', C], ``weight`` [kh, kw, C].

Libraries take longest for the small images and many channels of a network's end, where a window is
larger than the image; here taps outside the image cost nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import Isa
from uqfc.codegen.jit import compile_object, load
from uqfc.codegen.kernels.window import PARAMETERS, taps_inside
from uqfc.codegen.vector import LANES, Pointer, Value

NAME = "uqf_depthwise_gradient"
POINTERS = ("g", "x", "weight", "dx", "dweight")
SIZES = (*PARAMETERS, "first", "last")


@lru_cache(maxsize=8)
def depthwise_gradient(isa: Isa) -> Any:
    """The function on this machine, which keeps its code alive."""
    module = new_module(isa, "depthwise_gradient")
    parameters = {**dict.fromkeys(POINTERS, "ptr"), **dict.fromkeys(SIZES, "i64")}
    b = Builder.function(module, isa, NAME, internal=False, returns=None, **parameters)
    Emitter(b).run()
    code = load(compile_object(module, isa), [NAME])
    return code.function(NAME, *parameters.values())


class Emitter:
    """The loops: images, blocks of channels, output pixels, taps inside the image."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.p = {name: b.pointer(name) for name in POINTERS}
        self.n = {name: b.value(name) for name in SIZES}

    def run(self) -> None:
        b, n = self.b, self.n
        rest = n["last"] & (LANES - 1)
        whole = n["last"] - rest
        taps = n["kernel_height"] * n["kernel_width"]
        self.clear(self.p["dweight"], b.i64(0), taps)
        # An image after the other: one stays in a cache while all blocks of channels visit it.
        with b.loop(0, n["batch"]) as image:
            pixels = n["height"] * n["width"]
            self.clear(self.p["dx"], image * pixels, pixels)
            with b.loop(n["first"], whole, LANES) as channel:
                self.block(image, channel, None)
            with b.when(rest.ne(0)):
                self.block(image, whole, rest)
        b.ret()

    def clear(self, target: Pointer, first: Value, rows: Value) -> None:
        """Zero the channels of some rows."""
        b, n = self.b, self.n
        rest = n["last"] & (LANES - 1)
        whole = n["last"] - rest
        zero = b.f32(0.0, LANES)
        with b.loop(first, first + rows) as row:
            with b.loop(n["first"], whole, LANES) as channel:
                self.store(target, row * n["channels"] + channel, zero, None)
            with b.when(rest.ne(0)):
                self.store(target, row * n["channels"] + whole, zero, rest)

    def block(self, image: Value, channel: Value, count: Value | None) -> None:
        """One image's share for the channels from ``channel`` on: a vector, or ``count`` of one."""
        b, n = self.b, self.n
        row = n["width"] * n["channels"]
        with b.loop(0, n["out_height"]) as y, b.loop(0, n["out_width"]) as x:
            place = ((image * n["out_height"] + y) * n["out_width"] + x) * n["channels"]
            g = self.load(self.p["g"], place + channel, count)
            first_y, stop_y, top = taps_inside(b, "y", y, dilated=True)
            first_x, stop_x, left = taps_inside(b, "x", x, dilated=True)
            with b.loop(first_y, stop_y) as ky, b.loop(first_x, stop_x) as kx:
                line = image * n["height"] + top + ky * n["dilation_y"]
                at = line * row + (left + kx * n["dilation_x"]) * n["channels"] + channel
                tap = (ky * n["kernel_width"] + kx) * n["channels"] + channel
                moved = self.load(self.p["dx"], at, count)
                weight = self.load(self.p["weight"], tap, count)
                self.store(self.p["dx"], at, moved + g * weight, count)
                total = self.load(self.p["dweight"], tap, count)
                pixel = self.load(self.p["x"], at, count)
                self.store(self.p["dweight"], tap, total + g * pixel, count)

    def load(self, source: Pointer, element: Value, count: Value | None) -> Value:
        if count is None:
            return source.load_f32(element * 4)
        return source.load_first("f32", count, element * 4)

    def store(self, target: Pointer, element: Value, value: Value, count: Value | None) -> None:
        if count is None:
            target.store(value, element * 4)
        else:
            target.store_first(value, count, element * 4)
