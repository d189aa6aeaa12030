"""From QDQ to UQR and back: the graph stays as it is, the document comes or goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from onnx import ModelProto

from uqfc.dialects.quant import STORAGE_RANGES
from uqfc.errors import ModelError, UqfcError, UqrError
from uqfc.frontend.loading import parse_model, prepare
from uqfc.frontend.uqr.describe import Notes, describe
from uqfc.frontend.uqr.document import Document
from uqfc.frontend.uqr.facts import facts_of
from uqfc.frontend.uqr.meaning import KEY, meaning_of
from uqfc.frontend.uqr.text import dump_document
from uqfc.frontend.uqr.writer import PRODUCER, attach, serialized


class Format(StrEnum):
    """ONNX files with quantized weights and activations."""

    QDQ = "qdq"
    UQR = "uqr"


@dataclass(frozen=True)
class Converted:
    """A model as ``format``; ``lost`` are tensors whose narrower range plain QDQ cannot say."""

    data: bytes
    format: Format
    lost: tuple[str, ...] = ()


def read_proto(model: str | Path | bytes) -> tuple[ModelProto, str, Path | None]:
    """A model's message, its name in messages, and where its external data are."""
    if isinstance(model, bytes):
        return parse_model(model, "model"), "model", None
    try:
        data = Path(model).read_bytes()
    except OSError as error:
        raise ModelError(f"{model}: cannot be read: {error.strerror}") from None
    return parse_model(data, str(model)), str(model), Path(model).parent


def read_uqr(model: str | Path | bytes) -> Document:
    """The document of a UQR model, which was compared with its graph.

    Raises ModelError if the file is damaged, UqrError if there is no document or it is wrong.
    """
    proto, source, directory = read_proto(model)
    document = meaning_of(prepare(proto, source, directory), source).document
    if document is None:
        why = (
            f"no metadata property '{KEY}'; accepted: UQR models (`uqfc convert` makes them of QDQ)"
        )
        raise UqrError(f"{source}: {why}")
    return document


def convert_uqr(model: str | Path | bytes, to: str | None = None) -> Converted:
    """A QDQ model as UQR, or the reverse; ``to`` is ``uqr`` or ``qdq``, by default the other one.

    Raises ModelError for a damaged file, UqrError for a wrong document and for a model without
    quantized tensors.
    """
    accepted = ", ".join(Format)
    if to is not None and to not in list(Format):
        raise UqfcError(f"format '{to}' is unknown; accepted: {accepted}")
    proto, source, directory = read_proto(model)
    loaded = prepare(proto, source, directory)
    meaning = meaning_of(loaded, source)
    is_uqr = meaning.document is not None
    target = Format(to) if to is not None else Format.QDQ if is_uqr else Format.UQR
    facts = facts_of(loaded, source)
    if not facts:
        raise UqrError(f"{source}: no quantized tensors; accepted: models in QDQ form")
    lost: list[str] = []
    if target == Format.QDQ:
        attach(proto, None)
        for fact in facts:
            narrow = meaning.limits.get(fact.tensor, STORAGE_RANGES[fact.storage])
            if fact.values is None and narrow != STORAGE_RANGES[fact.storage]:
                lost.append(fact.tensor)
    elif not is_uqr:
        document = describe(loaded, Notes(), provenance={"producer": PRODUCER}, source=source)
        attach(proto, dump_document(document))
    return Converted(serialized(proto, source), target, tuple(lost))
