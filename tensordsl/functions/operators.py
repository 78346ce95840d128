"""The operators of Python on expressions: NumPy's meanings, broadcasting included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensordsl.contraction import add_terms, contract, gathered, scale
from tensordsl.dims import AnySize, Shape, Size
from tensordsl.errors import ShapeError, UnsupportedError, show_shape
from tensordsl.expr import Expr, Select, brief, operation, operations
from tensordsl.functions.convert import as_expr, check_position, mismatch, plain
from tensordsl.functions.record import public
from tensordsl.labels import Group, Groups, singles


def broadcast_shape(operands: Sequence[Expr], what: str) -> Shape:
    """The common shape of operands by NumPy's rule: aligned at the right, size 1 goes with any size."""
    ndim = max(operand.ndim for operand in operands)
    shape: list[AnySize] = [1] * ndim
    for operand in operands:
        offset = ndim - operand.ndim
        for place, size in enumerate(operand.shape):
            if size == 1 or size == shape[offset + place]:
                continue
            if shape[offset + place] != 1:
                raise mismatch(
                    f"{what}: the sizes {shape[offset + place]} and {size} on axis {place - operand.ndim} "
                    "do not go together.",
                    [(o, o is operand) for o in operands],
                    "Sizes must be equal, or one of them 1; add an axis with x[:, None] or transpose one operand.",
                    (shape[offset + place], size),
                )
            shape[offset + place] = size
    return tuple(shape)


def aligned(node: Expr, shape: Shape) -> Groups:
    """The slots of `node` where it is broadcast to `shape`, labelled 0, 1, ...; an axis of size one has no label."""
    offset = len(shape) - node.ndim
    return tuple(
        () if size == 1 and shape[offset + place] != 1 else (offset + place,) for place, size in enumerate(node.shape)
    )


def broadcast_to(node: Expr, shape: Shape) -> Expr:
    """`node` repeated along the axes that it lacks: labels only, nothing is copied."""
    if node.shape == shape:
        return node
    return contract(1, [(node, aligned(node, shape))], singles(range(len(shape))), dict(enumerate(shape)))


def expand_dims(node: Expr, axis: int) -> Expr:
    """A new axis of size one at the place `axis`: no label at all."""
    output = [(place,) for place in range(node.ndim)]
    groups: Groups = (*output[:axis], (), *output[axis:])
    return contract(1, [(node, plain(node))], groups, dict(enumerate(node.shape)))


@operation("add")
@public(np.add)
def add(a: object, b: object) -> Expr:
    """The sum a + b, broadcast: out[i,j] = a[i,j] + b[i,j].

    Raises `ShapeError` where the shapes do not broadcast. Derivative: the identity by each.

    >>> import tensordsl as td
    >>> A, x = td.matrix("A", 2, 3), td.vector("x", 3)
    >>> print(td.add(A, x))
    A[i,j] + x[j] -> [i,j]
    """
    return add_all([as_expr(a), as_expr(b)])


def add_all(operands: Sequence[Expr]) -> Expr:
    shape = broadcast_shape(operands, "Cannot add")
    return add_terms([broadcast_to(operand, shape) for operand in operands], shape)


@operation("subtract")
@public(np.subtract)
def subtract(a: object, b: object) -> Expr:
    """The difference a - b, broadcast: out[i,j] = a[i,j] - b[i,j].

    Raises `ShapeError` where the shapes do not broadcast. Derivative: the identity by a, its negative by b.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.subtract(x, x) == td.zeros(3)
    True
    """
    return add_all([as_expr(a), scale(-1, as_expr(b))])


@operation("negative")
@public(np.negative)
def negative(a: object) -> Expr:
    """The negative: out[i] = -a[i]. Derivative: -δ[i,k].

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.negative(x) == -x == 0 - x
    True
    """
    return scale(-1, as_expr(a))


@operation("multiply")
@public(np.multiply)
def multiply(a: object, b: object) -> Expr:
    """The Hadamard product a * b, broadcast: out[i,j] = a[i,j] * b[i,j].

    Raises `ShapeError` where the shapes do not broadcast. Derivative: the other factor on shared labels.

    >>> import tensordsl as td
    >>> A, x = td.matrix("A", 2, 3), td.vector("x", 3)
    >>> print(td.multiply(A, x))
    A[i,j]*x[j] -> [i,j]
    """
    return multiply_all([as_expr(a), as_expr(b)])


def multiply_all(operands: Sequence[Expr], what: str = "Cannot multiply entry by entry") -> Expr:
    shape = broadcast_shape(operands, what)
    return contract(
        1,
        [(operand, aligned(operand, shape)) for operand in operands],
        singles(range(len(shape))),
        dict(enumerate(shape)),
    )


