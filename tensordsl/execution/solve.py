"""Solving with a structured value: which of its labels are identities, blocks, factors, or of low rank, said in labels.

The solution is an expression in the cores and the right side, so that it is planned and run as any other. A value of
shape s + s maps the axes of its second half to those of its first. Both halves are opened into the same *atoms*, the
finest axes that all terms have in common, and each atom is looked at in turn.

- One that is a δ in every term is not solved for: it counts blocks if the cores vary along it, and columns of the
  right side if they do not. So the system of I ⊗ M is that of M, and a diagonal is divided by.
- One along which slices make blocks that no term joins is solved block by block.
- A single term falls apart into the factors of a Kronecker product, which are solved with one after the other.
- Terms whose halves are joined by few labels are of low rank. The others are solved with, and the Woodbury identity
  (B + U V)⁻¹ = B⁻¹ - B⁻¹ U (I + V B⁻¹ U)⁻¹ V B⁻¹ puts the low rank in.
- What is left is solved as a dense matrix where that is not much larger than the cores are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from math import prod
from typing import NamedTuple

from tensordsl.contraction import Operand, add_terms, as_operands, contract, is_zero
from tensordsl.dims import AnySize
from tensordsl.expr import Expr, Number, Select, Sum
from tensordsl.functions.arranging import concatenate
from tensordsl.functions.convert import identity
from tensordsl.functions.elementwise import divide
from tensordsl.functions.linalg import solve
from tensordsl.functions.operators import add, subtract
from tensordsl.labels import Groups, Label, flat, singles
from tensordsl.selections import places_of

DENSE_LIMIT = 4  # times the entries of the cores that a matrix to be solved with may have
Atoms = Sequence[int]
Range = tuple[int, int]


class NoSolution(Exception):
    """No way to solve is known that is cheap; or, where `singular`, the labels alone say that there is none."""

    def __init__(self, singular: bool = False) -> None:
        super().__init__()
        self.singular = singular


class Term(NamedTuple):
    """A term that maps the atoms of its columns to those of its rows, each a group of its own labels."""

    coefficient: Number
    operands: Sequence[Operand]
    rows: Groups
    columns: Groups
    sizes: Mapping[Label, AnySize]

    def to(self, output: Groups) -> Expr:
        """The product of the factors, to other axes."""
        alive = labels_of(self.operands).union(flat(output))
        return contract(self.coefficient, self.operands, output, {label: self.sizes[label] for label in alive})

    def part(self, operands: Sequence[Operand], coefficient: Number = 1) -> Term:
        return self._replace(operands=operands, coefficient=coefficient)

    def within(self, atoms: Atoms) -> Term:
        return self._replace(rows=take(self.rows, atoms), columns=take(self.columns, atoms))

    def is_delta(self, atom: int) -> bool:
        """Whether an atom of the rows is that of the columns, and its labels stand in no other."""
        sides = [*self.rows, *self.columns]
        return self.rows[atom] == self.columns[atom] and all(flat(sides).count(label) == 2 for label in self.rows[atom])

    def varies(self, atom: int) -> bool:
        return not labels_of(self.operands).isdisjoint(self.rows[atom])

    def restricted(self, atom: int, rows: Range, columns: Range) -> Iterator[Term]:
        """What the term has in a range of its rows and one of its columns, along an atom."""
        (row,), (column,), new = self.rows[atom], self.columns[atom], max(self.sizes) + 1
        slices = [
            Operand(Select(self.sizes[label], first, 1, end - first), ((new + side,), (label,)))
            for side, (label, (first, end)) in enumerate([(row, rows), (column, columns)])
        ]
        output = [*self.rows, *self.columns]
        output[atom], output[len(self.rows) + atom] = (new,), (new + 1,)
        sizes = {**self.sizes, new: rows[1] - rows[0], new + 1: columns[1] - columns[0]}
        term = self._replace(operands=[*self.operands, *slices], sizes=sizes)
        yield from terms_in(term.to(tuple(output)), len(self.rows))

    @property
    def entries(self) -> int:
        """How many numbers the factors hold."""
        return sum(count(node.shape) for node, _ in self.operands if not isinstance(node, Select))


def labels_of(operands: Iterable[Operand]) -> set[Label]:
    return {label for _, slots in operands for label in flat(slots)}


def take(groups: Groups, atoms: Atoms) -> Groups:
    return tuple(groups[atom] for atom in atoms)


def count(sizes: Iterable[AnySize]) -> int:
    """The product of sizes that are numbers, as those of cores are."""
    return prod(size for size in sizes if isinstance(size, int))


class Solution:
    """The solution as an expression, and the divisors in it, which must not be zero."""

    def __init__(self, shape: tuple[int, ...], terms: Sequence[Expr], right: Expr) -> None:
        half = len(shape) // 2
        self.divisors: list[Expr] = []
        splits = [common_split(shape[axis], splits_of(terms, (axis, half + axis))) for axis in range(half)]
        sizes: dict[Label, AnySize] = dict(enumerate(size for split in splits for size in split))
        atoms = range(len(sizes))
        labels = iter(atoms)
        axes = tuple(tuple(next(labels) for _ in split) for split in splits)
        more = tuple(range(len(sizes), len(sizes) + right.ndim - half))
        opened = [part for term in terms for part in opened_terms(term, axes, sizes)]
        sizes.update(zip(more, right.shape[half:], strict=True))
        flat_right = contract(1, [(right, (*axes, *singles(more)))], (*singles(atoms), more), sizes)
        found = self.solve(opened, flat_right)
        self.value = contract(1, [(found, (*singles(atoms), more))], (*axes, *singles(more)), sizes)

    def solve(self, terms: Sequence[Term], right: Expr) -> Expr:
        """The solution for a right side with an axis for each atom, and one more."""
        if not terms:
            raise NoSolution(singular=True)
        atoms = range(right.ndim - 1)
        deltas = [atom for atom in atoms if all(term.is_delta(atom) for term in terms)]
        idle = [atom for atom in deltas if not any(term.varies(atom) for term in terms)]
        rest = [atom for atom in atoms if atom not in deltas]
        if idle:
            return self.aside(terms, idle, right)
        if not rest:
            return self.divided(right, add_terms([term.to(term.rows) for term in terms], right.shape[:-1]), deltas)
        for atom in rest:
            found = self.by_ranges(terms, atom, right)
            if found is not None:
                return found
        if len(terms) == 1:
            return self.by_factors(terms[0], deltas, rest, right)
        if is_small(terms, deltas, rest, right):
            stack = [term.to(matrix_axes(term, deltas, rest, rest)) for term in terms]
            return Stage(right).solved(add_terms(stack, stack[0].shape), deltas, rest, rest).ordered()
        return self.by_low_rank(terms, deltas, rest, right)

    def aside(self, terms: Sequence[Term], idle: Atoms, right: Expr) -> Expr:
        """I ⊗ M: one system, with more columns."""
        every = singles(range(right.ndim))
        kept = [atom for atom in range(right.ndim - 1) if atom not in idle]
        axes, sizes = (*take(every, kept), (*idle, right.ndim - 1)), dict(enumerate(right.shape))
        found = self.solve([term.within(kept) for term in terms], contract(1, [(right, every)], axes, sizes))
        return contract(1, [(found, axes)], every, sizes)

    def divided(self, right: Expr, divisor: Expr, atoms: Atoms) -> Expr:
        self.divisors.append(divisor)
        axes = singles(range(right.ndim))
        return divide(right, contract(1, [(divisor, take(axes, atoms))], axes, dict(enumerate(right.shape))))

    def by_ranges(self, terms: Sequence[Term], atom: int, right: Expr) -> Expr | None:
        """The blocks that slices make along an atom, where no term joins two of them."""
        ranges = unjoined_ranges(terms, atom, count(right.shape[atom : atom + 1]))
        if len(ranges) < 2:
            return None
        every, size = singles(range(right.ndim)), right.shape[atom]
        solved = []
        for first, end in ranges:
            own = [part for term in terms for part in term.restricted(atom, (first, end), (first, end))]
            output = (*every[:atom], (right.ndim,), *every[atom + 1 :])
            sizes = {**dict(enumerate(right.shape)), right.ndim: end - first}
            piece = Select(size, first, 1, end - first), ((right.ndim,), (atom,))
            solved.append(self.solve(own, contract(1, [(right, every), piece], output, sizes)))
        return concatenate(solved, axis=atom)

    def by_factors(self, term: Term, blocks: Atoms, rest: Atoms, right: Expr) -> Expr:
        """The factors of a Kronecker product in turn; where there is none between two atoms, they change places."""
        shared = set(flat(take(term.rows, blocks)))
        alone = [operand for operand in term.operands if labels_of([operand]) <= shared]
        if alone or term.coefficient != 1:
            right = self.divided(right, term.part(alone, term.coefficient).to(take(term.rows, blocks)), blocks)
        stage = Stage(right)
        sides = [set(side[atom]) for side in (term.rows, term.columns) for atom in rest]
        for labels in connected([*(labels_of([operand]) - shared for operand in term.operands), *sides]):
            own = term.part([operand for operand in term.operands if labels & labels_of([operand])])
            rows, columns = ([atom for atom in rest if labels & set(side[atom])] for side in (term.rows, term.columns))
            if count(right.shape[atom] for atom in rows) != count(right.shape[atom] for atom in columns):
                raise NoSolution(singular=True)
            if not own.operands:
                stage.renamed(own, rows, columns)
                continue
            varying = [atom for atom in blocks if own.varies(atom)]
            if not is_small([own], varying, rows, right):
                raise NoSolution
            stage.solved(own.to(matrix_axes(own, varying, rows, columns)), varying, rows, columns)
        return stage.ordered()

    def by_low_rank(self, terms: Sequence[Term], blocks: Atoms, rest: Atoms, right: Expr) -> Expr:
        """The Woodbury identity: terms of low rank beside others that can be solved with."""
        thin, base = [], []
        for term in terms:
            halves = torn(term, blocks, rest)
            if halves is None:
                base.append(term)
            else:
                thin.append(halves)
        if not thin or not base:
            raise NoSolution
        down, across = concatenate([u for u, _ in thin], axis=-1), concatenate([v for _, v in thin], axis=-1)
        if count(down.shape[-1:]) > count(right.shape[atom] for atom in rest):
            raise NoSolution
        order = (*singles(blocks), tuple(rest), (right.ndim - 1,))  # stacks of matrices, a block in each
        u, v, y = (stacked(part, order) for part in (self.solve(base, down), across, self.solve(base, right)))
        weights = solve(add(identity(u.shape[-1]), v.mT @ u), v.mT @ y)
        sizes = dict(enumerate(right.shape))
        return contract(1, [(subtract(y, u @ weights), order)], singles(range(right.ndim)), sizes)


class Stage:
    """A right side on its way: each axis is an atom of the rows still, or one of the columns already."""

    def __init__(self, right: Expr) -> None:
        self.value = right
        self.sizes = right.shape
        self.axes = [(False, atom) for atom in range(right.ndim)]  # whether of the columns, and which; the last is none

    def solved(self, stack: Expr, blocks: Atoms, rows: Atoms, columns: Atoms) -> Stage:
        """Atoms of the columns in place of atoms of the rows, by solving with the matrices between them."""
        gone = [(False, atom) for atom in rows]
        stays = [(False, atom) for atom in blocks]
        others = [axis for axis in self.axes if axis not in gone and axis not in stays]
        come = [(True, atom) for atom in columns]
        labels = {axis: label for label, axis in enumerate(dict.fromkeys([*self.axes, *come]))}
        sizes = {label: self.sizes[atom] for (_, atom), label in labels.items()}
        first, rest = tuple((labels[axis],) for axis in stays), tuple(labels[axis] for axis in others)
        before = (*first, tuple(labels[axis] for axis in gone), rest)
        after = (*first, tuple(labels[axis] for axis in come), rest)
        right = contract(1, [(self.value, tuple((labels[axis],) for axis in self.axes))], before, alive(sizes, before))
        self.axes = [*stays, *come, *others]
        output = tuple((labels[axis],) for axis in self.axes)
        self.value = contract(1, [(solve(stack, right), after)], output, alive(sizes, after))
        return self

    def renamed(self, term: Term, rows: Atoms, columns: Atoms) -> None:
        """Atoms of the columns in place of atoms of the rows that have their labels."""
        labels = {(False, atom): term.rows[atom] for atom in rows} | {
            (True, atom): term.columns[atom] for atom in columns
        }
        sizes = {label: term.sizes[label] for group in labels.values() for label in group}
        others = [axis for axis in self.axes if axis not in labels]
        for label, axis in enumerate(others, max(sizes) + 1):
            labels[axis], sizes[label] = (label,), self.sizes[axis[1]]
        slots = tuple(labels[axis] for axis in self.axes)
        self.axes = [*((True, atom) for atom in columns), *others]
        self.value = contract(1, [(self.value, slots)], tuple(labels[axis] for axis in self.axes), sizes)

    def ordered(self) -> Expr:
        """The value, its axes in the order of the atoms."""
        order = sorted(range(len(self.axes)), key=lambda place: self.axes[place][1])
        labels = singles(range(len(self.axes)))
        return contract(1, [(self.value, labels)], take(labels, order), dict(enumerate(self.value.shape)))


# --- what is seen in labels ---------------------------------------------------------------------------------------


def splits_of(terms: Sequence[Expr], axes: Sequence[int]) -> Iterator[list[int]]:
    """The sizes of the labels that axes have in each term."""
    for term in terms:
        _, _, output, sizes = as_operands(term)
        for axis in axes:
            yield [count([sizes[label]]) for label in output[axis]]


def common_split(size: int, splits: Iterable[Sequence[int]]) -> list[int]:
    """The finest sizes that an axis can be opened into in all of these ways; the axis itself where they do not fit."""
    strides = {1, size}
    for split in splits:
        strides.update(prod(split[place:]) for place in range(len(split)))
    chain = sorted(strides, reverse=True)
    if any(larger % smaller for larger, smaller in pairwise(chain)):
        return [size]
    return [larger // smaller for larger, smaller in pairwise(chain)]


def opened_terms(node: Expr, axes: Groups, sizes: Mapping[Label, AnySize]) -> Iterator[Term]:
    """A term with an axis for each atom of its rows, then of its columns."""
    half = len(sizes)
    both = {**sizes, **{half + label: size for label, size in sizes.items()}}
    columns = tuple(tuple(half + label for label in axis) for axis in axes)
    opened = contract(1, [(node, (*axes, *columns))], singles(range(2 * half)), both)
    yield from terms_in(opened, half)


def terms_in(node: Expr, half: int) -> Iterator[Term]:
    """The terms of a tensor whose first axes are rows, and as many columns."""
    for part in node.terms if isinstance(node, Sum) else [node]:
        if not is_zero(part):
            coefficient, operands, output, sizes = as_operands(part)
            yield Term(coefficient, operands, output[:half], output[half:], sizes)


def unjoined_ranges(terms: Sequence[Term], atom: int, size: int) -> list[Range]:
    """An atom cut into ranges where slices begin and end, those put together that a term joins."""
    cuts = {0, size}
    for term in terms:
        if not len(term.rows[atom]) == len(term.columns[atom]) == 1:
            return []
        for node, slots in term.operands:
            if isinstance(node, Select) and slots[-1] in (term.rows[atom], term.columns[atom]):
                places = places_of(node)
                if not places:
                    return []
                cuts.update((min(places), max(places) + 1))
    ranges = list(pairwise(sorted(cuts)))
    if len(ranges) < 2:
        return ranges
    joined = [
        {p, q}
        for p, q in product(range(len(ranges)), repeat=2)
        if p == q or any(any(term.restricted(atom, ranges[p], ranges[q])) for term in terms)
    ]
    parts = sorted((sorted(part) for part in connected(joined)), key=min)
    if any(part != list(range(part[0], part[-1] + 1)) for part in parts):
        return []
    return [(ranges[part[0]][0], ranges[part[-1]][1]) for part in parts]


def matrix_axes(term: Term, blocks: Atoms, rows: Atoms, columns: Atoms) -> Groups:
    """The axes of a stack of matrices: blocks, then all rows as one axis, and all columns."""
    return (*take(term.rows, blocks), flat(take(term.rows, rows)), flat(take(term.columns, columns)))


def is_small(terms: Sequence[Term], blocks: Atoms, rows: Atoms, right: Expr) -> bool:
    """Whether the matrices between these atoms are not much larger than the cores that make them."""
    entries = count(right.shape[atom] for atom in blocks) * count(right.shape[atom] for atom in rows) ** 2
    return entries <= DENSE_LIMIT * sum(term.entries for term in terms)


def connected(sets: Iterable[set[Label]]) -> list[set[Label]]:
    """Sets that have labels in common as one."""
    found: list[set[Label]] = []
    for labels in sets:
        if labels:
            touching = [other for other in found if other & labels]
            found = [*(other for other in found if not other & labels), labels.union(*touching)]
    return found


def torn(term: Term, blocks: Atoms, rest: Atoms) -> tuple[Expr, Expr] | None:
    """A term as U V, few labels between them: U with the atoms of the rows, V with those of the columns."""
    up, down = (set(flat(take(side, rest))) for side in (term.rows, term.columns))
    if up & down or any(labels & up and labels & down for labels in (labels_of([o]) for o in term.operands)):
        return None
    right = [operand for operand in term.operands if labels_of([operand]) & down]
    left = [operand for operand in term.operands if operand not in right]
    between = tuple((labels_of(left) & labels_of(right)) - set(flat(take(term.rows, blocks))))
    return (
        term.part(left, term.coefficient).to((*term.rows, between)),
        term.part(right).to((*term.columns, between)),
    )


def stacked(node: Expr, order: Groups) -> Expr:
    return contract(1, [(node, singles(range(node.ndim)))], order, dict(enumerate(node.shape)))


def alive(sizes: Mapping[Label, AnySize], groups: Groups) -> dict[Label, AnySize]:
    return {label: sizes[label] for label in flat(groups)}
