"""Reductions that are no sums: each record reduces the last axis, and the axes asked for are moved there first."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensordsl.contraction import contract
from tensordsl.dims import AnySize, Shape
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, Primitive, operation
from tensordsl.functions import routines
from tensordsl.functions.analytic import exp, sqrt
from tensordsl.functions.choices import equal
from tensordsl.functions.convert import as_expr, axis_numbers, check_flag, identity, mismatch, plain
from tensordsl.functions.elementwise import divide
from tensordsl.functions.multilinear import mean, sum_, transpose
from tensordsl.functions.operators import add, multiply, subtract
from tensordsl.functions.record import PrimitiveRecord, primitive_records, public
from tensordsl.labels import singles

LAST = (("axis", -1),)


def _spread(gradient: Expr) -> Expr:
    """A gradient along the last axis, g[b,k], as a Jacobian of shape (b, b, k): the stacked axes carry a δ."""
    batch = singles(range(gradient.ndim - 1))
    return contract(
        1, [(gradient, plain(gradient))], (*batch, *batch, (gradient.ndim - 1,)), dict(enumerate(gradient.shape))
    )


def _max_jacobian(node: Expr, place: int) -> Expr:
    """Where several entries are the largest, each has an equal part."""
    x = node.children[0]
    largest = equal(x, node[..., None])
    return _spread(divide(largest, sum_(largest, -1, keepdims=True)))


def _logsumexp_jacobian(node: Expr, place: int) -> Expr:
    return _spread(exp(subtract(node.children[0], node[..., None])))


def _prod_jacobian(node: Expr, place: int) -> Expr:
    return _spread(Primitive(prod_others_record, node.children))


def _prod_others_jacobian(node: Expr, place: int) -> Expr:
    """∂y_i/∂x_k = Π over j ≠ i, k of x_j for k ≠ i: the others of row i, in which x_i is replaced by one."""
    x = node.children[0]
    eye = identity(x.shape[-1])
    rows = add(multiply(x[..., None, :], subtract(1, eye)), eye)
    others = multiply(Primitive(prod_others_record, (rows,)), subtract(1, eye))
    batch = singles(range(x.ndim - 1))
    i, k = (x.ndim - 1,), (x.ndim,)
    return contract(1, [(others, plain(others))], (*batch, i, *batch, k), dict(enumerate(others.shape)))


def _without_last(shape: Shape) -> Shape:
    return shape[:-1]


def _entries(*shape: Any) -> Any:
    return shape[-1]


max_record = PrimitiveRecord(
    "max",
    1,
    "np.max({0}, axis=-1)",
    _without_last,
    "∂max(x)/∂x_k = 1 where x_k is the largest entry, 0 elsewhere, equal parts where several are",
    r"\max",
    _max_jacobian,
    flops=_entries,
    axes=1,
    options=LAST,
)
prod_record = PrimitiveRecord(
    "prod",
    1,
    "np.prod({0}, axis=-1)",
    _without_last,
    "∂Π x/∂x_k = Π over j ≠ k of x_j",
    r"\prod",
    _prod_jacobian,
    flops=_entries,
    axes=1,
    options=LAST,
)
prod_others_record = PrimitiveRecord(
    "prod_others",
    1,
    "{prod_others}({0})",
    lambda shape: shape,
    "∂y_i/∂x_k = Π over j ≠ i, k of x_j for k ≠ i, else 0",
    r"\operatorname{prod\_others}",
    _prod_others_jacobian,
    flops=lambda *shape: 3 * shape[-1],
    axes=1,
    routines=(routines.prod_others,),
)
logsumexp_record = PrimitiveRecord(
    "logsumexp",
    1,
    "{logsumexp}({0})",
    _without_last,
    "∂ log Σ exp(x)/∂x_k = exp(x_k) / Σ exp(x), the softmax",
    r"\operatorname{logsumexp}",
    _logsumexp_jacobian,
    flops=lambda *shape: 20 * shape[-1],
    axes=1,
    routines=(routines.logsumexp,),
)
for _record in (max_record, prod_record, prod_others_record, logsumexp_record):
    primitive_records[_record.name] = _record


def reduced(record: PrimitiveRecord, a: object, axis: Any, keepdims: bool) -> Expr:
    """A reduction over the axes named: each in turn is moved to the end and reduced there."""
    node = as_expr(a)
    check_flag(keepdims, "keepdims")
    axes = axis_numbers(axis, node, record.name)
    for place in axes:
        if node.shape[place] == 0:
            raise mismatch(
                f"{record.name} over axis {place}, which is empty.", [(node, True)], "Reduce axes that have entries."
            )
    kept = [place for place in range(node.ndim) if place not in axes]
    value = transpose(node, [*kept, *axes]) if axes else node
    for _ in axes:
        value = Primitive(record, (value,))
    if not keepdims:
        return value
    shape = tuple(None if place in axes else slice(None) for place in range(node.ndim))
    return value[shape]  # type: ignore[no-any-return]


@operation("max")
@public(np.max)
def max_(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """The largest entry over `axis`, over all axes when None: out[i] = max over j of A[i,j].

    Derivative: 1 by the largest entry, in equal parts where several are the largest. Raises `ShapeError` for an axis
    that is not there or is empty.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.grad(td.max(x), x).evaluate(x=[1.0, 3.0, 2.0])
    array([0., 1., 0.])
    """
    return reduced(max_record, a, axis, keepdims)


@operation("min")
@public(np.min)
def min_(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """The smallest entry over `axis`, over all axes when None: out[i] = min over j of A[i,j], as -max(-A).

    Derivative: 1 by the smallest entry, in equal parts where several are the smallest. Raises `ShapeError` for an axis
    that is not there or is empty.

    >>> import tensordsl as td
    >>> float(td.min(td.vector("x", 3)).evaluate(x=[1.0, -3.0, 2.0]))
    -3.0
    """
    return -reduced(max_record, -as_expr(a), axis, keepdims)


@operation("prod")
@public(np.prod)
def prod(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """The product over `axis`, over all axes when None: out[i] = product over j of A[i,j].

    Derivative: the product of the other entries, right where some are zero. Raises `ShapeError` for an axis that is not
    there.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.grad(td.prod(x), x).evaluate(x=[2.0, 0.0, 5.0])
    array([ 0., 10.,  0.])
    """
    return reduced(prod_record, a, axis, keepdims)


@public()
def prod_others(a: object) -> Expr:
    """The product of all other entries along the last axis, the gradient of `prod`: out[i] = Π over j ≠ i of x[j].

    Derivative: the product without both, right where entries are zero. Raises `ShapeError` for a scalar.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.grad(td.prod(x), x) == td.prod_others(x)
    True
    """
    node = as_expr(a)
    axis_numbers(-1, node, "prod_others")
    return Primitive(prod_others_record, (node,))


@public()
def logsumexp(a: object, axis: Any = -1, keepdims: bool = False) -> Expr:
    """log of the sum of exponentials over `axis`, the last when not given: out[i] = log Σ over j of exp(A[i,j]).

    It neither overflows nor underflows. Derivative: the softmax. Raises `ShapeError` for an axis that is not there.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.grad(td.logsumexp(x), x) == td.softmax(x)
    True
    """
    return reduced(logsumexp_record, a, axis, keepdims)


@public()
def softmax(a: object, axis: Any = -1) -> Expr:
    """Exponentials that sum to one over `axis`, the last when not given: out[i,j] = exp(A[i,j]) / Σ_l exp(A[i,l]).

    It is exp(A - logsumexp(A)), which does not overflow. Derivative: s[i] δ[i,k] - s[i] s[k]. Raises `ShapeError` for
    an axis that is not there.

    >>> import tensordsl as td
    >>> td.softmax(td.vector("x", 2)).evaluate(x=[1000.0, 1000.0])
    array([0.5, 0.5])
    """
    node = as_expr(a)
    return exp(subtract(node, logsumexp(node, axis, keepdims=True)))


@operation("var")
@public(np.var)
def var(a: object, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Expr:
    """The variance over `axis`, over all axes when None: the mean square of what is left when the mean is taken off.

    The sum of squares is divided by the number of entries less `ddof`. Derivative: 2 (a[i] - mean) / (n - ddof). Raises
    `ShapeError` for an axis that is not there.

    >>> import tensordsl as td
    >>> float(td.var(td.vector("x", 3), ddof=1).evaluate(x=[1.0, 2.0, 6.0]))
    7.0
    """
    node = as_expr(a)
    if not isinstance(ddof, int | float):
        raise UnsupportedError(f"var with ddof={ddof!r}: expected a number.")
    count: Any = -ddof
    total: AnySize = 1
    for place in axis_numbers(axis, node, "var"):
        total = total * node.shape[place]
    count = count + total
    apart = subtract(node, mean(node, axis, keepdims=True))
    return divide(sum_(multiply(apart, apart), axis, keepdims), as_expr(count))


@operation("std")
@public(np.std)
def std(a: object, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Expr:
    """The standard deviation, the square root of the variance; see `td.var`.

    >>> import tensordsl as td
    >>> float(td.std(td.vector("x", 2)).evaluate(x=[1.0, 5.0]))
    2.0
    """
    return sqrt(var(a, axis, ddof, keepdims))
