"""Names, parameters and refusals of the import of PyTorch programs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from tests.frontend.torch.exported import core, expected, export, normal, run
from uqfc.dialects import nn
from uqfc.errors import ModelError, UnsupportedError
from uqfc.passes.support.rewriting import constant_of

torch = pytest.importorskip("torch")

from uqfc.frontend.torch import LayerOrigin, import_torch, unsupported_modules  # noqa: E402

F = torch.nn.functional


def strings(module: ModuleOp, attribute: str) -> list[str]:
    (function,) = module.ops
    assert isinstance(function, FuncOp)
    values: Any = function.attributes[attribute]
    return [each.data for each in values]


class Unsupported(torch.nn.Module):
    """Ops that there is nothing for, one after another, and one whose result nobody uses."""

    class Inner(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.fft.rfft(x).abs()

    def __init__(self) -> None:
        super().__init__()
        self.inner = self.Inner()

    def forward(self, x: Any) -> Any:
        x.sort()
        return self.inner(x.topk(2)[0]), F.relu(x), x + torch.rand(4)


def test_every_unsupported_call_is_listed_with_its_module() -> None:
    program = export(Unsupported(), [normal(0, 2, 4)])
    with pytest.raises(UnsupportedError) as caught:
        import_torch(program, "network")
    message = str(caught.value)
    assert message.startswith("network: 3 unsupported node(s)")
    assert "aten.topk.default 'topk': no converter for this op" in message
    found = unsupported_modules(program)
    assert list(caught.value.nodes) == found
    assert [(call.op, call.module) for call in found] == [
        ("aten.topk.default", ""),
        ("aten._fft_r2c.default", "inner"),
        ("aten.rand.default", ""),
    ]
    assert found[1].module_type.endswith("Unsupported.Inner")


def test_arguments_that_are_not_known_are_refused() -> None:
    program = export(lambda x: F.gelu(x).round(decimals=2), [normal(0, 2, 4)])
    with pytest.raises(UnsupportedError, match="rounding to decimals"):
        import_torch(program)


def test_dynamic_shapes_are_refused() -> None:
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(torch.nn.ReLU(), (normal(0, 2, 4),), dynamic_shapes=sizes)
    with pytest.raises(UnsupportedError, match="dimension 0 is dynamic"):
        import_torch(program)


def test_modules_in_training_are_refused() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2)).train()
    program = torch.export.export(module, (normal(0, 2, 1, 4, 4),))
    with pytest.raises(UnsupportedError, match=r"writes to '1\.running_mean'.*eval mode"):
        import_torch(program)


def test_inconsistent_values_name_the_call() -> None:
    program = export(lambda x: F.embedding(torch.tensor([7]), x), [normal(0, 2, 4)])
    with pytest.raises(ModelError, match=r"aten\.embedding\.default 'embedding': an index"):
        import_torch(program)


class Structured(torch.nn.Module):
    """Results in a structure, an input among them, one of them twice, and one that is none."""

    def forward(self, x: Any, others: dict[str, Any]) -> Any:
        y = x + others["a"]
        return {"sum": y, "parts": [y * 2, None, others["b"]]}, x, y


def test_inputs_and_outputs_have_names() -> None:
    x, a, b = (normal(seed, 2, 3) for seed in range(3))
    module = Structured()
    program = torch.export.export(module, (x, {"a": a, "b": b}))
    network = import_torch(program)
    assert strings(network.module, "input_names") == ["x", "others_a", "others_b"]
    assert strings(network.module, "output_names") == [
        "output_0.sum",
        "output_0.parts.0",
        "output_0.parts.2",
        "output_1",
        "output_2",
    ]
    for ours, theirs in zip(
        run(network.module, [x, a, b]), (x + a, (x + a) * 2, b, x, x + a), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs.numpy())
    single = import_torch(export(torch.nn.ReLU(), [x]))
    assert strings(single.module, "output_names") == ["output"]


class Shared(torch.nn.Module):
    """A layer that is called twice, weights that are computed, and parameters of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = torch.nn.Linear(4, 4)
        normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4))
        self.computed = normed
        self.matrix = torch.nn.Parameter(normal(1, 4, 4))
        self.scale = torch.nn.Parameter(normal(2, 4))
        self.unused = torch.nn.Parameter(normal(3, 4))

    def forward(self, x: Any) -> Any:
        x = self.computed(self.twice(torch.tanh(self.twice(x))))
        return (x @ self.matrix.t() + x @ self.matrix) * self.scale


