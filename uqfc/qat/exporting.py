"""Writing a trained model as a UQR file: what is compiled is what was evaluated."""

from __future__ import annotations

from pathlib import Path

from uqfc.codegen.artifact import write_atomically
from uqfc.errors import UqfcError
from uqfc.qat.model import QatModel


def export(qat_model: QatModel, path: str | Path) -> None:
    """Write the model, with its present parameters, as a UQR file: an ONNX model in QDQ form.

    Compiling the file gives a network whose outputs are those of ``qat_model.eval()``, to the bit.
    The file appears when it is complete. UqfcError for a model that was not captured, or a path
    that cannot be written.
    """
    if not isinstance(qat_model, QatModel):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(qat_model).__name__
        raise UqfcError(f"export takes a model of prepare_qat, got {kind}")
    where = Path(path)
    write_atomically({where: [qat_model.to_uqr(where.name.partition(".")[0])]})
