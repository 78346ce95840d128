"""Results made small enough to be compared between processes: projections on vectors that every process knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

LENGTH = 4096  # numbers that are left of an array; one that has no more is compared entry by entry


def weights(count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=count)


def act(array: Any) -> np.ndarray:
    """A sparse array of two axes or more, times a vector on the last: repeated entries add up. Columns come first."""
    *rows, last = array.tocoo().coords
    vector = weights(array.shape[-1])
    place = np.ravel_multi_index(tuple(rows), array.shape[:-1], order="F")
    return np.bincount(place, array.tocoo().data * vector[last], minlength=np.prod(array.shape[:-1]))


def dense_parts(result: Any) -> Iterator[np.ndarray]:
    """The arrays that a result of any framework consists of."""
    if isinstance(result, tuple | list):
        for part in result:
            yield from dense_parts(part)
    elif sp.issparse(result):
        yield act(result)
    elif hasattr(result, "todense"):  # a structured value
        yield np.asarray(result.todense())
    else:
        yield np.asarray(result.detach() if hasattr(result, "detach") else result)


def fold(array: np.ndarray) -> np.ndarray:
    """Slab by slab, for a copy of the whole would take as much memory as the whole."""
    if array.size <= LENGTH:
        return array.ravel()
    if array.ndim > 1:
        line = np.zeros(array.size // len(array))
        for slab, weight in zip(array, weights(len(array)), strict=True):
            line += weight * slab.ravel()
        return fold(line)
    rows = -(-array.size // LENGTH)
    padded = np.zeros(rows * LENGTH)
    padded[: array.size] = array
    return weights(rows) @ padded.reshape(rows, LENGTH)


def digest(result: Any) -> dict[str, Any]:
    parts = list(dense_parts(result))
    return {"shapes": [list(part.shape) for part in parts], "values": [fold(part).tolist() for part in parts]}


def nbytes(result: Any) -> int:
    """Of the dense arrays in it: what a memory allocator has to find."""
    if isinstance(result, tuple | list):
        return sum(map(nbytes, result))
    return int(getattr(result, "nbytes", 0))


def difference(ours: dict[str, Any], reference: dict[str, Any]) -> str | None:
    """What two digests do not agree in, in words."""
    if ours["shapes"] != reference["shapes"]:
        return f"its shape is {ours['shapes']}, not {reference['shapes']}"
    for our, their in zip(ours["values"], reference["values"], strict=True):
        scale = np.linalg.norm(their) + 1e-300
        error = np.linalg.norm(np.subtract(our, their)) / scale
        if not error < 1e-6:  # nan is an error, too
            return f"differs from the reference by {error:.1e}"
    return None
