"""Comparisons, and the functions that choose: entry by entry, one record each, its rule and source beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from tensordsl.contraction import number_of
from tensordsl.errors import UnsupportedError
from tensordsl.expr import (
    Contraction,
    Elementwise,
    Expr,
    Liftable,
    Select,
    array_functions,
    brief,
    operation,
)
from tensordsl.functions.convert import as_expr
from tensordsl.functions.elementwise import function, half, lifted
from tensordsl.functions.operators import broadcast_shape, broadcast_to
from tensordsl.functions.record import public
from tensordsl.labels import flat


def comparison(name: str, sign: str, latex: str, same: Any) -> Callable[..., Expr]:
    """A comparison, which is also what the Python operator means."""
    compare = function(
        name,
        f"({{0}} {sign} {{1}})",
        lambda y, a, b: (None, None),
        latex=latex,
        same=(same,),
        sample=((0.5, 1.0), (1.5, 2.0)),
        truth=True,
        source="a comparison is constant almost everywhere",
        about=f"Whether a[i] {sign} b[i], entry by entry.",
    )
    operation(name)(compare)
    return compare


greater = comparison("greater", ">", ">", np.greater)
less = comparison("less", "<", "<", np.less)
greater_equal = comparison("greater_equal", ">=", r"\operatorname{greater\_equal}", np.greater_equal)
less_equal = comparison("less_equal", "<=", r"\operatorname{less\_equal}", np.less_equal)
equal = comparison("equal", "==", r"\operatorname{equal}", np.equal)
not_equal = comparison("not_equal", "!=", r"\operatorname{not\_equal}", np.not_equal)


relu: Callable[..., Expr] = function(
    "relu",
    "np.maximum({0}, 0)",
    lambda y, x: greater(x, 0),
    sample=((0.5, 2.0),),
    source="1 for x > 0, 0 for x < 0, and 0 is taken at 0",
    about="The ramp: out[i] = x[i] where that is positive, else 0.",
)


abs_: Callable[..., Expr] = function(
    "abs",
    "np.abs({0})",
    lambda y, x: sign(x),
    ufunc="np.abs",
    sample=((0.5, 2.0),),
    same=(np.abs,),
    latex=r"\operatorname{abs}",
    source="|x|′ = sign x for x ≠ 0, and 0 is taken at 0",
    about="The absolute value: out[i] = |x[i]|.",
)


sign: Callable[..., Expr] = function(
    "sign",
    "np.sign({0})",
    lambda y, x: (None,),
    ufunc="np.sign",
    sample=((0.5, 2.0),),
    same=(np.sign,),
    source="0 for x ≠ 0, and 0 is taken at 0",
    about="The sign: -1, 0 or 1.",
)


operation("abs")(abs_)


# Where the two are equal each counts half, so that the derivative does not depend on which stands first.
maximum: Callable[..., Expr] = function(
    "maximum",
    "np.maximum({0}, {1})",
    lambda y, a, b: (greater(a, b) + half(equal(a, b)), less(a, b) + half(equal(a, b))),
    ufunc="np.maximum",
    sample=((0.5, 1.0), (1.5, 2.0)),
    latex=r"\max",
    same=(np.maximum,),
    source="1 by the larger argument, 0 by the other, ½ each where they are equal",
    about="The larger of two: out[i] = a[i] where that is larger, else b[i].",
)


minimum: Callable[..., Expr] = function(
    "minimum",
    "np.minimum({0}, {1})",
    lambda y, a, b: (less(a, b) + half(equal(a, b)), greater(a, b) + half(equal(a, b))),
    ufunc="np.minimum",
    sample=((0.5, 1.0), (1.5, 2.0)),
    latex=r"\min",
    same=(np.minimum,),
    source="1 by the smaller argument, 0 by the other, ½ each where they are equal",
    about="The smaller of two: out[i] = a[i] where that is smaller, else b[i].",
)


_where: Callable[..., Expr] = function(
    "where",
    "np.where({0}, {1}, {2})",
    lambda y, c, a, b: (None, not_equal(c, 0) if not _is_truth(c) else c, equal(c, 0) if not _is_truth(c) else 1 - c),
    sample=((0.0, 1.0), (0.5, 1.0), (1.5, 2.0)),
    source="1 by the branch that is taken, 0 by the other and by the condition",
    about="One of two, entry by entry: out[i] = a[i] where c[i] is true (not zero), else b[i].",
)


def _is_truth(node: Expr) -> bool:
    return isinstance(node, Elementwise) and node.record.truth


def logic(name: str, sign: str, arity: int, latex: str, same: Any) -> Callable[..., Expr]:
    """A function of truth values, which any numbers are: true where they are not zero."""
    values = ", ".join(f"{{{place}}}" for place in range(arity))
    shown = f"{sign} b[i]".join(["a[i] ", ""]) if arity == 2 else f"{sign} a[i]"
    return function(
        name,
        f"np.{name}({values})",
        lambda y, *arguments: (None,) * arity,
        latex=latex,
        same=(same,),
        sample=((0.5, 1.0),) * arity,
        truth=True,
        source="a truth value is constant almost everywhere",
        about=f"Whether {shown}, entry by entry, of truth values; a number is true where it is not zero.",
    )


logical_and = logic("logical_and", "and", 2, r"\operatorname{and}", np.logical_and)
logical_or = logic("logical_or", "or", 2, r"\operatorname{or}", np.logical_or)
logical_not = logic("logical_not", "not", 1, r"\operatorname{not}", np.logical_not)


def of_truths(name: str, sign: str, logical: Callable[..., Expr], same: Any) -> None:
    """What `&`, `|` and `~` mean, which are of the bits of numbers: that of truth values alone."""

    def combine(*arguments: object) -> Expr:
        for argument in arguments:
            if not isinstance(argument, Liftable) and not _holds_truth(argument):
                shown = brief(argument) if isinstance(argument, Expr) else repr(argument)
                raise UnsupportedError(
                    f"{sign} is of truth values such as x > 0, and {shown} is none: put comparisons in parentheses, as "
                    f"in (x > 0) & (y > 0), or use np.{logical.__name__} for numbers."
                )
        return logical(*arguments)

    operation(name)(combine)
    array_functions[same] = combine


def _holds_truth(value: object) -> bool:
    """Whether all that a value has are truth values: comparisons, and parts of them."""
    if not isinstance(value, Expr):
        return bool(np.asarray(value).dtype == np.bool_)
    if isinstance(value, Contraction):
        bound = {label for slots in (value.output, *value.slots) for label in flat(slots)}
        summed = bound - set(flat(value.output))
        values = [factor for factor in value.factors if not isinstance(factor, Select)]
        taken = {
            flat(slots)[-1] for factor, slots in zip(value.factors, value.slots, strict=True) if factor not in values
        }
        return value.coefficient == 1 and summed <= taken and all(map(_is_truth, values))
    return _is_truth(value)


of_truths("and", "&", logical_and, np.bitwise_and)
of_truths("or", "|", logical_or, np.bitwise_or)
of_truths("not", "~", logical_not, np.invert)


@public(np.where)
def where(condition: object, a: object = None, b: object = None) -> Expr:
    """One of two, entry by entry, broadcast: out[i] = a[i] where condition[i] is true (not zero), else b[i].

    Both are computed everywhere, so a branch must not fail where it is not taken: log(where(x > 0, x, 1)) rather than
    where(x > 0, log(x), 0). Derivative: 1 by the branch that is taken. Raises `ShapeError` where the shapes do not
    broadcast.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.where(x > 0, x, x / 10).evaluate(x=[-1.0, 0.0, 2.0])
    array([-0.1,  0. ,  2. ])
    """
    if a is None or b is None:
        raise UnsupportedError(
            "where takes a condition and two branches, where(x > 0, x, 0): where entries are true depends on the data, "
            "and so would the shape of their positions."
        )
    if any(isinstance(argument, Liftable) for argument in (condition, a, b)):
        return lifted(where, condition, a, b)
    test = as_expr(condition)
    value = number_of(test)
    if value is not None:
        taken = [as_expr(a), as_expr(b)]
        shape = broadcast_shape([test, *taken], "Cannot choose entry by entry")
        return broadcast_to(taken[value == 0], shape)
    return _where(test, a, b)


@operation("clip")
@public(np.clip)
def clip(a: object, low: object = None, high: object = None) -> Expr:
    """The entries kept between two bounds, broadcast: out[i] = min(max(a[i], low[i]), high[i]); None is no bound.

    Derivative: 1 inside the bounds, 0 outside, ½ on them. Raises `ShapeError` where the shapes do not broadcast.

    >>> import tensordsl as td
    >>> td.clip(td.vector("x", 3), 0, 1).evaluate(x=[-1.0, 0.5, 3.0])
    array([0. , 0.5, 1. ])
    """
    start = cast(Expr, a) if isinstance(a, Liftable) else as_expr(a)
    value = start if low is None else maximum(start, low)
    return value if high is None else minimum(value, high)
