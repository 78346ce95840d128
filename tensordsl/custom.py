"""Functions that users add: one decorator each, which makes a record like those of the library.

A definition is checked before anything knows of it, so that one that fails leaves what was there as it was.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tensordsl.calculus import jvp, vjp
from tensordsl.dims import Shape, check_name, check_size, evaluate
from tensordsl.errors import DerivativeError, ShapeError, TensorDSLError, UnsupportedError, show_shape
from tensordsl.execution.check import check_derivative
from tensordsl.execution.compiled import compile as compile_function
from tensordsl.expr import Expr, Liftable, Primitive, Symbol, symbol
from tensordsl.functions.convert import as_expr
from tensordsl.functions.elementwise import apply, lifted
from tensordsl.functions.operators import broadcast_shape, broadcast_to
from tensordsl.functions.record import (
    ElementwiseRecord,
    PrimitiveRecord,
    elementwise_records,
    functions,
    primitive_records,
)

Interval = tuple[float, float]
Function = Callable[..., Any]
Record = TypeVar("Record", ElementwiseRecord, PrimitiveRecord)

_own: set[str] = set()  # names that users defined, and may define anew
_attempts: Counter[str] = Counter()  # definitions of each name, so that no two have one version
POINTS = 7  # at which a derivative is compared with differences


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

    def define(function: Function) -> Callable[..., Expr]:
        called = _name(function, name, latex=latex, domain=domain, source=source)
        arity = _arity(function, called)
        intervals = _intervals(sample, arity, called)
        record = ElementwiseRecord(
            called,
            arity,
            _call_of(called, arity),
            _slopes(derivative, arity, called),
            source,
            latex or _latex(called),
            intervals,
            domain,
            routines=(_routine(function, called),),
            version=_version(called),
        )

        def call(*arguments: object) -> Expr:
            _check_count(called, arity, arguments)
            if any(isinstance(argument, Liftable) for argument in arguments):
                return lifted(call, *arguments)
            return apply(record, *arguments)

        if check:
            rng = np.random.default_rng(0)  # other points for each argument: a rule may be right where they are equal
            arrays = [low + (high - low) * rng.uniform(0.1, 0.9, POINTS) for low, high in intervals]
            _check_values(
                called, function, arrays, (POINTS,), "Entry by entry it is the same; td.primitive takes others."
            )
            _check_rule(called, call, arrays)
        return _registered(call, record, function, elementwise_records)

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

    def define(function: Function) -> Callable[..., Expr]:
        called = _name(function, name, latex=latex, domain=domain, source=source)
        arity = _arity(function, called)
        if jacobian is None and (push is None or pull is None):
            raise UnsupportedError(f"{called} has no rule: give jacobian=, or both push= and pull=.")
        if isinstance(axes, bool) or not isinstance(axes, int) or axes < 0:
            raise UnsupportedError(f"axes={axes!r} of {called}: expected how many trailing axes it is a function of.")
        record = PrimitiveRecord(
            called,
            arity,
            _call_of(called, arity),
            _shapes(shape, called),
            source,
            latex or _latex(called),
            None if jacobian is None else _jacobian(jacobian, called),
            None if push is None else _push(push, called),
            None if pull is None else _pull(pull, called),
            domain=domain,
            axes=axes,
            routines=(_routine(function, called),),
            version=_version(called),
        )

        def call(*arguments: object) -> Expr:
            _check_count(called, arity, arguments)
            return Primitive(record, tuple(map(as_expr, arguments)))

        if sample is not None:
            arrays = _arrays(sample, arity, called)
            shapes = record.shape(*[array.shape for array in arrays])
            _check_values(called, function, arrays, shapes, "That is what its shape= says.")
            _check_rule(called, call, arrays)
        return _registered(call, record, function, primitive_records)

    return define


# --- what is asked of a definition --------------------------------------------------------------------------------


def _name(function: Function, name: str | None, **texts: object) -> str:
    if not callable(function):
        raise UnsupportedError(f"{function!r} is no function: decorate one of NumPy arrays, as in def swish(x): ...")
    given = name if name is not None else getattr(function, "__name__", "<lambda>")
    if given == "<lambda>":
        raise UnsupportedError("A function without a name of its own needs one: give name='swish'.")
    called = check_name(given, "a function", "def swish(x)")
    if called in functions and called not in _own:
        raise UnsupportedError(f"{called} is a function of the library; give yours another name, name='my_{called}'.")
    for word, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise UnsupportedError(f"{word}={text!r} of {called} is no text.")
    return called


def _arity(function: Function, called: str) -> int:
    """How many arrays a function takes: each of its arguments is one, and must be given."""
    if isinstance(function, np.ufunc):
        return function.nin
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise UnsupportedError(f"{called} does not say its arguments: wrap it in a function that names them.") from None
    for argument, p in parameters.items():
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) or p.default is not p.empty:
            what = "has a default" if p.default is not p.empty else f"is {p.kind.description}"
            raise UnsupportedError(
                f"The argument {argument} of {called} {what}; expected are arguments that are arrays, with a place "
                f"each, as in def {called}(a, b). Fix what is no array inside the function."
            )
    if not parameters:
        raise UnsupportedError(f"{called} takes no arguments; expected is a function of one array or several.")
    return len(parameters)


def _intervals(sample: Any, arity: int, called: str) -> tuple[Interval, ...]:
    """An interval for each argument; one that is given alone is that of all."""
    try:
        found = np.asarray(sample, dtype=float)
    except (TypeError, ValueError):
        found = np.empty(0)
    found = np.tile(found, (arity, 1)) if found.shape == (2,) else found
    if (
        found.ndim != 2
        or found.shape[1] != 2
        or not np.all(np.isfinite(found))
        or not np.all(found[:, 0] < found[:, 1])
    ):
        raise UnsupportedError(
            f"sample={sample!r} of {called}: expected an interval with its lower end first, (0.5, 2.0), or a list of "
            "one for each argument."
        )
    if len(found) != arity:
        raise UnsupportedError(f"sample of {called} has {len(found)} intervals, but it takes {_arguments(arity)}.")
    return tuple((float(low), float(high)) for low, high in found)


def _arrays(sample: Any, arity: int, called: str) -> list[Any]:
    """The arrays of a sample, one for each argument."""
    given = list(sample) if isinstance(sample, tuple | list) else []
    try:
        arrays = [np.asarray(array, dtype=float) for array in given]
    except (TypeError, ValueError):
        arrays = []
    if len(arrays) != arity:
        raise UnsupportedError(
            f"The sample of {called} is no list of arrays of real numbers, one for each argument: it takes "
            f"{_arguments(arity)}, as in sample=[{', '.join(['np.array([1.0, 2.0])'] * arity)}]."
        )
    return arrays


def _check_count(called: str, arity: int, arguments: Sequence[object]) -> None:
    if len(arguments) != arity:
        raise UnsupportedError(f"{called} takes {_arguments(arity)}, not {len(arguments)}.")


def _arguments(count: int) -> str:
    return f"{count} argument{'s' * (count != 1)}"


# --- the parts of a record ----------------------------------------------------------------------------------------


def _call_of(called: str, arity: int) -> str:
    """The source of a call, whose name is that of the routine in its program."""
    return f"{{{called}}}({', '.join(f'{{{place}}}' for place in range(arity))})"


def _latex(called: str) -> str:
    escaped = called.replace("_", r"\_")
    return rf"\operatorname{{{escaped}}}"


def _routine(function: Function, called: str) -> Function:
    """The function under the name it is called by; its source is that of the function."""

    @functools.wraps(function, assigned=())
    def routine(*arrays: Any) -> Any:
        return function(*arrays)

    routine.__name__ = routine.__qualname__ = called
    return routine


def _version(called: str) -> int:
    _attempts[called] += 1
    return _attempts[called] - 1


def _rule(rule: Any, word: str, called: str, given: str) -> Function:
    """A rule as its author wrote it; where it fails, the error says whose it is and what it was given."""
    if not callable(rule):
        raise UnsupportedError(f"{word}={rule!r} of {called}: expected a function of {given}.")

    def run(*arguments: Any) -> Any:
        try:
            return rule(*arguments)
        except TensorDSLError as error:
            error.add_note(f"This is from {word}= of {called}.")
            raise
        except Exception as error:
            raise UnsupportedError(
                f"{word}= of {called} fails: {type(error).__name__}: {error}. It is called with {given}."
            ) from error

    return run


def _expression(found: Any, word: str, called: str) -> Expr:
    try:
        return as_expr(found)
    except TensorDSLError as error:
        raise UnsupportedError(f"{word}= of {called} gives no expression: {error}") from None


def _of_shape(found: Any, shape: Shape, word: str, called: str) -> Expr:
    node = _expression(found, word, called)
    if node.shape != shape:
        raise ShapeError(
            f"{word}= of {called} gives an expression of shape {show_shape(node.shape)}; expected {show_shape(shape)}."
        )
    return node


def _slopes(derivative: Any, arity: int, called: str) -> Callable[..., tuple[Expr | None, ...]]:
    run = _rule(derivative, "derivative", called, "the value and each argument, all expressions of one shape")

    def slope(found: Any, value: Expr) -> Expr | None:
        if found is None:
            return None
        node = _expression(found, "derivative", called)
        if broadcast_shape([value, node], f"derivative= of {called} does not fit the value") != value.shape:
            return _of_shape(node, value.shape, "derivative", called)
        return broadcast_to(node, value.shape)

    def slopes(value: Expr, *arguments: Expr) -> tuple[Expr | None, ...]:
        found = run(value, *arguments)
        parts = found if isinstance(found, tuple) else (found,)
        if len(parts) != arity:
            raise UnsupportedError(
                f"derivative= of {called} gives {len(parts)} part{'s' * (len(parts) != 1)} for {_arguments(arity)}: "
                "expected a tuple with one for each, None where it is zero."
            )
        return tuple(slope(part, value) for part in parts)

    return slopes


def _shapes(shape: Any, called: str) -> Callable[..., Shape]:
    run = _rule(shape, "shape", called, "the shape of each argument, and gives the shape of the value")

    def shapes(*given: Shape) -> Shape:
        found = run(*given)
        if not isinstance(found, tuple | list):
            raise UnsupportedError(f"shape= of {called} gives {found!r}; expected a tuple of sizes, () for a number.")
        return tuple(map(check_size, found))

    return shapes


def _jacobian(rule: Any, called: str) -> Callable[[Expr, int], Expr]:
    run = _rule(rule, "jacobian", called, "the value and the place of the argument")

    def jacobian(value: Expr, place: int) -> Expr:
        return _of_shape(run(value, place), (*value.shape, *value.children[place].shape), "jacobian", called)

    return jacobian


def _push(rule: Any, called: str) -> Callable[[Expr, int, Expr], Expr]:
    run = _rule(rule, "push", called, "the value, the place of the argument and its differential")

    def push(value: Expr, place: int, tangent: Expr) -> Expr:
        stack = tangent.shape[: tangent.ndim - value.children[place].ndim]
        return _of_shape(run(value, place, tangent), (*stack, *value.shape), "push", called)

    return push


def _pull(rule: Any, called: str) -> Callable[[Expr, int, Expr], Expr]:
    run = _rule(rule, "pull", called, "the value, the place of the argument and the adjoint of the value")

    def pull(value: Expr, place: int, adjoint: Expr) -> Expr:
        stack = adjoint.shape[: adjoint.ndim - value.ndim]
        return _of_shape(run(value, place, adjoint), (*stack, *value.children[place].shape), "pull", called)

    return pull


# --- the check, and what follows it -------------------------------------------------------------------------------


def _check_values(called: str, function: Function, arrays: Sequence[Any], shape: Shape, why: str) -> None:
    """That the function of arrays gives real numbers in the shape it should have."""
    try:
        found = np.asarray(function(*arrays))
    except Exception as error:
        raise UnsupportedError(
            f"{called} fails on its sample, arrays of the shapes {', '.join(show_shape(a.shape) for a in arrays)}: "
            f"{type(error).__name__}: {error}."
        ) from error
    if found.dtype.kind not in "biuf":
        raise UnsupportedError(f"{called} gives {found.dtype} on its sample; expected real numbers.")
    if found.shape != shape:
        raise ShapeError(
            f"{called} gives an array of shape {show_shape(found.shape)} on its sample; expected {show_shape(shape)}. "
            f"{why}"
        )


def _check_rule(called: str, call: Callable[..., Expr], arrays: Sequence[Any]) -> None:
    """Compare the rule with differences, forwards and backwards."""
    symbols = [symbol(f"a{place}", *array.shape) for place, array in enumerate(arrays)]
    value, data = call(*symbols), dict(zip(symbols, arrays, strict=True))
    try:
        for argument in symbols:
            check_derivative(value, argument, data)
            _check_directions(called, value, argument, data)
    except DerivativeError as error:
        raise DerivativeError(f"{called} is left undefined. {error} The data are from sample=.") from None


def _check_directions(called: str, value: Expr, argument: Symbol, data: Mapping[Symbol, Any]) -> None:
    """That the forward sweep is the transpose of the reverse one: w · (J v) = (Jᵀ w) · v."""
    v, w = symbol("v", *argument.shape), symbol("w", *value.shape)
    rng = np.random.default_rng(1)
    directions = {s: rng.uniform(0.5, 1.5, [evaluate(size, {}) for size in s.shape]) for s in (v, w)}
    forward = compile_function(jvp(value, argument, v))({**data, **directions})
    backward = compile_function(vjp(value, argument, w))({**data, **directions})
    one, other = np.vdot(directions[w], forward), np.vdot(directions[v], backward)
    if not np.isclose(one, other, rtol=1e-6, atol=1e-9):
        raise DerivativeError(
            f"The forward and the reverse derivative of {called} by its argument {argument.name[1:]} differ: along one "
            f"direction they are {one:.6g} and {other:.6g}. push= and pull= must be transposes of each other."
        )


def _registered(
    call: Callable[..., Expr], record: Record, function: Function, records: dict[str, Record]
) -> Callable[..., Expr]:
    """Let texts, printers and programs know the function, in the place of an earlier one of that name."""
    call.__name__ = call.__qualname__ = record.name
    call.__doc__ = function.__doc__
    for table in (elementwise_records, primitive_records):
        table.pop(record.name, None)
    records[record.name] = record
    functions[record.name] = call
    _own.add(record.name)
    return call
