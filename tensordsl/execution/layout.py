"""Layouts: an expression as dense cores and the labels around them, so that what is kept is as small as it can be.

A term of a sum is a product of factors. Factors are multiplied, and sums over labels made, as long as that makes the
term no larger: A_ij x_j is one core, the Kronecker product of two matrices is two, and so is the product of two thin
matrices. What is structure (deltas, ones, groups, scattered slices) stays labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import NamedTuple

from tensordsl.contraction import Operand, add_terms, as_operands, contract, is_structured, is_zero
from tensordsl.dims import AnySize, evaluate
from tensordsl.expr import Expr, Number, Pattern, Select, Sum
from tensordsl.labels import Groups, Label, flat, rename, singles

Scatter = Mapping[Label, tuple[Select, Label | None]]


@dataclass(frozen=True)
class Layout:
    """One term: its coefficient times a product of cores, summed over what the output does not name.

    A label of the output that stands in no core is ones; one that stands twice is a δ; one in `scatter` is the column
    of a selection, and entries go to the places that the rows of the selection take.
    """

    coefficient: Number
    cores: tuple[int, ...]  # the places of the cores among all of a value
    slots: tuple[tuple[Label, ...], ...]  # the labels of their axes
    output: Groups
    sizes: Mapping[Label, int]
    scatter: Scatter

    @property
    def axes(self) -> tuple[Label, ...]:
        """The labels along which the term has entries: those of its output, rows of selections for their columns."""
        found = (self.scatter[label][1] if label in self.scatter else label for label in flat(self.output))
        return tuple(dict.fromkeys(label for label in found if label is not None))

    @property
    def bound(self) -> tuple[Label, ...]:
        """The labels along which the entries vary."""
        within = set(flat(self.slots))
        return tuple(label for label in self.axes if label in within)

    def turned(self) -> Layout:
        """The term with its axes in reverse."""
        return replace(self, output=self.output[::-1])

    def operands(self, cores: Sequence[Expr]) -> list[Operand]:
        """The factors of the term as an expression in its cores."""
        return [*self.dense(cores), *_selections(self.scatter)]

    def dense(self, cores: Sequence[Expr]) -> list[Operand]:
        return [Operand(cores[place], singles(slots)) for place, slots in zip(self.cores, self.slots, strict=True)]


def _selections(scatter: Scatter) -> list[Operand]:
    return [
        Operand(select, singles((column,) if row is None else (row, column)))
        for column, (select, row) in scatter.items()
    ]


class _Term(NamedTuple):
    """A term while it is laid out: the factors of each core, labels named in the order in which the output has them."""

    coefficient: Number
    parts: list[list[Operand]]
    output: Groups
    sizes: dict[Label, AnySize]
    scatter: Scatter

    @property
    def kept(self) -> set[Label]:
        rows = {row for _, row in self.scatter.values() if row is not None}
        return {label for label in flat(self.output) if label not in self.scatter} | rows

    @property
    def bound(self) -> set[Label]:
        return labels_of(operand for part in self.parts for operand in part)


def labels_of(operands: Iterable[Operand]) -> set[Label]:
    return {label for _, slots in operands for label in flat(slots)}


def lay_out(node: Expr, sizes: Mapping[str, int]) -> tuple[list[Expr], list[Layout]]:
    """The cores of an expression, and how its terms are made of them. `sizes` are the numbers behind the dimensions."""
    terms = [_term(part, sizes) for part in _summands(node) if not is_zero(part)]
    groups: dict[object, list[_Term]] = {}
    for term in terms:
        key = (term.output, tuple(term.scatter.items()), tuple(term.sizes[label] for label in flat(term.output)))
        groups.setdefault(key, []).append(term)
    cores: list[Expr] = []
    layouts = []
    for members in groups.values():
        for term in _merged(members, sizes):
            numbers = {label: evaluate(size, sizes) for label, size in term.sizes.items()}
            own, slots = _cores(term, numbers)
            places = tuple(range(len(cores), len(cores) + len(own)))
            coefficient = 1 if own else term.coefficient
            scatter = {column: (_numeric(select, sizes), row) for column, (select, row) in term.scatter.items()}
            alive = {label: numbers[label] for label in (*flat(term.output), *term.kept, *flat(slots))}
            layouts.append(Layout(coefficient, places, slots, term.output, alive, scatter))
            cores += own
    return cores, layouts


def _summands(node: Expr) -> list[Expr]:
    """The terms of a sum; a sum inside it is an array of its own, unless that would be nearly all zeros."""
    if not isinstance(node, Sum):
        return [node]
    return [
        part
        for term in node.terms
        for part in (_summands(term) if isinstance(term, Sum) and is_structured(term) else [term])
    ]


def _term(node: Expr, known: Mapping[str, int]) -> _Term:
    coefficient, operands, output, sizes = as_operands(node)
    scatter: dict[Label, tuple[Select, Label | None]] = {}
    inside = []
    for operand in operands:
        factor, slots = operand
        *row, column = flat(slots) or (None,)
        taken = {*scatter, *(its_row for _, its_row in scatter.values())}
        plain = len(row) == factor.ndim - 1 and not taken & {column, *row} and column not in row
        if isinstance(factor, Select) and plain and column in flat(output):
            scatter[column] = (factor, row[0] if row else None)
        else:
            inside.append(operand)
    names: dict[Label, Label] = {}
    rows = [row for _, row in scatter.values() if row is not None]
    for label in (*flat(output), *rows, *sizes):
        names.setdefault(label, len(names))
    output = rename(output, names)
    sizes = {names[label]: size for label, size in sizes.items()}
    scatter = {names[c]: (select, None if row is None else names[row]) for c, (select, row) in scatter.items()}
    inside = [Operand(factor, rename(slots, names)) for factor, slots in inside]
    inside = [_sliced(operand, scatter, sizes) for operand in inside]
    term = _Term(coefficient, [], output, sizes, scatter)
    bound, kept = labels_of(inside), term.kept
    for label in sizes:
        if label not in bound and label not in kept and label not in scatter:  # summed, and in no factor
            coefficient = coefficient * evaluate(sizes[label], known)
    numbers = {label: evaluate(size, known) for label, size in sizes.items()}
    return term._replace(coefficient=coefficient, parts=_separated(inside, kept, numbers))


def _sliced(operand: Operand, scatter: Scatter, sizes: dict[Label, AnySize]) -> Operand:
    """A factor on a scattered axis, at the places where entries go: its axis is then the row of the selection."""
    touched = [label for label in dict.fromkeys(flat(operand.slots)) if label in scatter]
    if not touched:
        return operand
    inner = {label: len(sizes) + place for place, label in enumerate(touched)}
    local = {**sizes, **{new: sizes[label] for label, new in inner.items()}}
    names = {label: inner.get(label, label) for label in flat(operand.slots)}
    moved: list[tuple[Expr, Groups]] = [(operand.node, rename(operand.slots, names))]
    for label in touched:
        select, row = scatter[label]
        moved.append((select, singles((inner[label],) if row is None else (row, inner[label]))))
    output = [label for label in dict.fromkeys(names.values()) if label not in inner.values()]
    output += [row for label in touched if (row := scatter[label][1]) is not None and row not in output]
    used = labels_of(Operand(*part) for part in moved)
    return Operand(contract(1, moved, singles(output), {la: local[la] for la in used}), singles(output))


def _separated(operands: Sequence[Operand], kept: set[Label], numbers: Mapping[Label, int]) -> list[list[Operand]]:
    """The factors in groups: those stand together whose product is no larger than they are."""
    parts = [[operand] for operand in operands]

    def entries(part: Sequence[Operand], others: Sequence[Sequence[Operand]]) -> int:
        outside = kept.union(*map(labels_of, others))
        return prod(numbers[label] for label in labels_of(part) & outside)

    if parts and entries(operands, []) <= sum(entries([o], [[p] for p in operands if p is not o]) for o in operands):
        return [list(operands)]
    while len(parts) > 1:
        found = []
        for p, q in combinations(range(len(parts)), 2):
            others = [part for place, part in enumerate(parts) if place not in (p, q)]
            together = entries([*parts[p], *parts[q]], others)
            apart = entries(parts[p], [*others, parts[q]]) + entries(parts[q], [*others, parts[p]])
            found.append((apart - together, -together, p, q))
        gain, _, p, q = max(found)
        if gain < 0:
            break
        parts = [*(part for place, part in enumerate(parts) if place not in (p, q)), [*parts[p], *parts[q]]]
    return parts


def _merged(members: list[_Term], known: Mapping[str, int]) -> list[_Term]:
    """Terms of one structure as one, its core the sum of theirs, where that is no larger than they are."""
    if len(members) == 1:
        return members
    first = members[0]
    numbers = {la: evaluate(size, known) for term in members for la, size in term.sizes.items() if la in term.kept}
    labels = sorted({label for term in members for label in term.bound & term.kept})
    apart = 0
    for term in members:
        own = {label: evaluate(size, known) for label, size in term.sizes.items()}
        apart += sum(prod(own[label] for label in slots) for slots in _slots(term))
    if prod(numbers[label] for label in labels) > apart:
        return members
    sizes = {label: first.sizes[label] for label in labels}
    whole = [
        _core(term.coefficient, [operand for part in term.parts for operand in part], labels, {**term.sizes, **sizes})
        for term in members
    ]
    core = add_terms(whole, tuple(sizes.values()))
    return [first._replace(coefficient=1, parts=[[Operand(core, singles(labels))]])]


def _slots(term: _Term) -> list[list[Label]]:
    """The labels of the axes that each core has, in the order that its factor of most axes lies in."""
    found = []
    for place, part in enumerate(term.parts):
        elsewhere = term.kept.union(*(labels_of(other) for p, other in enumerate(term.parts) if p != place))
        ranked = sorted(part, key=lambda operand: -len(flat(operand.slots)))
        found.append([la for la in dict.fromkeys(la for _, slots in ranked for la in flat(slots)) if la in elsewhere])
    return found


def _cores(term: _Term, numbers: Mapping[Label, int]) -> tuple[list[Expr], tuple[tuple[Label, ...], ...]]:
    """The cores of a term as expressions; the smallest takes the coefficient."""
    slots = _slots(term)
    entries = [prod(numbers[label] for label in labels) for labels in slots]
    cores = [
        _core(term.coefficient if place == entries.index(min(entries)) else 1, part, labels, term.sizes)
        for place, (part, labels) in enumerate(zip(term.parts, slots, strict=True))
    ]
    return cores, tuple(map(tuple, slots))


def _core(
    coefficient: Number, part: Sequence[Operand], labels: Sequence[Label], sizes: Mapping[Label, AnySize]
) -> Expr:
    used = labels_of(part).union(labels)
    return contract(coefficient, part, singles(labels), {label: sizes[label] for label in used})


def _numeric(select: Select, sizes: Mapping[str, int]) -> Select:
    """The selection with numbers for its sizes."""
    positions = select.positions
    if isinstance(positions, Pattern):
        positions = replace(positions, size=evaluate(positions.size, sizes))
    length = None if select.length is None else evaluate(select.length, sizes)
    return Select(evaluate(select.axis_size, sizes), evaluate(select.start, sizes), select.step, length, positions)
