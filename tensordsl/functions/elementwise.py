"""Functions applied entry by entry: how a record becomes what users call; and powers, which algebra needs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import isfinite
from typing import Any, cast

import numpy as np

from tensordsl.contraction import contract, is_repeated, is_zero, number, number_of, scale, without_axes
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Elementwise, Expr, Liftable, Number, array_functions, brief, operation
from tensordsl.functions.convert import as_expr
from tensordsl.functions.operators import broadcast_shape, broadcast_to, multiply_all
from tensordsl.functions.record import ElementwiseRecord, Routine, elementwise_records, functions, public
from tensordsl.labels import singles

LARGEST_BITS = 1024  # of a whole number that is folded: what a float can hold


def apply(record: ElementwiseRecord, *arguments: object) -> Expr:
    """The function of a record, its arguments broadcast together; of numbers alone, its number."""
    nodes = [as_expr(argument) for argument in arguments]
    values = [number_of(node) for node in nodes]
    shape = broadcast_shape(nodes, f"Cannot apply {record.name} entry by entry")
    if all(value is not None for value in values):
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(record.value(*[float(v) if isinstance(v, Fraction) else v for v in values])).item()
        except (TypeError, ValueError, ArithmeticError):
            words = ", ".join(map(str, values))
            raise UnsupportedError(f"{record.name} is not defined for {words}; its domain: {record.domain}.") from None
        if np.isfinite(value):
            return number(_exact(int(value) if isinstance(value, bool) else value, values), shape)
    spread = [broadcast_to(node, shape) for node in nodes]
    # Along an axis where no argument varies, the function is applied once and the value repeated.
    constant = [
        place for place in range(len(shape)) if shape[place] != 1 and all(is_repeated(node, place) for node in spread)
    ]
    if constant:
        kept = [place for place in range(len(shape)) if place not in constant]
        inner = Elementwise(record, tuple(without_axes(node, constant) for node in spread))
        return contract(1, [(inner, singles(kept))], singles(range(len(shape))), dict(enumerate(shape)))
    return Elementwise(record, tuple(spread))


def _exact(value: Any, inputs: list[Any]) -> Any:
    whole = isinstance(value, float) and value == int(value) and abs(value) < 2**53
    return int(value) if whole and all(isinstance(v, int) for v in inputs) else value


def function(
    name: str,
    numpy: str,
    derivative: Callable[..., Any],
    *,
    source: str,
    latex: str | None = None,
    sample: tuple[tuple[float, float], ...] = ((-2.0, 2.0),),
    domain: str = "all real numbers",
    same: tuple[Any, ...] = (),
    ufunc: str | None = None,
    operations: int = 1,
    truth: bool = False,
    calls: tuple[Routine, ...] = (),
    about: str,
) -> Callable[..., Expr]:
    """Make a record and the function that users call."""

    def rule(value: Expr, *arguments: Expr) -> tuple[Expr | None, ...]:
        found = derivative(value, *arguments)
        return found if isinstance(found, tuple) else (found,)

    record = ElementwiseRecord(
        name,
        len(sample),
        numpy,
        rule,
        source,
        latex or rf"\operatorname{{{name}}}",
        sample,
        domain,
        ufunc,
        operations,
        truth,
        calls,
    )
    elementwise_records[name] = record

    def call(*arguments: object) -> Expr:
        if len(arguments) != record.arity:
            raise UnsupportedError(
                f"{name} takes {record.arity} argument{'s' * (record.arity > 1)}, not {len(arguments)}."
            )
        if any(isinstance(argument, Liftable) for argument in arguments):
            return lifted(call, *arguments)
        return apply(record, *arguments)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = _docstring(record, about)
    functions[name] = call
    for numpy_function in same:
        array_functions[numpy_function] = call
    return call


def _docstring(record: ElementwiseRecord, about: str) -> str:
    """What a record says of its function, with an example: values beside NumPy's, the rule beside a difference."""
    names = ("x",) if record.arity == 1 else ("a", "b", "c")[: record.arity]
    points = [[low + (high - low) * part for part in (0.25, 0.5, 0.75)] for low, high in record.sample]
    call = f"td.{record.name}({', '.join(names)})"
    data = ", ".join(f"{name}={name}0" for name in names)
    setup = [
        "import numpy as np, tensordsl as td",
        *(f'{name} = td.vector("{name}", 3)' for name in names),
        *(f"{name}0 = np.array({point})" for name, point in zip(names, points, strict=True)),
    ]
    checks = [
        *([] if record.routines else [f"np.allclose({call}.evaluate({data}), {plain_source(record, names)})"]),
        *(f"td.check_derivative({call}, {name}, dict({data})) < 1e-6" for name in names),
    ]
    lines = [*(f">>> {line}" for line in setup), *(text for check in checks for text in (f">>> {check}", "True"))]
    errors = "" if record.arity == 1 else " Raises `ShapeError` where the shapes do not broadcast."
    return "\n".join([about, "", f"Domain: {record.domain}. Derivative: {record.source}.{errors}", "", *lines, ""])


