"""What NumPy has more names for: its functions that are made of those here, for code that is traced as it is.

They are known where NumPy is handed an expression, not to texts or in `td`: nothing in them is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log as log_of
from math import pi
from typing import Any, TypeVar

import numpy as np

from tensordsl.contraction import contract, scale
from tensordsl.dims import AnySize, product, whole
from tensordsl.errors import ShapeError, UnsupportedError
from tensordsl.expr import Expr, array_functions, brief, operation
from tensordsl.functions import analytic, choices, elementwise, reductions
from tensordsl.functions.arranging import broadcast, moveaxis, ravel, stack
from tensordsl.functions.convert import as_expr, axis_numbers, mismatch, one_axis, plain
from tensordsl.functions.multilinear import cross, diagonal, mean, outer, sum_, tensordot, transpose
from tensordsl.functions.operators import add, broadcast_shape, broadcast_to, matmul, multiply, subtract
from tensordsl.functions.triangles import tril
from tensordsl.labels import singles

F = TypeVar("F", bound=Callable[..., Any])


def means(*names: str) -> Callable[[F], F]:
    """Register what NumPy's functions of these names mean, where this NumPy has them."""

    def register(function: F) -> F:
        for name in names:
            home, _, last = name.rpartition(".")
            numpy_function = getattr(np.linalg if home else np, last, None)
            if numpy_function is not None:
                array_functions[numpy_function] = function
        return function

    return register


def whole_number(value: Any, what: str) -> int:
    """A whole number, as of a shift or a count."""
    number = whole(value)
    if number is None:
        raise UnsupportedError(f"{what} takes a whole number, not {value!r}.")
    return number


def along(function: Callable[[Expr], Expr], a: object, axis: int | None, what: str) -> Expr:
    """A function of the last axis along another one; along all entries in their order for None."""
    node = as_expr(a)
    if axis is None:
        return function(ravel(node))
    place = one_axis(axis, node, what)
    return moveaxis(function(moveaxis(node, place, -1)), -1, place)


def known_length(node: Expr, what: str) -> int:
    """The length of the last axis, where it is a number."""
    size = node.shape[-1]
    if not isinstance(size, int):
        raise UnsupportedError(f"{what} needs the length of an axis of {brief(node)} as a number; it is {size}.")
    return size


# --- what says nothing new ----------------------------------------------------------------------------------------

for _same, _names in (
    (reductions.max_, ["amax"]),
    (reductions.min_, ["amin"]),
    (choices.abs_, ["fabs"]),
    (elementwise.power, ["float_power"]),
    (matmul, ["linalg.matmul"]),
    (tensordot, ["linalg.tensordot"]),
    (cross, ["linalg.cross"]),
    (outer, ["linalg.outer"]),
):
    means(*_names)(_same)


@means("ndim")
def ndim(a: object) -> int:
    """The number of axes."""
    return as_expr(a).ndim


@means("shape")
def shape(a: object) -> Any:
    """The sizes of the axes."""
    return as_expr(a).shape


@means("size")
def size(a: object, axis: int | None = None) -> AnySize:
    """The number of entries, or that along an axis."""
    node = as_expr(a)
    return product(node.shape[place] for place in axis_numbers(axis, node, "size"))


@means("copy", "positive")
def copy(a: object) -> Expr:
    """The same: expressions do not change."""
    return as_expr(a)


@operation("astype")
@means("astype")
def astype(a: object, dtype: Any) -> Expr:
    """The same, for a type of floating-point numbers: entries are real numbers, and data say their precision."""
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        kind = ""
    if kind != "f":
        raise UnsupportedError(
            f"{brief(as_expr(a))} cannot be of type {dtype!r}: entries are real numbers, astype(float) leaves them as "
            "they are. Give data of that type when it is evaluated."
        )
    return as_expr(a)


@means("zeros_like", "empty_like")
def zeros_like(a: object, shape: Any = None) -> Expr:
    """Zeros of the same shape, or another."""
    return full_like(a, 0, shape)


@means("ones_like")
def ones_like(a: object, shape: Any = None) -> Expr:
    """Ones of the same shape, or another."""
    return full_like(a, 1, shape)


