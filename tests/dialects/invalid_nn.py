"""One invalid op for each message of the ``nn`` dialect's verifiers."""

from __future__ import annotations

from tests.dialects.invalid import Invalid, f32, tensor

UNIT = "strides = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>"


def unary(function: str) -> str:
    return f"%r = nn.unary %0 {{fn = #nn.fn<{function}>}} : {f32(2)} -> {f32(2)}"


def conv(window: str, x: str = f32(1, 4, 4, 2), w: str = f32(3, 1, 1, 2), groups: int = 1) -> str:
    return (
        f"%r = nn.conv2d %0, %1 {{{window}, groups = {groups} : i64}} : {x}, {w}"
        f" -> {f32(1, 4, 4, 3)}"
    )


def pool(window: str, x: str = f32(1, 4, 4, 2)) -> str:
    return f"%r = nn.max_pool2d %0 {{{window}}} : {x} -> {f32(1, 4, 4, 2)}"


def interpolate(taps: str, weights: str, axis: int) -> str:
    return (
        f"%r = nn.interpolate %0, %1, %2 {{axis = {axis} : i64}} : "
        f"{f32(4)}, {taps}, {weights} -> {f32(4)}"
    )


IMAGE = [f32(1, 4, 4, 2), f32(3, 1, 1, 2)]

ATTRIBUTES = [
    Invalid("unknown function 'sqr'; known: abs, ", unary("sqr"), [f32(2)]),
    Invalid("function 'clip' takes 2 parameter(s), got 1", unary("clip, 0.0"), [f32(2)]),
]

COMMON = [
    Invalid(
        f"result type is {f32(3)}, expected {f32(2)}",
        f"%r = nn.unary %0 {{fn = #nn.fn<relu>}} : {f32(2)} -> {f32(3)}",
        [f32(2)],
    ),
    Invalid(
        "expected a tensor, got f32", "%r = nn.unary %0 {fn = #nn.fn<relu>} : f32 -> f32", ["f32"]
    ),
    Invalid(
        "expected a static shape, got tensor<?xi32>",
        "%r = nn.cast %0 : tensor<?xf32> -> tensor<?xi32>",
        ["tensor<?xf32>"],
    ),
    Invalid(
        "element type f16 has no run-time representation",
        f"%r = nn.cast %0 : {f32(2)} -> {tensor(2, element='f16')}",
        [f32(2)],
    ),
]

ELEMENTWISE = [
    Invalid(
        "nn.unary takes float32",
        f"%r = nn.unary %0 {{fn = #nn.fn<relu>}} : {tensor(2, element='i32')}"
        f" -> {tensor(2, element='i32')}",
        [tensor(2, element="i32")],
    ),
    Invalid(
        "nn.add: operands have different element types",
        f"%r = nn.add %0, %1 : {f32(2)}, {tensor(2, element='i32')} -> {f32(2)}",
        [f32(2), tensor(2, element="i32")],
    ),
    Invalid(
        "shapes [(2,), (3,)] do not broadcast",
        f"%r = nn.add %0, %1 : {f32(2)}, {f32(3)} -> {f32(3)}",
        [f32(2), f32(3)],
    ),
    Invalid(
        "unknown predicate 'is'; known: eq, ne, ",
        f'%r = nn.compare %0, %0 {{predicate = "is"}} : {f32(2)}, {f32(2)}'
        f" -> {tensor(2, element='i1')}",
        [f32(2)],
    ),
    Invalid(
        "nn.select: the condition must be i1",
        f"%r = nn.select %0, %0, %0 : {f32(2)}, {f32(2)}, {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "nn.select: the branches have different element types",
        f"%r = nn.select %0, %1, %2 : {tensor(2, element='i1')}, {f32(2)}, "
        f"{tensor(2, element='i32')} -> {f32(2)}",
        [tensor(2, element="i1"), f32(2), tensor(2, element="i32")],
    ),
]

