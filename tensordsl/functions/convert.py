"""Anything a user may put beside an expression, as an expression; and the declarations of symbols and constants."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from numbers import Number as AnyNumber
from typing import Any

import numpy as np

from tensordsl.contraction import contract, number, zero
from tensordsl.dims import AnySize, Size, check_size, whole
from tensordsl.errors import ShapeError, UnsupportedError, describe, show_shape
from tensordsl.expr import Constant, Expr, Select, Symbol, brief, operations, symbol
from tensordsl.facts import implied
from tensordsl.functions.record import public
from tensordsl.labels import singles


def as_expr(value: object) -> Expr:
    """Numbers, sizes, and arrays as constants; expressions as they are."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, Size):
        return contract(1, [], (), {0: value})
    if isinstance(value, Fraction):
        return number(value)
    if isinstance(value, list | tuple) and _holds_expressions(value):
        return operations["stack"](value)  # type: ignore[no-any-return]
    if isinstance(value, AnyNumber | np.ndarray | list | tuple | np.generic):
        return constant(value)
    raise UnsupportedError(
        f"{value!r} ({type(value).__name__}) cannot stand in an expression: expected an expression, "
        "a number, a size, or a NumPy array."
    )


def _holds_expressions(value: list[Any] | tuple[Any, ...]) -> bool:
    return any(
        isinstance(item, Expr | Size) or (isinstance(item, list | tuple) and _holds_expressions(item)) for item in value
    )


PROPERTIES = ("symmetric", "positive", "positive_definite", "diagonal", "orthogonal")


def declare(name: str, shape: Sequence[AnySize], *, triangular: str | None = None, **properties: bool) -> Symbol:
    """A symbol with the properties that its user knows of it, checked against its shape."""
    unknown = [word for word in properties if word not in PROPERTIES]
    if unknown:
        raise UnsupportedError(
            f"{unknown[0]!r} of {name} is no property; known are {', '.join(PROPERTIES)} and triangular='lower'."
        )
    shape = [check_size(size) for size in shape]
    for word, holds in properties.items():
        check_flag(holds, word)
    known = {word for word, holds in properties.items() if holds}
    if triangular is not None and (not isinstance(triangular, str) or triangular not in ("lower", "upper")):
        raise ShapeError(f"triangular={triangular!r} of {name}: expected 'lower' or 'upper'.")
    known |= {triangular} if triangular else set()
    square = len(shape) == 2 and shape[0] == shape[1]
    of_matrices = sorted(known - {"positive"})
    if of_matrices and not square:
        raise ShapeError(
            f"{name} of shape {show_shape(tuple(shape))} cannot be {' and '.join(of_matrices)}: that is said of square "
            "matrices."
        )
    found = symbol(name, *shape)
    return Symbol(found.name, found.shape, implied(known)) if known else found


def scalar(name: str, *, positive: bool = False) -> Symbol:
    """A symbol a of shape (), a single number; `positive` says that it is above zero.

    Raises `ParseError` for a name that is no name.

    >>> import tensordsl as td
    >>> td.scalar("a").shape
    ()
    """
    return declare(name, (), positive=positive)


def vector(name: str, size: AnySize, *, positive: bool = False) -> Symbol:
    """A symbol x[i] of shape (size,); `positive` says that all its entries are above zero.

    Raises `ShapeError` for a size that is no size, `ParseError` for a name that is no name.

    >>> import tensordsl as td
    >>> td.vector("x", td.dim("k")).shape
    (k,)
    """
    return declare(name, (size,), positive=positive)


def matrix(
    name: str,
    rows: AnySize,
    columns: AnySize,
    *,
    symmetric: bool = False,
    positive: bool = False,
    positive_definite: bool = False,
    diagonal: bool = False,
    orthogonal: bool = False,
    triangular: str | None = None,
) -> Symbol:
    """A symbol A[i,j] of shape (rows, columns), with what is known of it.

    `symmetric`: A[i,j] = A[j,i], so that transposes vanish; `positive`: all entries are above zero;
    `positive_definite`: symmetric with eigenvalues above zero; `diagonal`: zero off the diagonal; `orthogonal`:
    inv(A) = Aᵀ; `triangular`: "lower" or "upper". The data are taken to be so and are not checked. Derivatives vary the
    entries independently unless a `convention` says otherwise, see `td.grad`. Raises `ShapeError` for a size that is no
    size, or for a property of square matrices on another; `ParseError` for a name that is no name.

    >>> import tensordsl as td
    >>> td.matrix("A", 3, td.dim("k")).shape
    (3, k)
    >>> S, x = td.matrix("S", 3, 3, symmetric=True), td.vector("x", 3)
    >>> S.T == S, td.hessian(x @ S @ x, x) == 2 * S
    (True, True)
    """
    return declare(
        name,
        (rows, columns),
        triangular=triangular,
        symmetric=symmetric,
        positive=positive,
        positive_definite=positive_definite,
        diagonal=diagonal,
        orthogonal=orthogonal,
    )


def tensor(name: str, *sizes: AnySize, triangular: str | None = None, **properties: bool) -> Symbol:
    """A symbol T[i,j,...] of any order, of shape `sizes`; with the properties that `td.matrix` knows.

    Raises `ShapeError` for a size that is no size, `ParseError` for a name that is no name.

    >>> import tensordsl as td
    >>> td.tensor("T", 2, 3, 4).ndim
    3
    """
    return declare(name, sizes, triangular=triangular, **properties)