@public()
def hadamard(a: object, b: object) -> Expr:
    """The Hadamard product A ∘ B: out[i,j] = A[i,j] * B[i,j]; broadcast, as `*` is.

    Raises `ShapeError` where the shapes do not broadcast.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 3), td.matrix("B", 2, 3)
    >>> td.hadamard(A, B) == A * B
    True
    """
    return multiply(a, b)


@operation("matmul")
@public(np.matmul)
def matmul(a: object, b: object) -> Expr:
    """The matrix product A @ B: out[i,k] = A[i,j] * B[j,k], NumPy's rule for vectors and for stacks of matrices.

    Raises `ShapeError` where the columns of A are not as many as the rows of B, or where one is a scalar. Derivative:
    ∂out[i,k]/∂A[l,m] = δ[i,l] B[m,k], ∂out[i,k]/∂B[l,m] = A[i,l] δ[k,m].

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 3), td.matrix("B", 3, 4)
    >>> print(td.matmul(A, B))
    A[i,k]*B[k,j] -> [i,j]
    """
    left, right = as_expr(a), as_expr(b)
    if left.ndim == 0 or right.ndim == 0:
        raise mismatch(
            "The matrix product @ does not take scalars.",
            [(left, left.ndim == 0), (right, right.ndim == 0)],
            "Multiply by a scalar with *.",
        )
    inner_right = right.shape[-2] if right.ndim > 1 else right.shape[0]
    if left.shape[-1] != inner_right:
        raise mismatch(
            f"Cannot take the matrix product: the columns on the left ({left.shape[-1]}) must be as many as the rows "
            f"on the right ({inner_right}).",
            [(left, False), (right, True)],
            "Transpose one operand with .T, or multiply entry by entry with *.",
            (left.shape[-1], inner_right),
        )
    batch_left, batch_right = left.shape[:-2], right.shape[:-2]
    batch = len(max(batch_left, batch_right, key=len))
    stacked: list[AnySize] = [1] * batch
    for shape in (batch_left, batch_right):
        for place, size in enumerate(shape, batch - len(shape)):
            if size != 1 and stacked[place] not in (1, size):
                raise mismatch(
                    "Cannot take the matrix product: the stacking axes do not go together.",
                    [(left, False), (right, True)],
                    "Sizes must be equal, or one of them 1.",
                    (stacked[place], size),
                )
            stacked[place] = size if size != 1 else stacked[place]
    row, inner, column = batch, batch + 1, batch + 2
    sizes = dict(enumerate(stacked))
    sizes[inner] = inner_right

    def slots(shape: Shape, ends: Groups) -> Groups:
        return (
            *(() if size == 1 and stacked[p] != 1 else (p,) for p, size in enumerate(shape, batch - len(shape))),
            *ends,
        )

    output: Groups = singles(range(batch))
    if left.ndim > 1:
        sizes[row] = left.shape[-2]
        output += ((row,),)
    if right.ndim > 1:
        sizes[column] = right.shape[-1]
        output += ((column,),)
    left_ends: Groups = ((row,), (inner,)) if left.ndim > 1 else ((inner,),)
    right_ends: Groups = ((inner,), (column,)) if right.ndim > 1 else ((inner,),)
    return contract(1, [(left, slots(batch_left, left_ends)), (right, slots(batch_right, right_ends))], output, sizes)


