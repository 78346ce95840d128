"""NumPy code as it is: a function run on symbols in place of arrays gives the expression that it computes."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from tensordsl.errors import TensorDSLError, UnsupportedError
from tensordsl.expr import array_functions, operation
from tensordsl.functions.convert import as_expr
from tensordsl.functions.linalg import linalg
from tensordsl.functions.record import functions
from tensordsl.parsing.parse import declared

# The Array API standard's names for functions that NumPy has another word for.
STANDARD_NAMES = {
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "concat": "concatenate",
    "permute_dims": "transpose",
    "pow": "power",
    "eye": "identity",
}

# What NumPy and Python raise where they are handed a symbol in the place of numbers.
FROM_NUMPY = (TypeError, AttributeError, ValueError, IndexError, TensorDSLError)
WAYS_OUT = {
    "item assignment": "Expressions do not change: join parts with np.concatenate, or choose with np.where.",
    "has no truth value": "Choose entry by entry with np.where.",
    "is not iterable": "Sum over an axis with np.sum, or loop over range(n) where the axis has n entries.",
    "is no number": "Use functions of NumPy, as np.exp in place of math.exp.",
    "interpreted as an integer": "Give the shape in numbers to count with its sizes, or use np.zeros_like.",
}


@operation("array_namespace")
@cache
def array_namespace() -> SimpleNamespace:
    """The functions of expressions under the names of NumPy and of the Array API standard."""
    named = {alias: functions[name] for alias, name in STANDARD_NAMES.items()}
    constants = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None}
    matrices = SimpleNamespace(**{**_numpy_names(np.linalg), **vars(linalg)})
    return SimpleNamespace(**{**_numpy_names(np), **functions, **named}, **constants, linalg=matrices)


def _numpy_names(module: Any) -> dict[str, Any]:
    """What functions of NumPy mean, by their names there."""
    return {f.__name__: meaning for f, meaning in array_functions.items() if getattr(module, f.__name__, module) is f}


def trace_function(f: Callable[..., Any], /, **shapes: Any) -> Any:
    """The expression that an ordinary function computes, written with `np.`: td.trace_function(f, x=(k,), A=(k, k)).

    f is called once, with a symbol for each argument named; a shape may be a symbol with its properties. A tuple gives
    a tuple. What depends on the values of the data (`if x > 0`, `float(x)`, a loop over x) has no expression: use
    `np.where`, `np.sum`. Code for the Array API standard (`xp = x.__array_namespace__()`) is traced as well. Raises
    `UnsupportedError` that says which call is not supported, in which line, and why.

    >>> import numpy as np, tensordsl as td
    >>> def energy(x, A):
    ...     return 0.5 * x @ A @ x + np.sum(np.log1p(np.exp(x)))
    >>> k = td.dim("k")
    >>> e = td.trace_function(energy, x=(k,), A=(k, k))
    >>> print(e)
    log1p(exp(x[i])) + 0.5*A[i,j]*x[i]*x[j]
    """
    try:
        known = inspect.signature(f).parameters
    except (TypeError, ValueError):
        known = {}  # type: ignore[assignment]
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    unknown = [name for name in shapes if known and name not in known and not open_ended]
    needed = [
        name
        for name, p in known.items()
        if p.default is inspect.Parameter.empty
        and p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and name not in shapes
    ]
    called = getattr(f, "__name__", "The function")
    if unknown or needed:
        words = [f"{name} is no argument of it" for name in unknown] + [f"{name} has no shape" for name in needed]
        raise UnsupportedError(
            f"{called} cannot be traced: {'; '.join(words)}. Give a shape for each argument: {', '.join(known)}."
        )
    try:
        found = f(**{name: declared(name, shape) for name, shape in shapes.items()})
    except FROM_NUMPY as error:
        line = _line_of(f, error)
        kind = type(error) if isinstance(error, TensorDSLError) else UnsupportedError
        raise kind(f"{called} cannot be traced{line}: {error}{_way_out(error)}") from error
    try:
        return tuple(map(as_expr, found)) if isinstance(found, tuple | list) else as_expr(found)
    except TensorDSLError as error:
        raise UnsupportedError(f"{called} cannot be traced: what it gives is no expression. {error}") from error


def _way_out(error: Exception) -> str:
    """What to write in place of what Python's own words say is not possible."""
    text = str(error)
    return next((f". {words}" for sign, words in WAYS_OUT.items() if sign in text), "")


def _line_of(f: Callable[..., Any], error: Exception) -> str:
    """The line of the function where it went wrong."""
    code = getattr(f, "__code__", None)
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if code is not None and frame.filename == code.co_filename]
    if not frames:
        return ""
    text = f" ({frames[-1].line})" if frames[-1].line else ""
    return f" beyond line {frames[-1].lineno}{text}"
