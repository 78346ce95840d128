"""Index notation: `(A[i, j] * x[i] * x[j]).tensor(i, j)`.

An indexed term is a tensor and a name for each of its axes. Products unify equal names, sums keep their terms apart,
so that an index that `.tensor(...)` does not name is summed over its own term only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensordsl.contraction import add_terms, contract, scale
from tensordsl.dims import AnySize, product
from tensordsl.errors import ParseError, ShapeError, UnsupportedError, show_shape
from tensordsl.expr import Expr, Liftable, Select, array_functions, brief, operation, operations
from tensordsl.functions.convert import as_expr, check_position
from tensordsl.functions.elementwise import divide, power
from tensordsl.functions.record import functions
from tensordsl.labels import Group, Groups, singles


class Index:
    """A name for an axis."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def indices(names: str) -> Any:
    """Indices for index notation: `i, j = td.indices("i j")`; one index for one name.

    >>> import tensordsl as td
    >>> i, j = td.indices("i j")
    >>> A, x = td.matrix("A", 2, 3), td.vector("x", 3)
    >>> (A[i, j] * x[j]).tensor(i) == A @ x
    True
    """
    if not isinstance(names, str):
        raise ParseError(f"{names!r} names no indices: expected a text, as in td.indices('i j').")
    found = tuple(Index(name) for name in names.replace(",", " ").split())
    return found[0] if len(found) == 1 else found


class Term(NamedTuple):
    """A tensor and the names of its axes, all different."""

    node: Expr
    names: tuple[Index, ...]


class Indexed(Liftable):
    """A sum of indexed terms: what index notation builds until `.tensor(...)` makes a tensor of it."""

    __slots__ = ("terms",)
    __array_priority__ = 1001.0

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)

    def tensor(self, *names: Index | tuple[Index, ...]) -> Expr:
        """The tensor whose axes are `names`, in that order; every other index is summed over its term.

        A pair of indices, as in `.tensor((j, i))`, is one axis, the first index the slowest.
        """
        axes = [name if isinstance(name, tuple) else (name,) for name in names]
        wanted = [name for axis in axes for name in axis]
        if len(set(wanted)) < len(wanted):
            raise ShapeError(
                f"The index {next(n for n in wanted if wanted.count(n) > 1)} is named twice in "
                f".tensor{tuple(names)}: write td.diag(...) for a diagonal, or name it once."
            )
        sizes = self.sizes()
        for name in wanted:
            if name not in sizes:
                raise ShapeError(
                    f"The index {name} of .tensor(...) stands in no term; known are "
                    f"{', '.join(n.name for n in sizes) or 'none'}. Multiply by td.ones(...)[{name}]."
                )
        numbers = {name: place for place, name in enumerate(dict.fromkeys([*wanted, *sizes]))}
        output = tuple(tuple(numbers[n] for n in axis) for axis in axes)
        shape = tuple(product(sizes[n] for n in axis) for axis in axes)
        terms = []
        for node, own in self.terms:
            slots = singles(numbers[n] for n in own)
            live = {numbers[n]: sizes[n] for n in {*own, *wanted}}
            terms.append(contract(1, [(node, slots)], output, live))
        return add_terms(terms, shape)

    def sizes(self) -> dict[Index, AnySize]:
        """The size of each index; `ShapeError` where one has two."""
        found: dict[Index, AnySize] = {}
        for node, names in self.terms:
            for name, size in zip(names, node.shape, strict=True):
                if found.setdefault(name, size) != size:
                    raise ShapeError(
                        f"The index {name} has the size {found[name]} in one place and {size} in another, "
                        f"as an axis of {brief(node)} of shape {show_shape(node.shape)}. "
                        "Use another index there.",
                        (found[name], size),
                    )
        return found

    def whole(self) -> Term:
        """All terms as one, broadcast to the union of their indices: a product or function applies to the whole."""
        if len(self.terms) == 1:
            return self.terms[0]
        names = tuple(self.sizes())
        spread = [self._spread(term, names) for term in self.terms]
        return Term(add_terms(spread, spread[0].shape), names)

    def _spread(self, term: Term, names: tuple[Index, ...]) -> Expr:
        """A term broadcast to `names`."""
        sizes, numbers = self.sizes(), {name: place for place, name in enumerate(names)}
        return contract(
            1,
            [(term.node, singles(numbers[n] for n in term.names))],
            singles(range(len(names))),
            {numbers[n]: sizes[n] for n in names},
        )

    def sum_over(self, over: Any) -> Indexed:
        """The sum over some indices of all terms together, where it must be written: inside a function."""
        gone = set(over) if isinstance(over, tuple | list) else {over}
        sizes = self.sizes()
        for name in gone:
            if name not in sizes:
                raise ShapeError(
                    f"The index {name} of a sum stands in no term of it; known are "
                    f"{', '.join(n.name for n in sizes) or 'none'}."
                )
        numbers = {name: place for place, name in enumerate(sizes)}
        summed = []
        for node, own in self.terms:
            here = tuple(n for n in own if n not in gone)
            live = {numbers[n]: sizes[n] for n in {*own, *gone}}
            slots = singles(numbers[n] for n in own)
            summed.append(Term(contract(1, [(node, slots)], singles(numbers[n] for n in here), live), here))
        return Indexed(summed)

    def lift(self, function: Callable[..., Expr], arguments: tuple[Any, ...]) -> Indexed:
        """A function entry by entry: its arguments are broadcast to the union of their indices."""
        parts = [as_indexed(argument).whole() for argument in arguments]
        together = Indexed(parts)
        names = tuple(together.sizes())
        return Indexed([Term(function(*[together._spread(part, names) for part in parts]), names)])

    def __mul__(self, other: Any) -> Indexed:
        parts = [self.whole(), as_indexed(other).whole()]
        sizes = Indexed(parts).sizes()
        numbers = {name: place for place, name in enumerate(sizes)}
        node = contract(
            1,
            [(part.node, singles(numbers[n] for n in part.names)) for part in parts],
            singles(numbers.values()),
            {numbers[n]: size for n, size in sizes.items()},
        )
        return Indexed([Term(node, tuple(sizes))])

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Indexed:
        return Indexed([*self.terms, *as_indexed(other).terms])

    def __radd__(self, other: Any) -> Indexed:
        return as_indexed(other) + self

    def __neg__(self) -> Indexed:
        return Indexed([Term(scale(-1, node), names) for node, names in self.terms])

    def __sub__(self, other: Any) -> Indexed:
        return self + (-as_indexed(other))

    def __rsub__(self, other: Any) -> Indexed:
        return as_indexed(other) + (-self)

    def __truediv__(self, other: Any) -> Indexed:
        return self.lift(divide, (self, other))

    def __rtruediv__(self, other: Any) -> Indexed:
        return self.lift(divide, (other, self))

    def __pow__(self, other: Any) -> Indexed:
        return self.lift(power, (self, other))

    def __rpow__(self, other: Any) -> Indexed:
        return self.lift(power, (other, self))

    def __gt__(self, other: Any) -> Indexed:
        return self.lift(functions["greater"], (self, other))

    def __lt__(self, other: Any) -> Indexed:
        return self.lift(functions["less"], (self, other))

    def __ge__(self, other: Any) -> Indexed:
        return self.lift(functions["greater_equal"], (self, other))

    def __le__(self, other: Any) -> Indexed:
        return self.lift(functions["less_equal"], (self, other))

    def __and__(self, other: Any) -> Indexed:
        return self.lift(operations["and"], (self, other))

    def __rand__(self, other: Any) -> Indexed:
        return self.lift(operations["and"], (other, self))

    def __or__(self, other: Any) -> Indexed:
        return self.lift(operations["or"], (self, other))

    def __ror__(self, other: Any) -> Indexed:
        return self.lift(operations["or"], (other, self))

    def __invert__(self) -> Indexed:
        return self.lift(operations["not"], (self,))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        known: dict[Any, Callable[..., Any]] = {
            np.add: operator.add,
            np.subtract: operator.sub,
            np.multiply: operator.mul,
            np.negative: operator.neg,
        }
        function = known.get(ufunc) or array_functions.get(ufunc)
        if method != "__call__" or kwargs or function is None:
            raise UnsupportedError(f"np.{ufunc.__name__} has no meaning for an indexed term here.")
        if ufunc in known:
            inputs = tuple(as_indexed(value) for value in inputs)
        return function(*inputs)

    def __abs__(self) -> Indexed:
        return self.lift(functions["abs"], (self,))

    def __bool__(self) -> bool:
        raise TypeError("An indexed term has no truth value.")

    def __repr__(self) -> str:
        free = ", ".join(n.name for n in self.sizes())
        return f"<indexed by {free or 'nothing'}; make it a tensor with .tensor({free})>"