LAYERS = [
    Invalid(
        "conv2d takes rank 4, got input (4, 4, 2) and weight (3, 1, 1, 2)",
        conv(UNIT, x=f32(4, 4, 2)),
        [f32(4, 4, 2), f32(3, 1, 1, 2)],
    ),
    Invalid(
        "conv2d takes 2 strides, 4 paddings and 2 dilations",
        conv(UNIT.replace("1, 1>", "1>", 1)),
        IMAGE,
    ),
    Invalid(
        "conv2d: negative padding",
        conv(UNIT.replace("0, 0, 0, 0", "0, -1, 0, 0")),
        IMAGE,
    ),
    Invalid(
        "conv2d: weight (3, 1, 1, 2) does not fit 2 channels in 2 groups",
        conv(UNIT, groups=2),
        IMAGE,
    ),
    Invalid(
        "strides and dilations must be >= 1",
        conv(UNIT.replace("strides = array<i64: 1, 1>", "strides = array<i64: 0, 1>")),
        IMAGE,
    ),
    Invalid(
        "window of 5 exceeds the padded input of axis 1",
        conv(UNIT, w=f32(3, 5, 1, 2)),
        [f32(1, 4, 4, 2), f32(3, 5, 1, 2)],
    ),
    Invalid(
        "nn.conv2d: bias is (2,), expected (3,)",
        f"%r = nn.conv2d %0, %1 bias %2 : {f32(2)} {{{UNIT}, groups = 1 : i64}} : "
        f"{IMAGE[0]}, {IMAGE[1]} -> {f32(1, 4, 4, 3)}",
        [*IMAGE, f32(2)],
    ),
    Invalid(
        "nn.linear: residual is (3,), expected (2, 3)",
        f"%r = nn.linear %0, %1 residual %2 : {f32(3)} : {f32(2, 4)}, {f32(3, 4)} -> {f32(2, 3)}",
        [f32(2, 4), f32(3, 4), f32(3)],
    ),
    Invalid(
        "linear: weight (3, 5) does not fit input (2, 4)",
        f"%r = nn.linear %0, %1 : {f32(2, 4)}, {f32(3, 5)} -> {f32(2, 3)}",
        [f32(2, 4), f32(3, 5)],
    ),
    Invalid(
        "matmul: (2, 3) and (2, 3) do not fit",
        f"%r = nn.matmul %0, %0 : {f32(2, 3)}, {f32(2, 3)} -> {f32(2, 3)}",
        [f32(2, 3)],
    ),
    Invalid(
        "nn.matmul takes float32",
        f"%r = nn.matmul %0, %1 : {f32(2, 2)}, {tensor(2, 2, element='i32')} -> {f32(2, 2)}",
        [f32(2, 2), tensor(2, 2, element="i32")],
    ),
]

MOVEMENT = [
    Invalid(
        "nn.reshape: (2, 3) does not hold (5,)",
        f"%r = nn.reshape %0 : {f32(2, 3)} -> {f32(5)}",
        [f32(2, 3)],
    ),
    Invalid(
        "nn.transpose: (0, 0) does not permute rank 2",
        f"%r = nn.transpose %0 {{permutation = array<i64: 0, 0>}} : {f32(2, 3)} -> {f32(2, 2)}",
        [f32(2, 3)],
    ),
    Invalid("nn.concat: no inputs", f"%r = nn.concat {{axis = 0 : i64}} : -> {f32(2)}"),
    Invalid(
        "nn.concat: inputs have different element types",
        f"%r = nn.concat %0, %1 {{axis = 0 : i64}} : {f32(2)}, {tensor(2, element='i32')}"
        f" -> {f32(4)}",
        [f32(2), tensor(2, element="i32")],
    ),
    Invalid(
        "nn.concat: axis 1 is outside rank 1",
        f"%r = nn.concat %0 {{axis = 1 : i64}} : {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "nn.concat: shapes [(2, 3), (2, 4)] differ outside axis 0",
        f"%r = nn.concat %0, %1 {{axis = 0 : i64}} : {f32(2, 3)}, {f32(2, 4)} -> {f32(4, 3)}",
        [f32(2, 3), f32(2, 4)],
    ),
    Invalid(
        "nn.slice: starts, steps and shapes must have the same rank",
        f"%r = nn.slice %0 {{starts = array<i64: 0, 0>, steps = array<i64: 1>}} : {f32(2)}"
        f" -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "nn.slice: axis 0 reads outside its 2",
        f"%r = nn.slice %0 {{starts = array<i64: 1>, steps = array<i64: 1>}} : {f32(2)}"
        f" -> {f32(2)}",
        [f32(2)],
    ),
    *(
        Invalid(
            message,
            f"%r = nn.pad %0 {{low = array<i64: {low}>, high = array<i64: 0>, "
            f'mode = "{mode}", value = 0.0 : f32}} : {f32(2)} -> {f32(2)}',
            [f32(2)],
        )
        for message, low, mode in (
            ("nn.pad: low and high must have the operand's rank", "0, 0", "constant"),
            ("nn.pad: negative padding", "-1", "constant"),
            ("nn.pad: unknown mode 'mirror'; known: constant, ", "0", "mirror"),
        )
    ),
    Invalid(
        "nn.broadcast: (2,) does not broadcast to (1,)",
        f"%r = nn.broadcast %0 : {f32(2)} -> {f32(1)}",
        [f32(2)],
    ),
    Invalid(
        "nn.gather: indices must be i32 or i64",
        f"%r = nn.gather %0, %0 {{axis = 0 : i64}} : {f32(2)}, {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "nn.gather: axis 1 is outside rank 1",
        f"%r = nn.gather %0, %1 {{axis = 1 : i64}} : {f32(2)}, {tensor(2, element='i64')}"
        f" -> {f32(2)}",
        [f32(2), tensor(2, element="i64")],
    ),
    Invalid(
        "nn.cast: from i1 to i1",
        f"%r = nn.cast %0 : {tensor(2, element='i1')} -> {tensor(2, element='i1')}",
        [tensor(2, element="i1")],
    ),
]

