from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqfc_runtime.arrays import Span, address_of, as_inputs, overlap
from uqfc_runtime.info import DTYPES, TensorInfo

spans = st.tuples(st.integers(0, 30), st.integers(0, 10), st.booleans()).map(
    lambda span: (span[0], span[0] + span[1], span[2])
)


@given(st.lists(spans, max_size=6))
def test_overlaps_are_found_as_byte_by_byte(found: list[Span]) -> None:
    expected = any(
        (one[2] or other[2]) and set(range(*one[:2])) & set(range(*other[:2]))
        for i, one in enumerate(found)
        for other in found[:i]
    )
    assert overlap(found) == expected


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (3, 5)])
def test_address_of_any_array(shape: tuple[int, ...], writeable: bool) -> None:
    array = np.zeros(shape, np.int32)
    array.flags.writeable = writeable
    assert address_of(array) == array.ctypes.data


@pytest.mark.parametrize("value", [1.5, [[1.5, 2.5]], np.ones((4, 6), np.float32)[::2, ::3]])
def test_inputs_are_where_their_spans_say(value: Any) -> None:
    wanted = np.array(value, np.float32)
    tensor = TensorInfo("x", DTYPES["float32"], wanted.shape)
    value = wanted if not isinstance(value, np.ndarray) else value
    (array,), ((start, stop, written),) = as_inputs({"x": value}, [tensor])
    assert (start, stop - start, written) == (array.ctypes.data, wanted.nbytes, False)
    np.testing.assert_array_equal(array, wanted)
