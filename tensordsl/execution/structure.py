"""Structures: all of a structured value but its numbers, and what is found out about it once for all of them.

A structured value is an expression in its cores. What is computed from one (its entries, products with arrays, the
solution of a linear system, its sparse forms) is a compiled function of the cores, planned once for each structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tensordsl.contraction import add_terms, contract
from tensordsl.dims import AnySize, Dim, evaluate
from tensordsl.execution.layout import Layout, lay_out
from tensordsl.execution.pattern import Rows, coordinates, rows_of
from tensordsl.execution.solve import Solution
from tensordsl.expr import Expr, Symbol
from tensordsl.labels import Label, flat, singles

Function = Callable[..., Any]
Compile = Callable[[Any], Function]  # an expression, or several, to a function of arrays by name

LETTERS = "ijklmnpqrstuvwxyzabcdefgh"


class Structure:
    """All of a structured value but its numbers. What is found out about it is kept for the values that share it."""

    def __init__(self, shape: tuple[int, ...], layouts: Sequence[Layout], compile: Compile) -> None:
        self.shape = shape
        self.layouts = tuple(layouts)
        self.compile = compile
        self._products: dict[object, Function] = {}
        self._solvers: dict[int, Function] = {}
        shapes = {
            place: tuple(layout.sizes[label] for label in labels)
            for layout in self.layouts
            for place, labels in zip(layout.cores, layout.slots, strict=True)
        }
        self.cores = tuple(Symbol(f"_core{place}", shapes[place]) for place in sorted(shapes))

    @cached_property
    def terms(self) -> tuple[Expr, ...]:
        """The terms as expressions in the cores."""
        return tuple(contract(t.coefficient, t.operands(self.cores), t.output, t.sizes) for t in self.layouts)

    @cached_property
    def dense(self) -> Function:
        """The entries."""
        return self.compile(add_terms(self.terms, self.shape))

    @cached_property
    def transposed(self) -> Structure:
        """The structure of the value with its axes in reverse."""
        turned = Structure(self.shape[::-1], [t.turned() for t in self.layouts], self.compile)
        turned.__dict__["transposed"] = self
        return turned

    @cached_property
    def numbers(self) -> tuple[complex, ...]:
        """What the dtype of a value hangs on beside its cores."""
        bare = [layout.coefficient for layout in self.layouts if not layout.cores]
        return tuple(n if isinstance(n, complex) or (isinstance(n, int) and abs(n) < 2**63) else float(n) for n in bare)

    def product(self, ndim: int, axes: int, left: bool) -> Function:
        """The products with an array of `ndim` axes, of which `axes` are summed over: the first ones, or the last."""
        key = (ndim, axes, left)
        if key not in self._products:
            order = len(self.shape)
            mine = list(range(order))
            free = list(range(order, order + ndim - axes))
            labels = [*free, *mine[:axes]] if left else [*mine[order - axes :], *free]
            output = [*free, *mine[axes:]] if left else [*mine[: order - axes], *free]
            sizes: dict[Label, AnySize] = dict(enumerate(self.shape))
            sizes.update({label: Dim(f"_free{label}") for label in free})
            other = Symbol("_other", tuple(sizes[label] for label in labels))
            found = [
                contract(1, [(t, singles(mine)), (other, singles(labels))], singles(output), sizes) for t in self.terms
            ]
            shape = tuple(sizes[label] for label in output)
            self._products[key] = self.compile(add_terms(found, shape))
        return self._products[key]

    def solver(self, ndim: int) -> Function:
        """The solution of linear systems whose right side has `ndim` axes."""
        if ndim not in self._solvers:
            half = len(self.shape) // 2
            free = tuple(Dim(f"_free{axis}") for axis in range(half, ndim))
            found = Solution(self.shape, self.terms, Symbol("_other", (*self.shape[:half], *free)))
            self._solvers[ndim] = self.compile((found.value, *found.divisors))
        return self._solvers[ndim]

    @cached_property
    def whole(self) -> tuple[Function | None, ...]:
        """For each term of several cores, the function that multiplies them out."""
        return tuple(self._whole(layout) for layout in self.layouts)

    def _whole(self, layout: Layout) -> Function | None:
        if len(layout.cores) < 2:
            return None
        sizes = {label: layout.sizes[label] for label in flat(layout.slots)}
        return self.compile(contract(1, layout.dense(self.cores), singles(layout.bound), sizes))

    @cached_property
    def coordinates(self) -> tuple[Any, ...]:
        """The place of each entry along each axis, as a COO array has them."""
        return coordinates(self.layouts, self.shape)

    @cached_property
    def rows(self) -> Rows:
        """The pattern of a CSR array, and where in it the entries of each term go."""
        return rows_of(self.layouts, (self.shape[0], self.shape[1]))


def structure_of(node: Expr, sizes: Mapping[str, int], compile: Compile) -> tuple[list[Expr], Structure]:
    """The expressions of the cores of a value, and its structure."""
    cores, layouts = lay_out(node, sizes)
    return cores, Structure(tuple(evaluate(size, sizes) for size in node.shape), layouts, compile)


def text_of(layout: Layout) -> str:
    """A term in index notation, its cores numbered: `C0[i,j] -> [i,j,i]`."""
    names: dict[Label, str] = {}
    rows = [row for _, row in layout.scatter.values() if row is not None]
    for label in (*(la for la in flat(layout.output) if la not in layout.scatter), *rows, *flat(layout.slots)):
        names.setdefault(label, LETTERS[len(names) % len(LETTERS)])

    def shown(label: Label) -> str:
        if label not in layout.scatter:
            return names[label]
        select, row = layout.scatter[label]
        if row is None:
            return str(select.start)
        if select.positions is not None:
            return f"p({names[row]})"
        step = "" if select.step == 1 else f"{select.step}*"
        return f"{select.start}+{step}{names[row]}"

    cores = [
        f"C{place}[{','.join(names[label] for label in labels)}]" if labels else f"C{place}"
        for place, labels in zip(layout.cores, layout.slots, strict=True)
    ]
    if layout.coefficient != 1 or not cores:
        cores.insert(0, str(layout.coefficient))
    axes = ["(" + " ".join(map(shown, group)) + ")" if len(group) != 1 else shown(group[0]) for group in layout.output]
    return f"{'*'.join(cores)} -> [{','.join(axes)}]"