@operation("getitem")
def getitem(node: Expr, key: object) -> Any:
    """Integer positions, slices, `...`, and `None` for a new axis, as in NumPy; indices give index notation."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if "indexed" in operations and operations["is_indices"](keys):
        return operations["indexed"](node, keys)
    used = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if used > node.ndim:
        raise mismatch(
            f"Too many indices: {used} for {node.ndim} axes.", [(node, True)], "Give one index for each axis."
        )
    if sum(1 for k in keys if k is Ellipsis) > 1:
        raise mismatch("An index has one `...` at the most.", [(node, True)], "Write `:` for the other axes.")
    if not any(k is Ellipsis for k in keys):
        keys.append(Ellipsis)
    operands: list[tuple[Expr, Groups]] = []
    slots: list[Group] = []
    output: list[Group] = []
    sizes: dict[int, AnySize] = {}

    def fresh(size: AnySize) -> int:
        sizes[len(sizes)] = size
        return len(sizes) - 1

    lists = [_positions(k, node) if isinstance(k, list | np.ndarray) else None for k in keys]
    together = [place for place, found in enumerate(lists) if found is not None]
    if together and not _adjacent(keys, together):
        raise UnsupportedError(
            f"{brief(node)}: lists of positions with a slice or an axis between them have no one meaning; "
            "take them one after the other."
        )
    counts = {len(found) for found in lists if found is not None} - {1}
    if len(counts) > 1:
        raise mismatch(
            f"Lists of {' and '.join(map(str, sorted(counts)))} positions do not go together.",
            [(node, True)],
            "Entries are taken pair by pair, so that lists have one length; index axis by axis for all pairs.",
        )
    common = fresh(next(iter(counts), 1)) if together else -1
    for k, found in zip(keys, lists, strict=True):
        if k is None:
            output.append(())
            continue
        if k is Ellipsis:
            for _ in range(node.ndim - used):
                label = fresh(node.shape[len(slots)])
                slots.append((label,))
                output.append((label,))
            continue
        size = node.shape[len(slots)]
        label = fresh(size)
        slots.append((label,))
        if found is not None:
            places = [check_position(place, size) for place in found]
            if any(not isinstance(place, int) for place in places):
                raise UnsupportedError(f"{brief(node)}: a list of positions on an axis of size {size} counts from 0.")
            places = places * (1 if len(found) > 1 or not counts else next(iter(counts)))
            operands.append((gathered(size, places), ((common,), (label,))))  # type: ignore[arg-type]
            if (common,) not in output:
                output.append((common,))
        elif isinstance(k, slice):
            start, step, length = _slice(k, size, node)
            row = fresh(length)
            operands.append((Select(size, start, step, length), ((row,), (label,))))
            output.append((row,))
        elif isinstance(k, Size) or (hasattr(k, "__index__") and not isinstance(k, bool | np.ndarray)):
            operands.append((Select(size, check_position(k, size)), ((label,),)))  # type: ignore[arg-type]
        else:
            raise UnsupportedError(
                f"{brief(node)} of shape {show_shape(node.shape)} cannot be indexed by {k!r}: expected "
                "a whole number, a list of them, a slice, `...`, None, or an index from td.indices."
            )
    operands.append((node, tuple(slots)))
    return contract(1, operands, tuple(output), sizes)


def _positions(key: Any, node: Expr) -> list[int]:
    """A list of positions, or a mask, as positions."""
    array = np.asarray(key)
    if array.dtype.kind == "b" and array.ndim == 1:
        return [int(place) for place in np.flatnonzero(array)]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        if array.size == 0 and array.ndim == 1:
            return []
        raise UnsupportedError(
            f"{brief(node)} cannot be indexed by an array of dtype {array.dtype} and {array.ndim} axes: expected a "
            "list of whole numbers, or of truth values."
        )
    return [int(place) for place in array]


def _adjacent(keys: Sequence[Any], places: Sequence[int]) -> bool:
    return places[-1] - places[0] == len(places) - 1


def _slice(key: slice, size: AnySize, node: Expr) -> tuple[AnySize, int, AnySize]:
    """Start, step and length of a slice; on an axis of symbolic size the ends are taken to lie within it."""
    key = slice(*(_whole(part, node) for part in (key.start, key.stop, key.step)))
    step = 1 if key.step is None else key.step
    if not isinstance(step, int) or step == 0:
        raise ShapeError(f"The step {step!r} of a slice of {brief(node)} must be a whole number other than 0.")
    if isinstance(size, int) and not isinstance(key.start, Size) and not isinstance(key.stop, Size):
        places = range(*key.indices(size))
        return (places.start, step, len(places)) if len(places) else (0, 1, 0)

    def place(value: Any, default: AnySize) -> AnySize:
        if value is None:
            return default
        return size + value if isinstance(value, int) and value < 0 else value

    if step > 0:
        start, stop = place(key.start, 0), place(key.stop, size)
        span = stop - start
    else:
        start, stop = place(key.start, size - 1), (-1 if key.stop is None else place(key.stop, 0))
        span = start - stop
    if abs(step) != 1:
        if not isinstance(span, int):
            raise UnsupportedError(
                f"A slice of {brief(node)} with step {step} needs a length that is known, but the "
                f"length of the axis is {size}. Declare the axis with a number."
            )
        span = -(-span // abs(step))
    if isinstance(span, int) and span <= 0:
        return 0, 1, 0
    return start, step, span


def _whole(part: object, node: Expr) -> Any:
    """An end or the step of a slice: a whole number, a size, or None."""
    if part is None or isinstance(part, Size):
        return part
    if not hasattr(part, "__index__"):
        raise ShapeError(f"A slice of {brief(node)} has the part {part!r}; expected whole numbers or sizes.")
    return part.__index__()