WINDOW = f"kernel = array<i64: 1, 1>, {UNIT}"

REDUCTIONS = [
    Invalid("pooling takes rank 4, got (4, 2)", pool(WINDOW, x=f32(4, 2)), [f32(4, 2)]),
    Invalid(
        "pooling takes 2 kernel sizes, 2 strides, 4 paddings, 2 dilations",
        pool(WINDOW.replace("1, 1>", "1>", 1)),
        [IMAGE[0]],
    ),
    Invalid(
        "pooling: kernel must be >= 1 and padding >= 0",
        pool(WINDOW.replace("1, 1>", "1, 0>", 1)),
        [IMAGE[0]],
    ),
    Invalid(
        "nn.reduce: unknown kind 'l2'; known: sum, ",
        f'%r = nn.reduce %0 {{kind = "l2", axes = array<i64: 0>}} : {f32(2)} -> {f32(1)}',
        [f32(2)],
    ),
    Invalid(
        "axes (0, 0) are not distinct sorted axes of rank 1",
        f'%r = nn.reduce %0 {{kind = "sum", axes = array<i64: 0, 0>}} : {f32(2)} -> {f32(1)}',
        [f32(2)],
    ),
    Invalid(
        "nn.softmax takes float32",
        f"%r = nn.softmax %0 {{axis = 0 : i64}} : {tensor(2, element='i32')}"
        f" -> {tensor(2, element='i32')}",
        [tensor(2, element="i32")],
    ),
    Invalid(
        "nn.softmax: axis is outside the operand's rank",
        f"%r = nn.softmax %0 {{axis = 1 : i64}} : {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "nn.layer_norm: scale and bias must match the last dimensions",
        f"%r = nn.layer_norm %0, %1, %1 {{epsilon = 1.0 : f32}} : {f32(2, 3)}, {f32(2)}, {f32(2)}"
        f" -> {f32(2, 3)}",
        [f32(2, 3), f32(2)],
    ),
    Invalid(
        "nn.lrn: size must be >= 1",
        f"%r = nn.lrn %0 {{size = 0 : i64, alpha = 1.0 : f32, beta = 1.0 : f32, bias = 1.0 : f32}}"
        f" : {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "nn.interpolate: indices and weights must be [n, T]",
        interpolate(tensor(4, element="i64"), f32(4), 0),
        [f32(4), tensor(4, element="i64"), f32(4)],
    ),
    Invalid(
        "nn.interpolate: axis is outside the operand's rank",
        interpolate(tensor(4, 1, element="i64"), f32(4, 1), 1),
        [f32(4), tensor(4, 1, element="i64"), f32(4, 1)],
    ),
]


def opaque(operands: str, call: int, types: str) -> str:
    properties = f"call = {call} : i64, index = 0 : i64, shape = array<i64: 2>"
    return f'%r = opaque.call "path" {operands} {{{properties}}} : {types} -> {f32(2)}'


OPAQUE = [
    Invalid("opaque.call: no inputs", opaque("", 0, "")),
    Invalid("opaque.call: call and index are counted from 0", opaque("%0", -1, f32(2)), [f32(2)]),
]

CASES = [*ATTRIBUTES, *COMMON, *ELEMENTWISE, *LAYERS, *MOVEMENT, *OPAQUE, *REDUCTIONS]