@public()
def constant(array: Any) -> Expr:
    """An array of numbers as an expression; a number becomes a scalar.

    Raises `UnsupportedError` for what holds no numbers.

    >>> import tensordsl as td
    >>> td.constant([1.0, 2.0]).shape
    (2,)
    """
    if isinstance(array, np.generic):
        array = array.item()
    if isinstance(array, int | float | complex):
        return number(check_number(int(array) if isinstance(array, bool) else array))
    try:
        value = np.asarray(array)
    except ValueError as error:
        raise UnsupportedError(f"{array!r} is no rectangular array of numbers: {error}.") from None
    if value.dtype.kind not in "biufc":
        raise UnsupportedError(f"An array of dtype {value.dtype} cannot be a constant: expected numbers.")
    if value.ndim == 0:
        item = value.item()
        return number(int(item) if isinstance(item, bool) else item)
    return Constant(value.astype(np.int64) if value.dtype.kind in "biu" and value.dtype.itemsize < 8 else value)


@public(name="identity")
def identity(size: AnySize) -> Expr:
    """The identity matrix I[i,j] = δ[i,j], of shape (size, size). It is labels only and is never stored.

    Raises `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> td.identity(3) @ td.vector("x", 3)
    <x[i] -> [i] : (3,)>
    """
    return contract(1, [], ((0,), (0,)), {0: check_size(size)})


@public()
def ones(*sizes: AnySize) -> Expr:
    """The tensor of ones, out[i,j,...] = 1, of shape `sizes`. It is labels only and is never stored.

    Raises `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> print(td.sum(td.ones(2, 3)))
    6
    """
    return number(1, tuple(check_size(size) for size in _spread(sizes)))


@public()
def zeros(*sizes: AnySize) -> Expr:
    """The tensor of zeros, out[i,j,...] = 0, of shape `sizes`. It is labels only and is never stored.

    Raises `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> td.vector("x", 3) + td.zeros(3) == td.vector("x", 3)
    True
    """
    return zero(tuple(check_size(size) for size in _spread(sizes)))


def _spread(sizes: Sequence[Any]) -> Sequence[Any]:
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes


@public()
def basis(size: AnySize, position: AnySize) -> Expr:
    """The standard basis vector e_p: e_p[i] = δ[i,p], of shape (size,), p from 0.

    A position may be symbolic, a `td.dim`, which is given by name when the expression is evaluated. Raises `ShapeError`
    for a position out of range.

    >>> import tensordsl as td
    >>> td.basis(3, 1).evaluate()
    array([0., 1., 0.])
    """
    return Select(check_size(size), check_position(position, check_size(size)))


def check_number(value: int | float | complex) -> int | float | complex:
    """A number that can stand in a program: a whole one must be within the range of floating-point numbers."""
    if isinstance(value, int) and value.bit_length() > 1023:
        raise UnsupportedError(f"A whole number of {value.bit_length()} bits is too large to be computed with.")
    return value


def check_position(position: AnySize, size: AnySize) -> AnySize:
    """A position on an axis, negative ones counted from the end."""
    if isinstance(position, Size):
        return position
    place = whole(position)
    if place is None:
        raise ShapeError(f"{position!r} is no position: a position is a whole number or a td.dim.")
    if isinstance(size, int) and not -size <= place < size:
        raise ShapeError(
            f"The position {place} is out of range on an axis of size {size}: positions go from {-size} to {size - 1}."
        )
    return size + place if place < 0 else place


def mismatch(
    what: str,
    operands: Sequence[tuple[Expr, bool]],
    way_out: str,
    sizes: tuple[object, object] | None = None,
    axes: tuple[tuple[Expr, int], ...] = (),
) -> ShapeError:
    """The error for shapes that do not fit: what was asked, each operand with its shape, a way out."""
    rows = describe((brief(node), node.shape, bad) for node, bad in operands)
    return ShapeError(f"{what}\n{rows}\n{way_out}", sizes, axes)


def axis_numbers(axis: Any, node: Expr, what: str) -> tuple[int, ...]:
    """The axes meant by `axis` as numbers from 0; all of them for None."""
    if axis is None:
        return tuple(range(node.ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    found = tuple(one_axis(place, node, what) for place in axes)
    if len(set(found)) < len(found):
        raise mismatch(f"{what}: an axis is named twice in {axes}.", [(node, True)], "Name each axis once.")
    return found


def one_axis(axis: Any, node: Expr, what: str) -> int:
    """An axis as a number from 0."""
    place = whole(axis)
    if place is None or not -node.ndim <= place < node.ndim:
        known = f"Axes go from {-node.ndim} to {node.ndim - 1}." if node.ndim else "It has no axes."
        raise mismatch(f"{what}: there is no axis {axis!r}.", [(node, True)], known)
    return place % node.ndim


def check_flag(value: Any, what: str) -> None:
    """That an option is true or false."""
    if not isinstance(value, bool | np.bool_ | int):
        raise UnsupportedError(f"{what}={value!r}: expected True or False.")


def plain(node: Expr) -> tuple[tuple[int, ...], ...]:
    """The slots that label the axes of a node 0, 1, 2, ..."""
    return singles(range(node.ndim))