def plain_source(record: ElementwiseRecord, names: tuple[str, ...]) -> str:
    return record.numpy.format(*(f"{name}0" for name in names))


def lifted(function: Callable[..., Expr], *arguments: object) -> Expr:
    """A function of index notation: what comes back is indexed, not an expression, as the operators know."""
    first = next(argument for argument in arguments if isinstance(argument, Liftable))
    return cast(Expr, first.lift(function, arguments))


def half(node: Expr) -> Expr:
    return scale(Fraction(1, 2), node)


def _power_rule(y: Expr, a: Expr, b: Expr) -> tuple[Expr | None, ...]:
    return multiply_all([b, power(a, b - 1)]), None if number_of(b) is not None else multiply_all(
        [y, functions["log"](a)]
    )


_power: Callable[..., Expr] = function(
    "power",
    "np.power({0}, {1})",
    _power_rule,
    sample=((0.5, 2.0), (-1.5, 2.5)),
    domain="positive bases; any base where the exponent is whole",
    ufunc="np.power",
    operations=20,
    latex=r"\operatorname{power}",
    source="d(aᵇ) = b aᵇ⁻¹ da + aᵇ log(a) db, DLMF 4.7.5",
    about="The power: out[i] = a[i] ** b[i].",
)


@public(np.square)
def square(x: object) -> Expr:
    """The square, entry by entry: out[i] = x[i]**2. Derivative: 2 x[i].

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.square(x) == x * x
    True
    """
    return power(x, 2)


@public(np.reciprocal)
def reciprocal(x: object) -> Expr:
    """The reciprocal, entry by entry: out[i] = 1/x[i]. Derivative: -1/x[i]². Raises `UnsupportedError` for zero.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.reciprocal(x) == 1 / x
    True
    """
    return power(x, -1)


@operation("power")
@public(np.power)
def power(base: object, exponent: object) -> Expr:
    """The power base ** exponent, entry by entry, broadcast: out[i] = base[i] ** exponent[i].

    A whole exponent from 0 to 4 is a product of equal factors. Otherwise d(aᵇ) = b aᵇ⁻¹ da + aᵇ log(a) db
    (DLMF 4.7.5), for a positive base, or any base where the exponent is a whole number. Raises `ShapeError` where the
    shapes do not broadcast.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> x**2 == x * x
    True
    """
    if isinstance(base, Liftable) or isinstance(exponent, Liftable):
        return lifted(power, base, exponent)
    a, b = as_expr(base), as_expr(exponent)
    value, from_number = number_of(b), number_of(a)
    shape = broadcast_shape([a, b], "Cannot raise to a power entry by entry")
    whole = whole_number(value)
    if whole is not None and 0 <= whole <= 4:
        return broadcast_to(multiply_all([a] * whole), shape) if whole else number(1, shape)
    if whole is not None and isinstance(from_number, int | Fraction):
        if from_number == 0 and whole < 0:
            raise UnsupportedError(f"Zero cannot be raised to the power {whole}.")
        digits = max(abs(Fraction(from_number).numerator), Fraction(from_number).denominator).bit_length()
        if digits * abs(whole) > LARGEST_BITS:
            raise UnsupportedError(f"The number {brief(a)} ** {brief(b)} is too large to be computed with.")
        return number(Fraction(from_number) ** whole, shape)
    inner = _reciprocal_of(a)
    if inner is not None and value == -1:
        return broadcast_to(inner, shape)
    return _power(a, b)


def whole_number(value: Number | None) -> int | None:
    """A number as an int, where it is a whole one."""
    if value is None or isinstance(value, complex) or not isfinite(value) or value != int(value):
        return None
    return int(value)


def _reciprocal_of(node: Expr) -> Expr | None:
    """x where node is 1/x."""
    if (
        isinstance(node, Elementwise)
        and node.record is elementwise_records["power"]
        and number_of(node.children[1]) == -1
    ):
        return node.children[0]
    return None


@operation("divide")
@public(np.divide)
def divide(a: object, b: object) -> Expr:
    """The quotient a / b, entry by entry, broadcast: out[i] = a[i] / b[i].

    Raises `UnsupportedError` for a division by the number zero, `ShapeError` where the shapes do not broadcast.
    Derivative: 1/b by a, -a/b² by b.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> print(td.jacobian(td.divide(1, x), x))
    -δ[i,j]/x[i]**2 -> [i,j]
    """
    if isinstance(a, Liftable) or isinstance(b, Liftable):
        return lifted(divide, a, b)
    above, below = as_expr(a), as_expr(b)
    value = number_of(below)
    if value == 0 or is_zero(below):
        raise UnsupportedError(f"Division of {brief(above)} by zero.")
    if value is not None:
        inverse = Fraction(1) / value if isinstance(value, int | Fraction) else 1 / value
        below = contract(inverse, [], singles(range(below.ndim)), dict(enumerate(below.shape)))
        return multiply_all([above, below], "Cannot divide entry by entry")
    return multiply_all([above, power(below, -1)], "Cannot divide entry by entry")
