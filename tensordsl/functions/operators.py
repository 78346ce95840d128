"""The operators of Python on expressions: NumPy's meanings, broadcasting included."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tensordsl.contraction import add_terms, contract, scale
from tensordsl.dims import AnySize, Shape, Size, whole
from tensordsl.errors import ShapeError, UnsupportedError, show_shape
from tensordsl.expr import Expr, Select, brief, operation, operations
from tensordsl.functions.convert import as_expr, check_position, mismatch, plain
from tensordsl.functions.record import public
from tensordsl.labels import Group, Groups, singles
from tensordsl.selections import gathered


def broadcast_shape(operands: Sequence[Expr], what: str) -> Shape:
    """The common shape of operands by NumPy's rule: aligned at the right, size 1 goes with any size."""
    ndim = max(operand.ndim for operand in operands)
    shape: list[AnySize] = [1] * ndim
    first = [operands[0]] * ndim  # the operand that an axis has its size from
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
                    ((first[offset + place], place - operand.ndim), (operand, place - operand.ndim)),
                )
            shape[offset + place], first[offset + place] = size, operand
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
            ((left, -1), (right, -2 if right.ndim > 1 else 0)),
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
    """Integer positions, slices, lists, masks, `...`, and `None` for a new axis, as in NumPy; or index notation."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if "indexed" in operations and operations["is_indices"](keys):
        return operations["indexed"](node, keys)
    keys = _spelled_out(keys, node)
    rows = _common_shape(keys, node)
    common = 0  # the label that lists of positions share
    operands: list[tuple[Expr, Groups]] = []
    slots: list[Group] = []
    output: list[Group] = []
    sizes: dict[int, AnySize] = {common: prod(rows)}

    def fresh(size: AnySize) -> int:
        sizes[len(sizes)] = size
        return len(sizes) - 1

    for k in keys:
        if k is None:
            output.append(())
            continue
        size = node.shape[len(slots)]
        label = fresh(size)
        slots.append((label,))
        if isinstance(k, np.ndarray):
            places = [check_position(place, size) for place in np.broadcast_to(k, rows).reshape(-1).tolist()]
            if any(not isinstance(place, int) for place in places):
                raise UnsupportedError(f"{brief(node)}: a list of positions on an axis of size {size} counts from 0.")
            operands.append((gathered(size, places), ((common,), (label,))))  # type: ignore[arg-type]
            if (common,) not in output:
                output.append((common,))
        elif isinstance(k, slice):
            start, step, length = _slice(k, size, node)
            row = fresh(length)
            operands.append((Select(size, start, step, length), ((row,), (label,))))
            output.append((row,))
        else:
            operands.append((Select(size, check_position(k, size)), ((label,),)))
    operands.append((node, tuple(slots)))
    found = contract(1, operands, tuple(output), sizes)
    if (common,) not in output or len(rows) == 1:
        return found
    place = output.index((common,))
    return operations["reshape"](found, (*found.shape[:place], *rows, *found.shape[place + 1 :]))


def _spelled_out(keys: Sequence[Any], node: Expr) -> list[Any]:
    """A key for each axis, and None for new ones: `...` as slices, lists as arrays, masks as where they are true."""
    arrays = [_array(k, node) if isinstance(k, list | tuple | range | np.ndarray) else k for k in keys]
    used = sum(_axes_of(k) for k in arrays)
    if used > node.ndim:
        raise mismatch(
            f"Too many indices: {used} for {node.ndim} axes.", [(node, True)], "Give one index for each axis."
        )
    if sum(1 for k in arrays if k is Ellipsis) > 1:
        raise mismatch("An index has one `...` at the most.", [(node, True)], "Write `:` for the other axes.")
    if not any(k is Ellipsis for k in arrays):
        arrays.append(Ellipsis)
    found: list[Any] = []
    axis = 0
    for k in arrays:
        count = node.ndim - used if k is Ellipsis else _axes_of(k)
        if k is Ellipsis:
            found += [slice(None)] * count
        elif _is_mask(k):
            found += _places(k, node, axis)
        elif isinstance(k, slice | Size | np.ndarray | None) or whole(k) is not None:
            found.append(k)
        else:
            hint = "; choose entries by their values with td.where" if isinstance(k, Expr) else ""
            raise UnsupportedError(
                f"{brief(node)} of shape {show_shape(node.shape)} cannot be indexed by {k!r}: expected "
                f"a whole number, a list of them, a slice, `...`, None, or an index from td.indices{hint}."
            )
        axis += count
    return found


def _array(key: Any, node: Expr) -> Any:
    """A list of positions, or of truth values, as an array; an array of one position without axes as that position."""
    try:
        array = np.asarray(key)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind == "b" and array.ndim:
        return array
    if array.dtype.kind in "iu":
        return array if array.ndim else int(array)
    if array.size == 0 and array.dtype.kind == "f" and array.ndim == 1:
        return array.astype(np.int64)
    raise UnsupportedError(
        f"{brief(node)} cannot be indexed by {key!r}: expected a list of whole numbers, or of truth values."
    )


def _axes_of(key: Any) -> int:
    """How many axes of a tensor a key is for."""
    if key is None or key is Ellipsis:
        return 0
    return int(key.ndim) if _is_mask(key) else 1


def _is_mask(key: Any) -> bool:
    return isinstance(key, np.ndarray) and key.dtype.kind == "b"


def _places(mask: np.ndarray[Any, Any], node: Expr, axis: int) -> list[Any]:
    """The positions where a mask of some axes is true, a list for each of them."""
    covered = node.shape[axis : axis + mask.ndim]
    if mask.shape != covered:
        raise mismatch(
            f"A mask of shape {show_shape(mask.shape)} for axes of shape {show_shape(covered)}.",
            [(node, True)],
            "A mask has the shape of what it covers, in numbers; take positions by a list of whole numbers.",
        )
    return list(np.nonzero(mask))


def _common_shape(keys: Sequence[Any], node: Expr) -> tuple[int, ...]:
    """The shape of what lists of positions take, pair by pair."""
    lists = [k for k in keys if isinstance(k, np.ndarray)]
    if not lists:
        return ()
    # As in NumPy a position beside a list is a list of one.
    together = [place for place, k in enumerate(keys) if k is not None and not isinstance(k, slice)]
    if together[-1] - together[0] != len(together) - 1:
        raise UnsupportedError(
            f"{brief(node)}: lists of positions with a slice or an axis between them have no one meaning; "
            "take them one after the other."
        )
    try:
        return np.broadcast_shapes(*[k.shape for k in lists])
    except ValueError:
        shapes = " and ".join(show_shape(k.shape) for k in lists)
        raise mismatch(
            f"Lists of positions of the shapes {shapes} do not go together.",
            [(node, True)],
            "Entries are taken pair by pair, so that lists have one shape; index axis by axis for all pairs.",
        ) from None


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
    number = whole(part)
    if number is None:
        raise ShapeError(f"A slice of {brief(node)} has the part {part!r}; expected whole numbers or sizes.")
    return number