@means("full_like")
def full_like(a: object, fill_value: object, shape: Any = None) -> Expr:
    """One value throughout the same shape, or another."""
    return broadcast(fill_value, as_expr(a).shape if shape is None else shape)


@means("broadcast_arrays")
def broadcast_arrays(*args: object) -> tuple[Expr, ...]:
    """All repeated to the shape that they have in common."""
    nodes = [as_expr(argument) for argument in args]
    common = broadcast_shape(nodes, "Cannot broadcast")
    return tuple(broadcast_to(node, common) for node in nodes)


# --- entry by entry -----------------------------------------------------------------------------------------------


@means("log2")
def log2(x: object) -> Expr:
    """log(x)/log(2)."""
    return scale(1 / log_of(2), analytic.log(x))


@means("log10")
def log10(x: object) -> Expr:
    """log(x)/log(10)."""
    return scale(1 / log_of(10), analytic.log(x))


@means("exp2")
def exp2(x: object) -> Expr:
    """2**x."""
    return elementwise.power(2, x)


@means("logaddexp")
def logaddexp(x1: object, x2: object) -> Expr:
    """log(exp(x1) + exp(x2)), which does not overflow."""
    return reductions.logsumexp(stack(broadcast_arrays(x1, x2), -1))


@means("logaddexp2")
def logaddexp2(x1: object, x2: object) -> Expr:
    """The logarithm to base 2 of 2**x1 + 2**x2."""
    return scale(1 / log_of(2), logaddexp(scale(log_of(2), as_expr(x1)), scale(log_of(2), as_expr(x2))))


@means("hypot")
def hypot(x1: object, x2: object) -> Expr:
    """sqrt(x1² + x2²)."""
    return analytic.sqrt(add(elementwise.square(x1), elementwise.square(x2)))


@means("cbrt")
def cbrt(x: object) -> Expr:
    """The real cube root, of negative numbers too."""
    return multiply(choices.sign(x), elementwise.power(choices.abs_(x), 1 / 3))


@means("deg2rad", "radians")
def radians(x: object) -> Expr:
    """Degrees as radians."""
    return scale(pi / 180, as_expr(x))


@means("rad2deg", "degrees")
def degrees(x: object) -> Expr:
    """Radians as degrees."""
    return scale(180 / pi, as_expr(x))


@means("logical_xor")
def logical_xor(x1: object, x2: object) -> Expr:
    """Whether one of two is true (not zero), and the other is not."""
    return choices.not_equal(choices.not_equal(x1, 0), choices.not_equal(x2, 0))


@means("select")
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: object = 0) -> Expr:
    """The first choice whose condition is true."""
    if len(condlist) != len(choicelist):
        raise ShapeError(f"select: {len(condlist)} conditions for {len(choicelist)} choices; give one for each.")
    value = as_expr(default)
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        value = choices.where(condition, choice, value)
    return value


@means("polyval")
def polyval(p: object, x: object) -> Expr:
    """The polynomial with the coefficients p, the highest first, by Horner's rule."""
    coefficients = as_expr(p)
    if coefficients.ndim != 1:
        raise mismatch("polyval takes a vector of coefficients.", [(coefficients, True)], "The highest comes first.")
    value: Expr = as_expr(0)
    for place in range(known_length(coefficients, "polyval")):
        value = add(multiply(value, x), coefficients[place])
    return value


# --- sums ---------------------------------------------------------------------------------------------------------


