"""NumPy's names for arrays that are put together, taken apart and brought into another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensordsl.contraction import contract
from tensordsl.dims import AnySize, divide
from tensordsl.errors import ShapeError, UnsupportedError
from tensordsl.expr import Expr, brief, operation
from tensordsl.functions import norms
from tensordsl.functions.arranging import concatenate, moveaxis, ravel, reshape, swapaxes
from tensordsl.functions.convert import as_expr, axis_numbers, mismatch, one_axis, plain
from tensordsl.functions.multilinear import diag, diagonal, trace
from tensordsl.functions.numpy_names import along, broadcast_arrays, known_length, means, whole_number
from tensordsl.functions.operators import add, broadcast_to, matmul, multiply, subtract
from tensordsl.labels import singles

# --- parts put together, and taken apart --------------------------------------------------------------------------


def several(arrays: Any, what: str) -> list[Expr]:
    if not isinstance(arrays, tuple | list) or not arrays:
        raise UnsupportedError(f"{what} takes a list of tensors, as in {what}([x, y]); given was {arrays!r}.")
    return [as_expr(array) for array in arrays]


def _each(function: Callable[[Expr], Expr], arrays: Sequence[object]) -> Any:
    found = tuple(function(as_expr(array)) for array in arrays)
    return found[0] if len(found) == 1 else found


def _at_least_2d(node: Expr) -> Expr:
    return node[(None,) * (2 - node.ndim)] if node.ndim < 2 else node


def _at_least_3d(node: Expr) -> Expr:
    return _at_least_2d(node)[..., None] if node.ndim < 3 else node


@means("atleast_1d")
def atleast_1d(*arys: object) -> Any:
    """With an axis where there is none."""
    return _each(lambda node: node[None] if node.ndim == 0 else node, arys)


@means("atleast_2d")
def atleast_2d(*arys: object) -> Any:
    """With axes of size one in front, so that there are two."""
    return _each(_at_least_2d, arys)


@means("atleast_3d")
def atleast_3d(*arys: object) -> Any:
    """With axes of size one, so that there are three."""
    return _each(_at_least_3d, arys)


@means("vstack", "row_stack")
def vstack(tup: Sequence[Any]) -> Expr:
    """One below the other; a vector is a row."""
    return concatenate([_at_least_2d(node) for node in several(tup, "vstack")], 0)


@means("hstack")
def hstack(tup: Sequence[Any]) -> Expr:
    """Side by side; vectors one after the other."""
    nodes = [atleast_1d(node) for node in several(tup, "hstack")]
    return concatenate(nodes, 0 if nodes[0].ndim == 1 else 1)


@means("dstack")
def dstack(tup: Sequence[Any]) -> Expr:
    """Along the third axis."""
    return concatenate([_at_least_3d(node) for node in several(tup, "dstack")], 2)


@means("column_stack")
def column_stack(tup: Sequence[Any]) -> Expr:
    """Side by side; a vector is a column."""
    nodes = [atleast_1d(node) for node in several(tup, "column_stack")]
    return concatenate([node[:, None] if node.ndim == 1 else node for node in nodes], 1)


@means("append")
def append(arr: object, values: object, axis: int | None = None) -> Expr:
    """Values after the others, along an axis; all entries in their order for None."""
    if axis is None:
        return concatenate([ravel(arr), ravel(values)])
    return concatenate([arr, values], axis)


@means("meshgrid")
def meshgrid(*xi: object, indexing: str = "xy") -> tuple[Expr, ...]:
    """The coordinates of a grid, each repeated along the axes of the others."""
    if indexing not in ("xy", "ij"):
        raise UnsupportedError(f"meshgrid with indexing={indexing!r}: expected 'xy' or 'ij'.")
    nodes = [ravel(as_expr(x)) for x in xi]
    order = [1, 0, *range(2, len(nodes))] if indexing == "xy" and len(nodes) > 1 else list(range(len(nodes)))
    keys = [tuple(slice(None) if axis == place else None for axis in order) for place in range(len(nodes))]
    return broadcast_arrays(*[node[key] for node, key in zip(nodes, keys, strict=True)])


@means("split", "array_split")
def split(ary: object, indices_or_sections: Any, axis: int = 0) -> list[Expr]:
    """Parts along an axis: so many of one length, or cut at the places given."""
    node = as_expr(ary)
    place = one_axis(axis, node, "split")
    length = node.shape[place]
    if isinstance(indices_or_sections, tuple | list | np.ndarray):
        cuts: list[Any] = list(indices_or_sections)
    else:
        sections = whole_number(indices_or_sections, "split")
        part = divide(length, sections) if sections > 0 else None
        if part is None:
            raise mismatch(
                f"split: axis {place} of size {length} does not split into {sections} parts of one length.",
                [(node, True)],
                "Give the places to cut at, as in np.split(x, [2, 5]).",
            )
        cuts = [part * n for n in range(1, sections)]
    lead = (slice(None),) * place
    return [node[(*lead, slice(start, stop))] for start, stop in zip([None, *cuts], [*cuts, None], strict=True)]


@means("vsplit")
def vsplit(ary: object, indices_or_sections: Any) -> list[Expr]:
    """Parts along the first axis."""
    return split(ary, indices_or_sections, 0)


@means("hsplit")
def hsplit(ary: object, indices_or_sections: Any) -> list[Expr]:
    """Parts along the second axis, of a vector along its own."""
    node = as_expr(ary)
    return split(node, indices_or_sections, 1 if node.ndim > 1 else 0)


@means("dsplit")
def dsplit(ary: object, indices_or_sections: Any) -> list[Expr]:
    """Parts along the third axis."""
    return split(ary, indices_or_sections, 2)


@means("unstack")
def unstack(x: object, *, axis: int = 0) -> tuple[Expr, ...]:
    """The slices along an axis."""
    node = moveaxis(x, axis, 0)
    return tuple(node[place] for place in range(known_length(moveaxis(node, 0, -1), "unstack")))


# --- entries in another order -------------------------------------------------------------------------------------


@means("flip")
def flip(m: object, axis: Any = None) -> Expr:
    """The entries in reverse order along the axes named, all of them for None."""
    node = as_expr(m)
    axes = axis_numbers(axis, node, "flip")
    return node[tuple(slice(None, None, -1 if place in axes else 1) for place in range(node.ndim))]  # type: ignore[no-any-return]


@means("flipud")
def flipud(m: object) -> Expr:
    """The rows in reverse order."""
    return flip(m, 0)


@means("fliplr")
def fliplr(m: object) -> Expr:
    """The columns in reverse order."""
    return flip(m, 1)


@means("rot90")
def rot90(m: object, k: int = 1, axes: Any = (0, 1)) -> Expr:
    """Turned by a right angle, k times, from the first of two axes towards the second."""
    node = as_expr(m)
    first, second = axis_numbers(axes, node, "rot90")
    turns = whole_number(k, "rot90") % 4
    if turns == 2:
        return flip(node, (first, second))
    if turns:
        node = (
            swapaxes(flip(node, second), first, second) if turns == 1 else flip(swapaxes(node, first, second), second)
        )
    return node


@means("roll")
def roll(a: object, shift: Any, axis: Any = None) -> Expr:
    """The entries moved along an axis, those beyond its end put first; all entries in their order for None."""
    node = as_expr(a)
    if axis is None:
        return reshape(roll(ravel(node), shift, 0), node.shape)
    places = axis_numbers(axis, node, "roll")
    shifts = shift if isinstance(shift, tuple | list) else [shift] * len(places)
    if len(shifts) != len(places):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(places)} axes; give one for each.")
    for place, by in zip(places, shifts, strict=True):
        node = _rolled(node, whole_number(by, "roll"), place)
    return node


def _rolled(node: Expr, by: int, place: int) -> Expr:
    length = node.shape[place]
    by = by % length if isinstance(length, int) and length else by
    if by == 0 or length == 0:
        return node
    lead = (slice(None),) * place
    return concatenate([node[(*lead, slice(-by, None))], node[(*lead, slice(None, -by))]], place)


@operation("take")
@means("take")
def take(a: object, indices: Any, axis: int | None = None) -> Expr:
    """The entries at places along an axis, among all entries in their order for None."""
    node = ravel(a) if axis is None else as_expr(a)
    place = 0 if axis is None else one_axis(axis, node, "take")
    return node[(*(slice(None),) * place, indices)]  # type: ignore[no-any-return]


@means("delete")
def delete(arr: object, obj: Any, axis: int | None = None) -> Expr:
    """Without the entries at places along an axis, among all entries in their order for None."""

    def without(node: Expr) -> Expr:
        try:
            places = obj if isinstance(obj, slice) else np.asarray(obj)
            kept = np.delete(np.arange(known_length(node, "delete")), places)
        except (IndexError, ValueError, TypeError) as error:
            raise UnsupportedError(f"delete from {brief(node)}: {error}.") from None
        return node[..., kept]  # type: ignore[no-any-return]

    return along(without, arr, axis, "delete")


@operation("repeat")
@means("repeat")
def repeat(a: object, repeats: Any, axis: int | None = None) -> Expr:
    """Each entry several times along an axis, of all entries in their order for None."""
    times = whole_number(repeats, "repeat")

    def repeated(node: Expr) -> Expr:
        spread = broadcast_to(node[..., None], (*node.shape, times))
        return reshape(spread, (*node.shape[:-1], node.shape[-1] * times))

    return along(repeated, a, axis, "repeat")


@means("tile")
def tile(A: object, reps: Any) -> Expr:
    """The whole several times along each axis."""
    node = as_expr(A)
    counts = [whole_number(count, "tile") for count in (reps if isinstance(reps, tuple | list) else (reps,))]
    rank = max(node.ndim, len(counts))
    counts = [1] * (rank - len(counts)) + counts
    node = node[(None,) * (rank - node.ndim)] if rank > node.ndim else node
    key = tuple(k for _ in range(rank) for k in (None, slice(None)))
    spread: list[AnySize] = [part for pair in zip(counts, node.shape, strict=True) for part in pair]
    if not rank:
        return node
    return reshape(
        broadcast_to(node[key], tuple(spread)), [count * size for count, size in zip(counts, node.shape, strict=True)]
    )


@means("linspace")
def linspace(start: object, stop: object, num: int = 50, endpoint: bool = True, *, axis: int = 0) -> Expr:
    """Numbers at one distance from each other, from `start` to `stop`."""
    first, last = broadcast_arrays(start, stop)
    parts = as_expr(np.linspace(0.0, 1.0, whole_number(num, "linspace"), endpoint=bool(endpoint)))
    parts = parts[(slice(None), *(None,) * first.ndim)]
    return moveaxis(add(first, multiply(parts, subtract(last, first))), 0, axis)


@means("diagflat")
def diagflat(v: object, k: int = 0) -> Expr:
    """The diagonal matrix of all entries in their order."""
    return diag(ravel(v), k)


# --- matrices -----------------------------------------------------------------------------------------------------


@means("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(x: object) -> Expr:
    """Each matrix of a stack transposed."""
    return swapaxes(x, -1, -2)


@means("linalg.trace")
def trace_of_last(x: object, *, offset: int = 0) -> Expr:
    """The trace of each matrix of a stack."""
    return trace(x, offset, -2, -1)


@means("linalg.diagonal")
def diagonal_of_last(x: object, *, offset: int = 0) -> Expr:
    """The diagonal of each matrix of a stack."""
    return diagonal(x, offset, -2, -1)


@means("linalg.multi_dot")
def multi_dot(arrays: Sequence[Any]) -> Expr:
    """The product of several matrices; the program finds the best order."""
    value, *rest = several(arrays, "multi_dot")
    for node in rest:
        value = matmul(value, node)
    return value


@means("linalg.vector_norm")
def vector_norm(x: object, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Expr:
    """The norm of all entries, or along the axes named."""
    node = as_expr(x)
    places = axis_numbers(axis, node, "vector_norm")
    if ord == 2 and len(places) == node.ndim and not keepdims:
        return norms.norm(node)
    kept = [place for place in range(node.ndim) if place not in places]
    flat = contract(1, [(node, plain(node))], (*singles(kept), places), dict(enumerate(node.shape)))
    found = norms.norm(flat, ord=ord, axis=-1)
    if not keepdims:
        return found
    return found[tuple(None if place in places else slice(None) for place in range(node.ndim))]  # type: ignore[no-any-return]


@means("linalg.matrix_norm")
def matrix_norm(x: object, *, keepdims: bool = False, ord: Any = "fro") -> Expr:
    """The norm of each matrix of a stack."""
    return norms.norm(x, ord=ord, axis=(-2, -1), keepdims=keepdims)
