"""Arrays that a caller gives for results: checked, and known again when the same function has filled them before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import combinations, product
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from tensordsl.errors import BindError, show_shape


class Filled(NamedTuple):
    """Who filled which part of the memory of an array last."""

    owner: weakref.ref[Any]
    part: tuple[Any, ...]
    ends: tuple[int, int]
    token: object


_filled: dict[int, Filled] = {}  # by the array that owns the memory; an entry goes with its array
_lock = Lock()


def check_out(arrays: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    """`BindError` where an array cannot take its result."""
    if len(arrays) != len(shapes):
        raise BindError(f"out= takes one array for each of the {len(shapes)} results; given were {len(arrays)}.")
    for place, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
        which = "out" if len(arrays) == 1 else f"out[{place}]"
        if type(array) is not np.ndarray:
            raise BindError(f"{which} is a {type(array).__name__}; expected a NumPy array, np.empty({shape}).")
        if array.shape != shape:
            raise BindError(
                f"{which} has the shape {show_shape(array.shape)}; expected {show_shape(shape)}, that of the result. "
                f"Give np.empty({shape})."
            )
        if not array.flags.writeable:
            raise BindError(f"{which} is read-only. Give an array that may be written.")


def stored(
    plan: Callable[[], Callable[..., Any]], direct: Sequence[Callable[..., Any]] | None
) -> Callable[[Sequence[Any], Sequence[Any]], None]:
    """A function that leaves results in arrays: `run(arrays, data)`.

    `direct` are two programs that write there, one whatever the arrays hold, one where it has filled them before. Where
    there are none, or arrays share memory with data, new results of `plan()` are copied.
    """
    token = object()  # of the zeros that these programs leave, in each of their results others
    copied: list[Callable[..., Any]] = []

    def run(arrays: Sequence[Any], values: Sequence[Any]) -> None:
        if direct is None or overlapping(arrays, values):
            if not copied:
                copied.append(plan())
            store(copied[0](*values), arrays)
            return
        filled = all(filled_by(array) == (token, place) for place, array in enumerate(arrays))
        for array in arrays:
            forget(array)
        direct[filled](*values, *arrays)
        for place, array in enumerate(arrays):
            remember(array, (token, place))

    return run


def store(values: Any, arrays: Sequence[Any]) -> None:
    """Copy results into the arrays, where their types allow that."""
    for value, array in zip(values if isinstance(values, tuple) else (values,), arrays, strict=True):
        forget(array)
        dtype = np.asarray(value).dtype
        if not np.can_cast(dtype, array.dtype, "same_kind"):
            raise BindError(
                f"out has the dtype {array.dtype}; the result, of {dtype}, does not fit. "
                f"Give np.empty(..., np.{dtype})."
            )
        array[...] = value


def overlapping(arrays: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether writing an array may change data, another array, or another entry of itself."""
    pairs = [*product(arrays, values), *combinations(arrays, 2)]
    return any(np.may_share_memory(*pair) for pair in pairs) or any(
        stride == 0 for array in arrays for stride, size in zip(array.strides, array.shape, strict=True) if size > 1
    )


def remember(array: Any, token: object) -> None:
    """Note who filled an array."""
    owner = _owner(array)
    key = id(owner)
    with _lock:
        _filled[key] = Filled(weakref.ref(owner, lambda _: _filled.pop(key, None)), _part(array), _ends(array), token)


def forget(array: Any) -> None:
    """Note that an array holds something else now, or will if a write is broken off."""
    first, end = _ends(array)
    with _lock:
        for key, found in list(_filled.items()):  # other arrays may be of the same memory, as np.frombuffer makes them
            if key == id(_owner(array)) or (first < found.ends[1] and found.ends[0] < end):
                _filled.pop(key, None)


def filled_by(array: Any) -> object | None:
    """Who filled exactly this part of the memory last."""
    found = _filled.get(id(_owner(array)))
    known = found is not None and found.owner() is _owner(array) and found.part == _part(array)
    return found.token if found is not None and known else None


def _owner(array: Any) -> Any:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _part(array: Any) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def _ends(array: Any) -> tuple[int, int]:
    """The addresses between which an array lies."""
    first = end = array.__array_interface__["data"][0]
    for stride, size in zip(array.strides, array.shape, strict=True):
        first, end = first + min(0, stride * (size - 1)), end + max(0, stride * (size - 1))
    return first, end + array.itemsize
