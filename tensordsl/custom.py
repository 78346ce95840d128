"""Functions that users add: one decorator each, which makes a record like those of the library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensordsl.calculus import jacobian
from tensordsl.dims import Shape, check_name
from tensordsl.errors import UnsupportedError
from tensordsl.execution.check import check_derivative
from tensordsl.expr import Expr, Liftable, Primitive, symbol
from tensordsl.functions.convert import as_expr
from tensordsl.functions.elementwise import apply, lifted
from tensordsl.functions.record import (
    ElementwiseRecord,
    PrimitiveRecord,
    elementwise_records,
    functions,
    primitive_records,
)

Interval = tuple[float, float]
_own: set[str] = set()  # names that users defined, and may define anew


def elementwise(
    *,
    derivative: Callable[..., Any],
    sample: Interval | Sequence[Interval] = (0.5, 2.0),
    name: str | None = None,
    latex: str | None = None,
    domain: str = "all real numbers",
    source: str = "as its author gives it",
    check: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Expr]]:
    """Make a function of NumPy arrays, entry by entry, one of expressions: out[i] = f(x[i], ...).

    `derivative(value, *arguments)` gives, as expressions, the derivative by each argument (a tuple for several; None
    where it is zero); `value` is the result itself. It then prints, parses, broadcasts, differentiates and runs as the
    library's own. Its derivative is compared with differences on `sample`, an interval for each argument, when it is
    defined, unless `check=False`. The function must be whole in itself but for `np`, since `to_python` hands its source
    on.

    Raises `UnsupportedError` for a name of the library, `DerivativeError` where the derivative is wrong.

    >>> import numpy as np, tensordsl as td
    >>> @td.elementwise(derivative=lambda y, x: y + td.sigmoid(x) * (1 - y))
    ... def swish(x):
    ...     return x / (1 + np.exp(-x))
    >>> x = td.vector("x", 3)
    >>> print(td.grad(td.sum(swish(x)), x))
    sigmoid(x[i])*(1 - swish(x[i])) + swish(x[i]) -> [i]
    >>> td.parse("swish(x)", x=x) == swish(x)
    True
    """

    def define(function: Callable[..., Any]) -> Callable[..., Expr]:
        called = _name(function, name)
        arity = len(inspect.signature(function).parameters)
        intervals: list[Any] = list(sample) if isinstance(sample[0], tuple | list) else [sample]
        intervals = intervals * arity if len(intervals) == 1 else intervals
        if arity == 0 or len(intervals) != arity:
            raise UnsupportedError(f"{called} takes {arity} arguments, but sample has {len(intervals)} intervals.")

        def rule(value: Expr, *arguments: Expr) -> tuple[Expr | None, ...]:
            found = derivative(value, *arguments)
            slopes = found if isinstance(found, tuple) else (found,)
            if len(slopes) != arity:
                raise UnsupportedError(f"The derivative of {called} has {len(slopes)} parts for {arity} arguments.")
            return tuple(None if slope is None else as_expr(slope) for slope in slopes)

        record = ElementwiseRecord(
            called,
            arity,
            f"{function.__name__}({', '.join(f'{{{place}}}' for place in range(arity))})",
            rule,
            source,
            latex or rf"\operatorname{{{called}}}",
            tuple(intervals),
            domain,
            routines=(function,),
            version=_version(called, elementwise_records),
        )

        def call(*arguments: object) -> Expr:
            if len(arguments) != arity:
                raise UnsupportedError(f"{called} takes {arity} arguments, not {len(arguments)}.")
            if any(isinstance(argument, Liftable) for argument in arguments):
                return lifted(call, *arguments)
            return apply(record, *arguments)

        _register(called, call, function)
        elementwise_records[called] = record
        if check:
            symbols = [symbol(f"a{place}", 5) for place in range(arity)]
            data = {s: np.linspace(low, high, 7)[1:-1] for s, (low, high) in zip(symbols, intervals, strict=True)}
            _check(called, call(*symbols), symbols, data)
        return call

    return define


def primitive(
    *,
    shape: Callable[..., Shape],
    jacobian: Callable[..., Expr] | None = None,
    push: Callable[..., Expr] | None = None,
    pull: Callable[..., Expr] | None = None,
    sample: Sequence[Any] | None = None,
    axes: int = 2,
    name: str | None = None,
    latex: str | None = None,
    domain: str = "all real arrays",
    source: str = "as its author gives it",
) -> Callable[[Callable[..., Any]], Callable[..., Expr]]:
    """Make a function of whole NumPy arrays one of expressions; `shape(*shapes)` is the shape of its value.

    Its rule is `jacobian(value, place)`, an expression of the shape of the value followed by that of the argument at
    `place`; or both `push(value, place, tangent)` and `pull(value, place, adjoint)`, which map a differential of the
    argument to that of the value and an adjoint of the value to that of the argument, stacked along any axes in front.
    The arguments are `value.children`. With `sample`, an array for each argument, the rule is compared with differences
    when it is defined.

    Raises `UnsupportedError` for a name of the library or without a rule, `DerivativeError` where the rule is wrong.

    >>> import numpy as np, tensordsl as td
    >>> @td.primitive(
    ...     shape=lambda shape: shape,
    ...     jacobian=lambda y, place: td.tril(td.ones(3, 3)),
    ...     axes=1,
    ...     sample=[np.array([1.0, 2.0, 4.0])],
    ... )
    ... def running_sum(x):
    ...     return np.cumsum(x)
    >>> x = td.vector("x", 3)
    >>> td.grad(running_sum(x)[1], x).evaluate()
    array([1., 1., 0.])
    """

    def define(function: Callable[..., Any]) -> Callable[..., Expr]:
        called = _name(function, name)
        arity = len(inspect.signature(function).parameters)
        if jacobian is None and (push is None or pull is None):
            raise UnsupportedError(f"{called} has no rule: give jacobian=, or both push= and pull=.")
        record = PrimitiveRecord(
            called,
            arity,
            f"{function.__name__}({', '.join(f'{{{place}}}' for place in range(arity))})",
            shape,
            source,
            latex or rf"\operatorname{{{called}}}",
            jacobian,
            push,
            pull,
            domain=domain,
            axes=axes,
            routines=(function,),
            version=_version(called, primitive_records),
        )

        def call(*arguments: object) -> Expr:
            if len(arguments) != arity:
                raise UnsupportedError(f"{called} takes {arity} arguments, not {len(arguments)}.")
            return Primitive(record, tuple(map(as_expr, arguments)))

        _register(called, call, function)
        primitive_records[called] = record
        if sample is not None:
            symbols = [symbol(f"a{place}", *np.shape(array)) for place, array in enumerate(sample)]
            _check(called, call(*symbols), symbols, dict(zip(symbols, sample, strict=True)))
        return call

    return define


def _name(function: Callable[..., Any], name: str | None) -> str:
    called = check_name(name or function.__name__, "a function", "def swish(x)")
    if called in functions and called not in _own:
        raise UnsupportedError(f"{called} is a function of the library; give yours another name, name='my_{called}'.")
    return called


def _version(called: str, records: Any) -> int:
    return records[called].version + 1 if called in records else 0


def _register(called: str, call: Callable[..., Expr], function: Callable[..., Any]) -> None:
    call.__name__ = call.__qualname__ = called
    call.__doc__ = function.__doc__
    functions[called] = call
    _own.add(called)


def _check(called: str, value: Expr, symbols: Sequence[Any], data: Any) -> None:
    """Compare the rule with differences; a function whose rule is wrong is not left behind."""
    try:
        for argument in symbols:
            check_derivative(value, argument, data)
            jacobian(value, argument)
    except Exception:
        functions.pop(called, None)
        _own.discard(called)
        raise
