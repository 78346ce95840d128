"""Cutting: an expression as pieces of arrays, so that a piece of its value is made of pieces of the data.

Every axis of every array that is read or made carries a label of one universe, and a label is cut into tiles in the
same way wherever it stands. What is done entry by entry needs the same piece of each argument; a contraction is a sum
over the tiles of the labels that it sums over. What cannot be cut, a function of a whole matrix, is one tile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import NamedTuple, TypeGuard

from tensordsl.contraction import add_terms, contract, number_of, split_structure
from tensordsl.dims import AnySize, Dim, evaluate
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Number, Primitive, Select, Sum, Symbol
from tensordsl.labels import Groups, Label, flat, is_plain, singles
from tensordsl.program.paths import cost, path

GAIN = 1.5  # how much less work products that are made before others must be


class Place(NamedTuple):
    """Where an axis stands: at start + step*i for each i of a label, or at start alone."""

    label: Label | None
    start: int = 0
    step: int = 1

    def taken(self, start: int, step: int) -> Place:
        """The place on an axis of which this one goes along a slice."""
        return Place(self.label, start + step * self.start, step * self.step)


Axis = tuple[Place, ...]  # the places of a group of labels, the slowest first; none for an axis of size 1


@dataclass(frozen=True)
class Read:
    """A piece of an array under the name that it has in the expression of a tile; `array` is what it is a piece of."""

    name: str
    array: str
    axes: tuple[Axis, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(place.label for axis in self.axes for place in axis if place.label is not None)


@dataclass(frozen=True)
class Part:
    """A sum over the tiles of the labels `summed`: each adds the value of `expr` of what it reads."""

    name: str
    expr: Expr
    labels: tuple[Label, ...]
    summed: tuple[Label, ...]
    reads: tuple[Read, ...]

    @property
    def is_product(self) -> bool:
        """Whether each term is a product of two pieces as they are read, so that its rows can be made apart."""
        if not isinstance(self.expr, Contraction) or len(self.expr.factors) != 2:
            return False
        return all(isinstance(factor, Symbol) for factor in self.expr.factors)


@dataclass(frozen=True)
class Stage:
    """An array that is made tile by tile: of its parts, and of what is read beside them."""

    name: str
    axes: tuple[Axis, ...]
    parts: tuple[Part, ...]
    expr: Expr
    reads: tuple[Read, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(dict.fromkeys(flat(self.every_axis)))

    @property
    def every_axis(self) -> Groups:
        """The labels of each axis, those of a group the slowest first."""
        return tuple(tuple(place.label for place in axis if place.label is not None) for axis in self.axes)

    @property
    def is_sum(self) -> bool:
        """Whether a tile is the sum of one part, and nothing done with it."""
        return len(self.parts) == 1 and isinstance(self.expr, Symbol) and self.expr.name == self.parts[0].name

    @property
    def every_read(self) -> tuple[Read, ...]:
        return (*self.reads, *(read for part in self.parts for read in part.reads))


def tile_size(label: Label) -> Dim:
    """The length of a tile, in the expression of one."""
    return Dim(f"_t{label}")


class _NotCutError(Exception):
    """Where a piece of a value is not made of pieces alone."""


class Cutter:
    """Cuts expressions; what several of them need is made once, in a stage of its own, before them."""

    def __init__(self, numbers: Mapping[str, int], taken: Collection[str] = ()) -> None:
        self._taken = set(taken)  # names of data, which no stage has
        self.sizes: dict[Label, int] = {}
        self.uncut: set[Label] = set()
        self.kin: list[tuple[Label, Label]] = []  # labels that are cut alike
        self.along: list[tuple[Label, Label]] = []  # those of one axis, seen where it is made and where it is read
        self.stages: list[Stage] = []
        self.constants: dict[str, Constant] = {}
        self._numbers = numbers
        self._fresh = count()
        self._made: dict[Expr, Stage] = {}

    # --- stages ---------------------------------------------------------------------------------------------------

    def stage(self, node: Expr) -> Stage:
        """The stage that makes a value, and before it those that it needs."""
        if node not in self._made:
            found = self._stage(node, next(name for name in map("_s{}".format, self._fresh) if name not in self._taken))
            self._made[node] = found
            self.stages.append(found)
        return self._made[node]

    def _stage(self, node: Expr, name: str) -> Stage:
        if isinstance(node, Primitive):
            return self._whole(node, name, [self._leaf(child) for child in node.children])
        axes = self.axes(node)
        work = _Work([], [])
        before = len(self.stages)
        try:
            expr = self._spine(node, axes, work)
        except _NotCutError:
            del self.stages[before:]
            self._made = {made: stage for made, stage in self._made.items() if stage in self.stages}
            return self._whole(node, name, None)
        return Stage(name, axes, tuple(work.parts), expr, tuple(work.reads))

    def axes(self, node: Expr) -> tuple[Axis, ...]:
        """New labels for the axes of a node, but for those that are of size 1 whatever the data are."""
        return tuple(() if size == 1 else (Place(self.label(evaluate(size, self._numbers))),) for size in node.shape)

    def label(self, size: int) -> Label:
        label = next(self._fresh)
        self.sizes[label] = size
        return label

    def _leaf(self, node: Expr) -> Expr:
        """A node that is an array of its own."""
        return node if isinstance(node, Symbol | Constant) else Symbol(self.stage(node).name, node.shape)

    def _whole(self, node: Expr, name: str, leaves: Sequence[Expr] | None) -> Stage:
        """The stage of one tile, which reads the whole of each array that it needs."""
        if leaves is None:
            leaves = sorted(node.symbols, key=lambda s: s.order)
            expr = node
        else:
            assert isinstance(node, Primitive)
            expr = Primitive(node.record, tuple(leaves))
        reads = []
        for leaf in dict.fromkeys(leaves):
            if isinstance(leaf, Symbol):
                axes: tuple[Axis, ...] = tuple(
                    (Place(self.label(evaluate(size, self._numbers))),) for size in leaf.shape
                )
                self.uncut.update(place.label for axis in axes for place in axis if place.label is not None)
                reads.append(Read(leaf.name, leaf.name, axes))
        own = self.axes(node)
        self.uncut.update(place.label for axis in own for place in axis if place.label is not None)
        return Stage(name, own, (), expr, tuple(reads))

    # --- pieces ---------------------------------------------------------------------------------------------------

    def _spine(self, node: Expr, axes: tuple[Axis, ...], work: _Work) -> Expr:
        """A piece of a node above which all is done entry by entry: its sums are parts of the same tile."""
        if isinstance(node, Elementwise):
            return Elementwise(node.record, tuple(self._spine(child, axes, work) for child in node.children))
        if isinstance(node, Sum):
            parts: list[Part] = []
            found = []
            for term in node.terms:
                if _is_part(term):
                    parts = self._added(parts, term, axes)
                else:
                    found.append(self._spine(term, axes, work))
            work.parts.extend(parts)
            return add_terms([*found, *(Symbol(part.name, self._shape(axes)) for part in parts)], self._shape(axes))
        if _is_part(node):
            work.parts.append(self._part(node, axes))
            return Symbol(work.parts[-1].name, self._shape(axes))
        if isinstance(node, Contraction) and _sums(node):  # what is repeated around it is not summed for each tile
            return self._around(node, axes, work.reads)
        if isinstance(node, Contraction):
            return self._product(*_parts(node), axes, work.reads, work)[0]
        return self._cut(node, axes, work.reads)

    def _part(self, node: Contraction, axes: tuple[Axis, ...]) -> Part:
        """A contraction that sums, as a part of a tile."""
        reads: list[Read] = []
        expr, summed = self._product(*_parts(self._pairwise(node)), axes, reads)
        return Part(f"_p{next(self._fresh)}", expr, _labels(axes), summed, tuple(reads))

    def _added(self, parts: Sequence[Part], node: Contraction, axes: tuple[Axis, ...]) -> list[Part]:
        """Parts of one sum with a contraction added: to one of them, where both go once through a piece of one array.

        What is read for one is there for the other. Products of matrices, which read more than once, stay apart.
        """
        part = self._part(node, axes)
        for other in parts if _is_bound(node) else ():
            alike = (self._alike(part, read, other, its) for read in part.reads for its in other.reads)
            labels = next((labels for labels in alike if labels), None)
            if labels is not None:
                self._forget(part.summed)
                reads = list(other.reads)
                expr, _ = self._product(*_parts(self._pairwise(node)), axes, reads, summing=iter(labels))
                both = replace(other, expr=add_terms([other.expr, expr], self._shape(axes)), reads=tuple(reads))
                return [both if each is other else each for each in parts]
        return [*parts, part]

    def _alike(self, part: Part, read: Read, other: Part, its: Read) -> list[Label] | None:
        """The labels of another part for those that a part sums over, where both read one piece that has all labels."""
        if read.array != its.array or set(read.labels) != {*part.labels, *part.summed}:
            return None
        names = dict(zip(read.labels, its.labels, strict=False))
        names = {label: names.get(label, label) if label in part.summed else label for label in read.labels}
        axes = tuple(
            tuple(p if p.label is None else p._replace(label=names[p.label]) for p in axis) for axis in read.axes
        )
        summed = [names[label] for label in part.summed]
        same = all(self.sizes[one] == self.sizes[two] for one, two in zip(part.summed, summed, strict=True))
        return summed if same and axes == its.axes and sorted(summed) == sorted(other.summed) else None

    def _forget(self, labels: Collection[Label]) -> None:
        """Labels that nothing has any more."""
        self.along = [pair for pair in self.along if set(labels).isdisjoint(pair)]
        self.uncut -= set(labels)
        for label in labels:
            del self.sizes[label]

    def _cut(self, node: Expr, axes: tuple[Axis, ...], reads: list[Read]) -> Expr:
        """A piece of a node, its axes those labels of the places that are labels."""
        if isinstance(node, Symbol | Constant):
            return self._read(node, axes, reads)
        if isinstance(node, Elementwise):
            return Elementwise(node.record, tuple(self._cut(child, axes, reads) for child in node.children))
        if isinstance(node, Sum):
            return add_terms([self._cut(term, axes, reads) for term in node.terms], self._shape(axes))
        if isinstance(node, Contraction) and not _sums(node):
            return self._product(*_parts(node), axes, reads)[0]
        if isinstance(node, Contraction):
            return self._around(node, axes, reads)
        if isinstance(node, Select):
            raise _NotCutError
        return self._read(self._leaf(node), axes, reads)

    def _pairwise(self, node: Contraction) -> Contraction:
        """The contraction with products of some of its factors made before it, where that saves work.

        A chain summed over all its labels at once would do the first product again for each entry of the last.
        """
        operands = list(zip(node.factors, node.slots, strict=True))
        plain = all(len(group) == 1 for _, slots in operands for group in slots)
        if len(operands) < 3 or not plain or any(isinstance(factor, Select) for factor, _ in operands):
            return node
        numbers = {label: evaluate(size, self._numbers) for label, size in enumerate(node.sizes)}
        keep = frozenset(flat(node.output))
        labels = [frozenset(flat(slots)) for _, slots in operands]
        steps = path(labels, keep, numbers, [False] * len(labels))
        if GAIN * cost(labels, steps, keep, numbers) > prod(numbers.values()):
            return node
        groups = [[operand] for operand in operands]
        for p, q in steps[:-1]:
            group = [*groups[p], *groups[q]]
            groups = [each for place, each in enumerate(groups) if place not in (p, q)]
            inside = {label for _, slots in group for label in flat(slots)}
            outside = keep.union(label for each in groups for _, slots in each for label in flat(slots))
            kept = sorted(inside & outside)
            if len(kept) < len(inside):  # something is summed over: an array of its own
                sizes = {label: node.sizes[label] for label in inside}
                made = contract(1, group, singles(kept), sizes)
                group = [(self._leaf(made), singles(kept))]
            groups.append(group)
        left = [operand for group in groups for operand in group]
        alive = keep.union(label for _, slots in left for label in flat(slots))
        joined = contract(node.coefficient, left, node.output, {label: node.sizes[label] for label in sorted(alive)})
        return joined if isinstance(joined, Contraction) and _sums(joined) else node

    def _around(self, node: Contraction, axes: tuple[Axis, ...], reads: list[Read]) -> Expr:
        """A piece of a contraction whose sum is made before it."""
        coefficient, operands, output, sizes = split_structure(node)
        around = [(self._leaf(factor) if _sums(factor) else factor, slots) for factor, slots in operands]
        return self._product(coefficient, around, output, sizes, axes, reads)[0]

    def _product(
        self,
        coefficient: Number,
        operands: Sequence[tuple[Expr, Groups]],
        output: Groups,
        sizes: Mapping[Label, AnySize],
        axes: tuple[Axis, ...],
        reads: list[Read],
        work: _Work | None = None,
        summing: Iterator[Label] | None = None,
    ) -> tuple[Expr, tuple[Label, ...]]:
        """A piece of a contraction, and the labels that it sums over: new ones, or those that are given.

        With `work`, sums among its factors that have all its labels are parts of the same tile.
        """
        places: dict[Label, Place] = {}
        for group, axis in zip(output, axes, strict=True):
            if len(group) != len(axis):
                raise _NotCutError
            extents = [self.sizes[place.label] for place in axis if place.label is not None]
            if len(group) > 1 and extents != [evaluate(sizes[own], self._numbers) for own in group]:
                raise _NotCutError  # the axis is split in another way
            for own, place in zip(group, axis, strict=True):
                if places.setdefault(own, place) != place:  # a δ between two tiles
                    raise _NotCutError
        selects = [(factor, flat(slots)) for factor, slots in operands if isinstance(factor, Select)]
        columns = {labels[-1] for _, labels in selects}
        summed: list[Label] = []
        for own, size in sizes.items():
            if own not in places and own not in columns:
                summed.append(self.label(evaluate(size, self._numbers)) if summing is None else next(summing))
                places[own] = Place(summed[-1])
        while selects:  # a slice of a slice waits for the outer one
            ready = next((s for s in selects if s[0].length is None or s[1][0] in places), None)
            if ready is None or ready[0].positions is not None or ready[1][-1] in places:
                raise _NotCutError
            selects.remove(ready)
            select, labels = ready
            start = evaluate(select.start, self._numbers)
            column = Place(None, start) if select.length is None else places[labels[0]].taken(start, select.step)
            places[labels[-1]] = column
        given = []
        for factor, slots in operands:
            if isinstance(factor, Select):
                continue
            where = tuple(tuple(places[label] for label in group) for group in slots)
            whole = work is not None and set(_labels(where)) == set(_labels(axes))
            piece = self._spine(factor, where, work) if whole and work is not None else self._cut(factor, where, reads)
            given.append((piece, singles(_labels(where))))
        labels = _labels(axes)
        known = {la: tile_size(la) for la in (*labels, *summed, *(la for _, slots in given for la in flat(slots)))}
        idle = [la for la in summed if not any(la in flat(slots) for _, slots in given)]
        for label in idle:  # summed over nothing: the sum multiplies by the size, once and not for each tile
            coefficient = coefficient * self.sizes[label]
            del known[label]
        expr = contract(coefficient, given, singles(labels), known)
        return expr, tuple(label for label in summed if label not in idle)

    def _read(self, node: Expr, axes: tuple[Axis, ...], reads: list[Read]) -> Expr:
        """A piece of an array."""
        if isinstance(node, Constant):
            if not node.ndim:
                return node
            name = f"_c{node.digest}"
            self.constants[name] = node
        else:
            assert isinstance(node, Symbol)
            name = node.name
        for axis in axes:  # the faster labels of a group are not cut, so that a tile is one slice of the axis
            plain = all(place.label is not None and (place.start, place.step) == (0, 1) for place in axis)
            if len(axis) > 1 and not plain:
                raise _NotCutError
            self.uncut.update(place.label for place in axis[1:] if place.label is not None)
        stage = next((s for s in self.stages if s.name == name), None)
        if stage is not None:
            for made, read in zip(stage.axes, axes, strict=True):
                if len(made) == len(read) == 1 and read[0].label is not None and read[0][1:] == (0, 1):
                    self.along.append((made[0].label, read[0].label))  # type: ignore[arg-type]
        found = next((read for read in reads if (read.array, read.axes) == (name, axes)), None)
        if found is None:
            found = Read(f"_r{next(self._fresh)}", name, axes)
            reads.append(found)
        return self._piece(found)

    def _piece(self, read: Read) -> Expr:
        """A piece with an axis for each label: where one stands twice, the diagonal."""
        symbol = Symbol(read.name, tuple(map(tile_size, read.labels)))
        distinct = dict.fromkeys(read.labels)
        if len(distinct) == len(read.labels):
            return symbol
        sizes: dict[Label, AnySize] = {label: tile_size(label) for label in distinct}
        return contract(1, [(symbol, singles(read.labels))], singles(distinct), sizes)

    def _shape(self, axes: tuple[Axis, ...]) -> tuple[Dim, ...]:
        return tuple(tile_size(label) for label in _labels(axes))


class _Work(NamedTuple):
    parts: list[Part]
    reads: list[Read]


def _labels(axes: Sequence[Axis]) -> tuple[Label, ...]:
    """The labels that a piece has axes for, each once."""
    return tuple(dict.fromkeys(place.label for axis in axes for place in axis if place.label is not None))


def _parts(node: Contraction) -> tuple[Number, list[tuple[Expr, Groups]], Groups, dict[Label, AnySize]]:
    operands = list(zip(node.factors, node.slots, strict=True))
    return node.coefficient, operands, node.output, dict(enumerate(node.sizes))


def _is_core(node: Contraction) -> bool:
    """Whether the entries of a contraction vary along each of its axes by a label of its own."""
    bound = {label for slots in node.slots for label in flat(slots)}
    columns = {flat(s)[-1] for f, s in zip(node.factors, node.slots, strict=True) if isinstance(f, Select)}
    return is_plain(node.output) and all(label in bound - columns for label in flat(node.output))


def _is_part(node: Expr) -> TypeGuard[Contraction]:
    """Whether a node is a sum over tiles, and nothing around it."""
    return isinstance(node, Contraction) and _sums(node) and _is_core(node)


def _is_bound(node: Contraction) -> bool:
    """Whether every label of a contraction is one of an array."""
    if any(isinstance(factor, Select) for factor in node.factors):
        return False
    return set(range(len(node.sizes))) == {label for slots in node.slots for label in flat(slots)}


def _sums(node: Expr) -> bool:
    """Whether a contraction sums over something that its factors have."""
    if not isinstance(node, Contraction) or number_of(node) is not None:
        return False
    kept = set(flat(node.output))
    columns = {flat(s)[-1] for f, s in zip(node.factors, node.slots, strict=True) if isinstance(f, Select)}
    return any(label not in kept and label not in columns for slots in node.slots for label in flat(slots))
