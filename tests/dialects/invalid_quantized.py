"""One invalid op for each message of the verifiers of ``quant``, ``qnn`` and ``qkernel``."""

from __future__ import annotations

from tests.dialects.invalid import Invalid, f32, tensor
from tests.dialects.invalid_nn import UNIT

U8 = "u8:f32, 0.5:3"


def quantized(parameters: str, *shape: int) -> str:
    return tensor(*shape, element=f"!quant.uniform<{parameters}>")


def qcast(parameters: str, shape: tuple[int, ...] = (2, 4)) -> str:
    return f"%r = quant.qcast %0 : {f32(*shape)} -> {quantized(parameters, *shape)}"


QUANT = [
    *(
        Invalid(message, qcast(parameters), [f32(2, 4)])
        for message, parameters in (
            ("unknown storage type 'u3'; known: u8, ", "u3:f32, 0.5"),
            ("range 3:3 is not within u8's 0:255", "u8<3:3>:f32, 0.5:3"),
            ("scales must be finite float32 values > 0", "u8:f32, 0.0"),
            ("f8E4M3FN has its whole range and zero point 0", "f8E4M3FN<-240:240>:f32, 0.5"),
            ("f8E5M2 has its whole range and zero point 0", "f8E5M2:f32, 0.5:1"),
            ("f8E5M2 has no scales per block", "f8E5M2:f32:{1:4}, {0.5, 0.5}"),
            ("zero points must be within 1:255", "u8<1:255>:f32, 0.5"),
            ("axis and block must not be negative", "u8:f32:-1, {0.5}"),
            ("axis 2 is outside rank 2", "u8:f32:2, {0.5}"),
            ("1 scales for shape (2, 4), expected 2", "u8:f32:0, {0.5}"),
        )
    ),
    Invalid(
        "quant.qcast takes float32",
        f"%r = quant.qcast %0 : {tensor(2, element='i32')} -> {quantized(U8, 2)}",
        [tensor(2, element="i32")],
    ),
    Invalid(
        "expected quantized elements, got f32",
        f"%r = quant.qcast %0 : {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "quant.scast: neither side is quantized",
        f"%r = quant.scast %0 : {f32(2)} -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "quant.scast: storage is i8, expected ui8",
        f"%r = quant.scast %0 : {tensor(2, element='i8')} -> {quantized(U8, 2)}",
        [tensor(2, element="i8")],
    ),
    Invalid(
        "quant.observe takes float32",
        f'%r = quant.observe %0 {{point = "p"}} : {tensor(2, element="i32")}'
        f" -> {tensor(2, element='i32')}",
        [tensor(2, element="i32")],
    ),
]


def linear(
    epilogue: str = "0, 0:255, 0:1.0, 1.0",
    x: str = "ui8",
    weight: str = "i8",
    addend: int = 3,
    result: str = "ui8",
    residual: str = "",
) -> tuple[str, list[str]]:
    """A ``qnn.linear`` and the types of its operands."""
    types = [
        tensor(2, 4, element=x),
        tensor(3, 4, element=weight),
        tensor(3, element="i32"),
        tensor(addend, element="i32"),
        f32(3),
    ]
    extra = f" residual %5 : {residual}" if residual else ""
    op = (
        f"%r = qnn.linear %0, %1, %2, %3, %4{extra} {{x_zero_point = 0 : i64, "
        f"epilogue = #qnn.epilogue<{epilogue}>}} : {', '.join(types)}"
        f" -> {tensor(2, 3, element=result)}"
    )
    return op, [*types, residual] if residual else types


BYTES = tensor(2, element="ui8")
BOUNDS = "lhs_zero_point = 0 : i64, rhs_zero_point = 0 : i64, zero_point = {}, qmin = 0 : i64"


def add(zero_point: int, element: str) -> str:
    kind = tensor(2, element=element)
    return (
        f"%r = qnn.add %0, %0 {{{BOUNDS.format(f'{zero_point} : i64')}, qmax = 255 : i64, "
        f"lhs_multiplier = 1.0 : f32, rhs_multiplier = 1.0 : f32}} : {kind}, {kind} -> {BYTES}"
    )


def avg_pool(element: str, multipliers: int) -> tuple[str, list[str]]:
    kind = tensor(1, 4, 4, 2, element=element)
    op = (
        f"%r = qnn.avg_pool2d %0, %1 {{kernel = array<i64: 2, 2>, {UNIT}, x_zero_point = 0 : i64, "
        f"zero_point = 0 : i64, qmin = 0 : i64, qmax = 255 : i64}} : {kind}, {f32(multipliers)}"
        f" -> {tensor(1, 3, 3, 2, element='ui8')}"
    )
    return op, [kind, f32(multipliers)]