def test_parameters_are_those_of_layers_or_listed() -> None:
    x = normal(0, 2, 4)
    network = import_torch(export(Shared(), [x]))
    twice = LayerOrigin("twice.weight", "twice.bias")
    assert network.layers == {
        "twice": twice,
        "twice#2": twice,
        "matmul": LayerOrigin("matrix"),
    }
    weight = "computed.parametrizations.weight"
    assert network.parameters == {
        "computed.bias": "aten.linear.default 'computed'",
        f"{weight}.original0": f"aten._weight_norm.default '{weight}.0'",
        f"{weight}.original1": f"aten._weight_norm.default '{weight}.0'",
        "matrix": "aten.matmul.default 'matmul#2'",
        "scale": "aten.mul.Tensor 'mul'",
    }


class Normalised(torch.nn.Module):
    """Batch norms that follow a layer alone, beside another reader, and on another axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1)
        self.bn = torch.nn.BatchNorm2d(3)
        self.read = torch.nn.Conv1d(3, 3, 1, bias=False)
        self.read_bn = torch.nn.BatchNorm1d(3)
        self.rows = torch.nn.Linear(4, 3)
        self.rows_bn = torch.nn.BatchNorm1d(3)

    def forward(self, x: Any) -> Any:
        y = self.bn(self.conv(x)).flatten(2)
        z = self.read(y)
        rows = self.rows(z.unflatten(2, (-1, 4)).mean(2))
        return self.read_bn(z) + z, self.rows_bn(rows), self.bn(self.conv(x))


def test_batch_norms_belong_to_the_layer_that_only_they_read() -> None:
    network = import_torch(export(Normalised(), [normal(0, 2, 2, 2, 4)]))
    conv = LayerOrigin("conv.weight", "conv.bias", "bn")
    assert network.layers == {
        "conv": conv,
        "read": LayerOrigin("read.weight"),
        "rows": LayerOrigin("rows.weight", "rows.bias"),
        "conv#2": conv,
    }
    assert set(network.parameters) == {
        f"{norm}.{name}"
        for norm in ("read_bn", "rows_bn")
        for name in ("weight", "bias", "running_mean", "running_var")
    }


@pytest.mark.parametrize("form", [lambda program: program, core])
def test_the_weights_of_layers_are_their_parameters(form: Any) -> None:
    """In the layouts that ``LayerOrigin`` documents, whichever ops torch has for a layer."""
    module = torch.nn.Sequential(
        torch.nn.Conv1d(2, 4, 3, groups=2),
        torch.nn.Unflatten(1, (2, 2)),
        torch.nn.Conv2d(2, 6, (1, 2), bias=False),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * 2 * 3, 5),
    )
    network = import_torch(form(export(module, [normal(0, 1, 2, 6)])))
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    layers = [op for op in network.module.walk() if isinstance(op, nn.Conv2dOp | nn.LinearOp)]
    assert [op.layer for op in layers] == ["0", "2", "4"]
    for op in layers:
        origin = network.layers[op.layer]
        weight, bias = state[origin.weight], None if origin.bias is None else state[origin.bias]
        weight = weight[:, :, None] if weight.ndim == 3 else weight
        weight = weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else weight
        np.testing.assert_array_equal(constant_of(op.weight), weight)
        assert (op.bias is None) == (bias is None)
        if op.bias is not None:
            np.testing.assert_array_equal(constant_of(op.bias), bias)


def test_what_is_written_through_views_is_seen() -> None:
    def function(x: Any) -> Any:
        y = x * 2
        view = y.view(-1)
        view[:3].relu_()
        F.hardtanh_(view, -0.5, 0.5)
        y.t()[0] += 1
        return y

    x = normal(0, 3, 4)
    ours = run(import_torch(export(function, [x])).module, [x])
    np.testing.assert_array_equal(ours[0], expected(function, [x])[0])


def test_wider_and_narrower_types_are_noted() -> None:
    module = torch.nn.Linear(3, 2).double()
    network = import_torch(export(module, [normal(0, 1, 3).double()]))
    assert strings(network.module, "retyped") == [
        "input input: float64 as f32",
        "constants: float64 as f32",
        "output output: float64 as f32",
    ]


def test_an_import_twice_is_the_same() -> None:
    program = export(Shared(), [normal(0, 2, 4)])
    assert str(import_torch(program).module) == str(import_torch(program).module)


def test_only_this_frontend_imports_torch() -> None:
    code = "import sys, uqfc, uqfc.frontend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
