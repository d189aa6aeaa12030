"""What the import of a PyTorch program gives."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from uqfc.errors import UnsupportedNode


@dataclass(frozen=True)
class LayerOrigin:
    """The parameters of one ``nn.conv2d`` or ``nn.linear``, by their names in the state dict.

    ``weight`` is [O, I, kh, kw] or [O, I, k] where the op's weight is OHWI (of a height of 1), and
    [N, K] as the op's for ``nn.linear``. ``batch_norm`` is the path of the module that normalises
    the layer's result, if nothing else reads that.
    """

    weight: str
    bias: str | None = None
    batch_norm: str | None = None


@dataclass(frozen=True)
class TorchNetwork:
    """A program as ``nn`` ops, and where its constants come from.

    ``layers``: by the ``layer`` attribute of the op; a module that is called twice gives two layers
    of the same parameters. A layer whose weight or bias is computed is not among them.
    ``parameters``: those that are used in another way, with the calls that use them; the module
    holds them as constants.
    """

    module: ModuleOp
    layers: dict[str, LayerOrigin]
    parameters: dict[str, str]


@dataclass(frozen=True)
class UnsupportedCall(UnsupportedNode):
    """A call that cannot be imported; ``module`` is the path of the module that makes it."""

    module: str
    module_type: str
