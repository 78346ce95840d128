"""What is said of a function in one place: value, shape, derivative with its source, tokens, domain, sample range.

Exports, parser names, printers, NumPy dispatch and the gradient checks all read these records and the tables here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import numpy as np

from tensordsl.dims import Shape
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, array_functions

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
Routine = Callable[..., Any]  # written in NumPy (and SciPy), whole in itself, so that its source can be handed on

functions: dict[str, Callable[..., Any]] = {}  # the names that users and the text grammar know


@dataclass(frozen=True, eq=False)
class ElementwiseRecord:
    """A function applied entry by entry.

    `derivative(value, *arguments)` gives ∂f/∂argument for each argument, entry by entry, as expressions; `value` is
    the node itself, which many rules can use again.
    """

    name: str
    arity: int
    numpy: str  # the NumPy source, with {0}, {1}, ... for the arguments, {erf} for a routine of that name
    derivative: Callable[..., tuple[Expr | None, ...]]  # None: no derivative by this argument, it is zero
    source: str  # where the rule comes from
    latex: str
    sample: tuple[tuple[float, float], ...]  # an interval of arguments where the derivative is checked
    domain: str = "all real numbers"
    ufunc: str | None = None  # the NumPy ufunc that writes into `out=`, when the source is one call of it
    operations: int = 1  # floating-point operations for each entry, roughly
    truth: bool = False  # whether the value is true or false, not a number
    routines: tuple[Routine, ...] = ()  # functions that the source calls by name
    version: int = 0  # of a function that its user defined anew

    def __reduce__(self) -> tuple[Any, ...]:
        return _elementwise_record, (self.name,)

    def value(self, *arguments: Any) -> Any:
        """The function of numbers or arrays."""
        return _function(self.numpy, self.arity, self.routines)(*arguments)


@cache
def _function(source: str, arity: int, routines: tuple[Routine, ...]) -> Callable[..., Any]:
    names = [f"a{place}" for place in range(arity)]
    called = {routine.__name__: f"r{place}" for place, routine in enumerate(routines)}
    code = f"lambda {', '.join(names)}: {source.format(*names, **called)}"
    known = {"np": np, **{f"r{place}": routine for place, routine in enumerate(routines)}}
    return eval(code, known)  # type: ignore[no-any-return]  # noqa: S307 - a record's own source, never a text


@dataclass(frozen=True, eq=False)
class PrimitiveRecord:
    """A function of whole vectors or matrices, which may be stacked along leading axes.

    Its rule is one of two. `jacobian(node, place)` gives the local Jacobian by the argument at `place`, as an
    expression of the shape of the value followed by the shape of the argument; stacked axes appear as a δ. Where the
    rule is a map of matrices rather than a product with them, as that of the exponential is, `push(node, place,
    tangent)` maps a differential of the argument to that of the value, and `pull(node, place, adjoint)` an adjoint of
    the value to that of the argument, both stacked along any axes in front.
    """

    name: str
    arity: int
    numpy: str
    shape: Callable[..., Shape]
    source: str
    latex: str
    jacobian: Callable[[Expr, int], Expr] | None = None
    push: Callable[[Expr, int, Expr], Expr] | None = None
    pull: Callable[[Expr, int, Expr], Expr] | None = None
    flops: Callable[..., Any] = field(default=lambda *sizes: 0)  # of the sizes of the first argument
    domain: str = "all real matrices"
    axes: int = 2  # how many trailing axes of an argument the function is of; those in front stack it
    options: tuple[tuple[str, int], ...] = ()  # what a call of it must say where there are more axes than that
    symmetric: bool = False  # whether its value is symmetric where its argument is
    routines: tuple[Routine, ...] = ()  # functions that the source calls by name
    version: int = 0  # of a function that its user defined anew

    def __reduce__(self) -> tuple[Any, ...]:
        return _primitive_record, (self.name,)


elementwise_records: dict[str, ElementwiseRecord] = {}
primitive_records: dict[str, PrimitiveRecord] = {}


def _elementwise_record(name: str) -> ElementwiseRecord:
    return _known(name, elementwise_records)


def _primitive_record(name: str) -> PrimitiveRecord:
    return _known(name, primitive_records)


def _known(name: str, records: dict[str, R]) -> R:
    """The record of an expression that comes from elsewhere: one of a function that users add may be missing here."""
    if name not in records:
        raise UnsupportedError(f"There is no function {name} here: define it before the expression is loaded.")
    return records[name]


def public(*same: Any, name: str | None = None) -> Callable[[F], F]:
    """Register a function under its name, as the meaning of the NumPy functions given as well."""

    def register(function: F) -> F:
        functions[name or function.__name__.rstrip("_")] = function
        for numpy_function in same:
            array_functions[numpy_function] = function
        return function

    return register