QNN = [
    *(
        Invalid(message, *linear(epilogue))
        for message, epilogue in (
            ("epilogue: bounds 10:9 are not within 0:255", "9, 10:9, 0:1.0, 1.0"),
            (
                "epilogue's residual: zero point 256 is outside 0:255",
                "0, 0:255, 256:1.0, 1.0",
            ),
            ("epilogue: factors must be finite float32 values", "0, 0:255, 0:0.1, 1.0"),
            ("expected #nn.fn<…>", "0, 0:255, 0:1.0, 1.0, #qkernel.packing<panels, s8, 16, 1, 1>"),
            (
                "epilogue: activation must be one of relu, ",
                "0, 0:255, 0:1.0, 1.0, #nn.fn<tanh>",
            ),
        )
    ),
    Invalid("qnn.linear: activations must be ui8", *linear(x="i8")),
    Invalid("qnn.linear: weights must be i8, ui8, i4, ui4, ui2 or i16", *linear(weight="i32")),
    Invalid("qnn.linear: addend is tensor<2xi32>, expected tensor<3xi32>", *linear(addend=2)),
    Invalid("qnn.linear: result must be ui8, f32 or i32", *linear(result="i8")),
    Invalid("qnn.linear: residual must be ui8", *linear(residual=f32(2, 3))),
    Invalid(
        "qnn.quantize takes float32",
        f"%r = qnn.quantize %0 {{scale = 1.0 : f32, zero_point = 0 : i64, qmin = 0 : i64, "
        f"qmax = 255 : i64}} : {BYTES} -> {BYTES}",
        [BYTES],
    ),
    Invalid(
        "qnn.dequantize takes ui8 or i32",
        f"%r = qnn.dequantize %0 {{scale = 1.0 : f32, zero_point = 0 : i64}} : {f32(2)}"
        f" -> {f32(2)}",
        [f32(2)],
    ),
    Invalid(
        "qnn.matmul takes ui8",
        f"%r = qnn.matmul %0, %0 {{lhs_zero_point = 0 : i64, rhs_zero_point = 0 : i64}} : "
        f"{f32(2, 2)}, {f32(2, 2)} -> {tensor(2, 2, element='i32')}",
        [f32(2, 2)],
    ),
    Invalid("qnn.add takes ui8", add(0, "i8"), [tensor(2, element="i8")]),
    Invalid("qnn.add: zero point 256 is outside 0:255", add(256, "ui8"), [BYTES]),
    Invalid(
        "qnn.dequantize: scale 0.0 is not finite and > 0",
        f"%r = qnn.dequantize %0 {{scale = 0.0 : f32, zero_point = 0 : i64}} : {BYTES} -> {f32(2)}",
        [BYTES],
    ),
    Invalid("qnn.avg_pool2d takes ui8", *avg_pool("i8", 1)),
    Invalid("qnn.avg_pool2d: one multiplier, or one per count of elements", *avg_pool("ui8", 3)),
    Invalid(
        "qnn.lookup takes ui8 and a table of 256 ui8",
        f"%r = qnn.lookup %0, %0 : {BYTES}, {BYTES} -> {BYTES}",
        [BYTES],
    ),
]


FLOATS = tensor(2, element="f8E4M3FN")


def float8_linear(
    x: str = "f8E4M3FN",
    multiplier: int = 3,
    bias: str = "f32",
    scale: str = "0.5",
    result: str = "f8E4M3FN",
) -> tuple[str, list[str]]:
    """A ``qnn.float8_linear`` and the types of its operands."""
    types = [tensor(2, 4, element=x), tensor(3, 4, element="f8E5M2"), f32(multiplier)]
    extra = tensor(3, element=bias)
    op = (
        f"%r = qnn.float8_linear %0, %1, %2 bias %3 : {extra} {{scale = {scale} : f32}} : "
        f"{', '.join(types)} -> {tensor(2, 3, element=result)}"
    )
    return op, [*types, extra]