def as_indexed(value: Any) -> Indexed:
    if isinstance(value, Indexed):
        return value
    node = as_expr(value)
    if node.ndim:
        raise UnsupportedError(
            f"{brief(node)} of shape {show_shape(node.shape)} stands without indices beside an indexed "
            "term: write an index for each axis, as in A[i, j]."
        )
    return Indexed([Term(node, ())])


@operation("is_indices")
def is_indices(keys: Sequence[Any]) -> bool:
    return any(isinstance(k, Index) or (isinstance(k, tuple) and any(isinstance(n, Index) for n in k)) for k in keys)


@operation("indexed")
def indexed(node: Expr, keys: Sequence[Any]) -> Indexed:
    """`A[i, 0]`, `A[i, i]`, `v[(j, i)]`: one key for each axis, an index, a position, or a group of indices."""
    if len(keys) != node.ndim:
        raise ShapeError(
            f"{brief(node)} of shape {show_shape(node.shape)} takes {node.ndim} indices, not "
            f"{len(keys)}: {', '.join(map(str, keys))}."
        )
    names: dict[Index, int] = {}
    sizes: dict[int, AnySize] = {}
    slots: list[Group] = []
    operands: list[tuple[Expr, Groups]] = []
    for key, size in zip(keys, node.shape, strict=True):
        if isinstance(key, Index):
            label = names.setdefault(key, len(names) + 1000)
            if sizes.setdefault(label, size) != size:
                raise ShapeError(
                    f"The index {key} stands on axes of the sizes {sizes[label]} and {size} of "
                    f"{brief(node)}, whose shape is {show_shape(node.shape)}. Use two indices.",
                    (sizes[label], size),
                )
            slots.append((label,))
        elif isinstance(key, slice | tuple):
            raise UnsupportedError(
                f"{brief(node)}[{key!r}]: an index and a slice do not go together; "
                "take the slice first, then index what it gives."
            )
        else:
            label = len(operands)
            sizes[label] = size
            operands.append((Select(size, check_position(key, size)), ((label,),)))
            slots.append((label,))
    operands.append((node, tuple(slots)))
    return Indexed([Term(contract(1, operands, singles(names.values()), sizes), tuple(names))])
