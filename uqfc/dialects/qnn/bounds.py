"""What every op that makes ui8 values checks."""

from __future__ import annotations

from math import isfinite

from xdsl.utils.exceptions import VerifyException


def check_bounds(op: str, zero_point: int, qmin: int, qmax: int) -> None:
    """VerifyException unless the result can be ui8.

    The bounds need not hold the zero point: those of a fused ``clip(x, 1, 2)`` do not.
    """
    if not 0 <= qmin <= qmax <= 255:
        raise VerifyException(f"{op}: bounds {qmin}:{qmax} are not within 0:255")
    check_zero_point(op, zero_point)


def check_zero_point(op: str, zero_point: int) -> None:
    if not 0 <= zero_point <= 255:
        raise VerifyException(f"{op}: zero point {zero_point} is outside 0:255")


def check_scale(op: str, scale: float) -> None:
    if not isfinite(scale) or scale <= 0:
        raise VerifyException(f"{op}: scale {scale} is not finite and > 0")