@means("any")
def any_(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """Whether an entry is true (not zero)."""
    return choices.greater(count_nonzero(a, axis, keepdims), 0)


@means("all")
def all_(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """Whether all entries are true (not zero)."""
    return choices.equal(sum_(choices.equal(a, 0), axis, keepdims), 0)


@means("count_nonzero")
def count_nonzero(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """How many entries are not zero."""
    return sum_(choices.not_equal(a, 0), axis, keepdims)


@means("ptp")
def ptp(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """The largest entry less the smallest."""
    return subtract(reductions.max_(a, axis, keepdims), reductions.min_(a, axis, keepdims))


@means("average")
def average(a: object, axis: Any = None, weights: object = None, *, keepdims: bool = False) -> Expr:
    """The mean, each entry counted by its weight."""
    node = as_expr(a)
    if weights is None:
        return mean(node, axis, keepdims)
    weight = as_expr(weights)
    if weight.shape != node.shape:
        places = axis_numbers(axis, node, "average")
        if weight.shape != tuple(node.shape[place] for place in places):
            raise mismatch(
                "average: the weights have neither the shape of the entries nor that of the axes.",
                [(node, False), (weight, True)],
                "Name the axes that they are for with axis=.",
            )
        labels = dict(enumerate(node.shape))
        weight = contract(1, [(weight, singles(places))], plain(node), labels)
    return elementwise.divide(sum_(multiply(node, weight), axis, keepdims), sum_(weight, axis, keepdims))


@operation("cumsum")
@means("cumsum")
def cumsum(a: object, axis: int | None = None) -> Expr:
    """Running sums: out[i] = a[j] summed over j <= i, a product with the triangle of ones."""

    def running(node: Expr) -> Expr:
        n = node.shape[-1]
        return tensordot(node, tril(broadcast_to(as_expr(1), (n, n))), axes=([-1], [1]))

    return along(running, a, axis, "cumsum")


@means("diff")
def diff(a: object, n: int = 1, axis: int = -1) -> Expr:
    """Each entry less the one before it, n times."""

    def step(node: Expr) -> Expr:
        return subtract(node[..., 1:], node[..., :-1])

    node, times = as_expr(a), whole_number(n, "diff")
    if times < 0:
        raise UnsupportedError(f"diff takes differences {times} times; expected a whole number from 0.")
    for _ in range(times):
        node = along(step, node, axis, "diff")
    return node


@means("trapezoid")
def trapezoid(y: object, x: object = None, dx: Any = 1.0, axis: int = -1) -> Expr:
    """The integral along an axis by the trapezoidal rule."""

    whole = as_expr(y)
    place = one_axis(axis, whole, "trapezoid")
    node, at = moveaxis(whole, place, -1), None if x is None else as_expr(x)
    if at is not None and at.ndim > 1:  # places of their own for each of the integrals
        at = moveaxis(at, axis, -1)
    width = as_expr(dx) if at is None else diff(at)
    return scale(0.5, sum_(multiply(add(node[..., 1:], node[..., :-1]), width), -1))


@means("cov")
def cov(m: object, y: object = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Expr:
    """The covariance matrix of variables that stand in rows, or in columns unless `rowvar`."""
    node = as_expr(m)
    if y is not None or node.ndim > 2:
        raise mismatch("cov takes one matrix of observations.", [(node, True)], "Join two with np.concatenate.")
    rows = node[None] if node.ndim == 1 else node if rowvar else transpose(node)
    apart = subtract(rows, mean(rows, 1, keepdims=True))
    less = (0 if bias else 1) if ddof is None else whole_number(ddof, "ddof of cov")
    found = elementwise.divide(matmul(apart, transpose(apart)), as_expr(rows.shape[1] - less))
    return found[0, 0] if rows.shape[0] == 1 else found


@means("corrcoef")
def corrcoef(x: object, y: object = None, rowvar: bool = True) -> Expr:
    """The correlations of variables, their covariances for variables of variance one."""
    found = cov(x, y, rowvar)
    if found.ndim == 0:
        return elementwise.divide(found, found)
    spread = analytic.sqrt(diagonal(found))
    return elementwise.divide(found, outer(spread, spread))


@means("vecdot", "linalg.vecdot")
def vecdot(x1: object, x2: object, *, axis: int = -1) -> Expr:
    """The inner products along an axis, broadcast."""
    left, right = as_expr(x1), as_expr(x2)
    return sum_(multiply(moveaxis(left, axis, -1), moveaxis(right, axis, -1)), -1)


@means("matvec")
def matvec(x1: object, x2: object) -> Expr:
    """Matrices times vectors."""
    return matmul(x1, as_expr(x2)[..., None])[..., 0]  # type: ignore[no-any-return]


@means("vecmat")
def vecmat(x1: object, x2: object) -> Expr:
    """Vectors times matrices."""
    return matmul(as_expr(x1)[..., None, :], x2)[..., 0, :]  # type: ignore[no-any-return]