FLOAT8 = [
    Invalid("expected elements f8E4M3FN or f8E5M2, got ui8", *float8_linear(x="ui8")),
    Invalid(
        "qnn.float8_linear: multiplier is tensor<2xf32>, expected tensor<3xf32>",
        *float8_linear(multiplier=2),
    ),
    Invalid("qnn.float8_linear: bias and residual must be float32", *float8_linear(bias="i32")),
    Invalid("qnn.float8_linear: scale 0.0 is not finite and > 0", *float8_linear(scale="0.0")),
    Invalid("expected elements f8E4M3FN or f8E5M2, got f32", *float8_linear(result="f32")),
    Invalid(
        "qnn.float8_quantize takes float32",
        f"%r = qnn.float8_quantize %0 {{scale = 1.0 : f32}} : {BYTES} -> {FLOATS}",
        [BYTES],
    ),
    Invalid(
        "expected elements f8E4M3FN or f8E5M2, got ui8",
        f"%r = qnn.float8_dequantize %0 {{scale = 1.0 : f32}} : {BYTES} -> {f32(2)}",
        [BYTES],
    ),
]


def unpack(
    packing: str = "panels, s8, 16, 1, 1", packed: str = BYTES, weight: str = "i8", zero: int = 3
) -> tuple[str, list[str]]:
    op = (
        f"%r, %z = qkernel.unpack %0 {{packing = #qkernel.packing<{packing}>}} : {packed}"
        f" -> {tensor(3, 4, element=weight)}, {tensor(zero, element='i32')}"
    )
    return op, [packed]


def launch(
    operands: str = f"%0 : {f32(2)}",
    result: str = f" -> {f32(2)}",
    argument: str = f32(2),
    end: str = f"qkernel.yield %a : {f32(2)}",
    attributes: str = "",
) -> str:
    name = "%r = " if result else ""
    body = f"{{\n^bb0(%a: {argument}):\n{end}\n}}"
    return f"{name}qkernel.launch {operands}{result} {body}{attributes}"


def view(offset: int) -> str:
    return (
        "%a = qkernel.arena : memref<128xui8>\n"
        f"%r = qkernel.view %a {{offset = {offset} : i64}} : memref<128xui8> -> memref<16xf32>"
    )


QKERNEL = [
    Invalid("unknown packing 'tiles'; known: panels, ", *unpack("tiles, s8, 16, 1, 1")),
    Invalid("unknown storage 's4'; known: s8, ", *unpack("panels, s4, 16, 1, 1")),
    Invalid("packing: panel, groups and segments must be >= 1", *unpack("panels, s8, 0, 1, 1")),
    Invalid("qkernel.unpack takes a rank-1 tensor of ui8", *unpack(packed=f32(2))),
    Invalid("qkernel.unpack: weights must be i8", *unpack(weight="i16")),
    Invalid("qkernel.unpack: there must be one i32 zero point per channel", *unpack(zero=2)),
    Invalid(
        "a kernel takes tensors and memrefs, not f32",
        launch("%0 : f32", argument="f32", end="qkernel.yield %a : f32"),
        ["f32"],
    ),
    Invalid("qkernel.launch has one result or one `into` operand", launch(result=""), [f32(2)]),
    Invalid(
        "qkernel.launch: block arguments do not match the operands",
        launch(argument=f32(3), end=f"qkernel.yield %a : {f32(3)}"),
        [f32(2)],
    ),
    Invalid(
        "qkernel.launch: the body must end with qkernel.yield",
        launch(end='"test.termop"() : () -> ()'),
        [f32(2)],
    ),
    Invalid(
        f"qkernel.launch yields {f32(2)}, expected {f32(3)}",
        launch(result=f" -> {f32(3)}"),
        [f32(2)],
    ),
    Invalid(
        "qkernel.launch: chosen_by must be one of model, measured",
        launch(attributes=' {chosen_by = "chance"}'),
        [f32(2)],
    ),
    Invalid(
        "qkernel.launch: pitches are one for each operand and the result",
        launch(attributes=" {pitches = array<i64: 2>}"),
        [f32(2)],
    ),
    Invalid(
        "qkernel.launch: rows of (2,) are only 1 apart",
        launch(attributes=" {pitches = array<i64: 1, 0>}"),
        [f32(2)],
    ),
    Invalid(
        "qkernel.launch: memref<2xf32, strided<[2]>> is not of rows 0 apart",
        launch("%0 : memref<2xf32, strided<[2]>>"),
        ["memref<2xf32, strided<[2]>>"],
    ),
    Invalid("qkernel.view reaches outside the arena", view(128)),
    Invalid("qkernel.view: offset is not a multiple of 4", view(33)),
]

CASES = [*QUANT, *QNN, *FLOAT8, *QKERNEL]
