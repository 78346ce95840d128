"""Planning: an expression and where its data lie, to the tasks that make its value within a memory budget.

A plan knows what will be read and written, how many tasks there are and what the largest of them holds, before any of
them runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from tensordsl.chunked.cutting import Axis, Cutter, Place, Stage
from tensordsl.chunked.running import call
from tensordsl.chunked.sources import Source
from tensordsl.chunked.tiling import (
    BANDWIDTH,
    FLOPS,
    PIECE,
    TASK,
    Blocks,
    Tiling,
    choose,
    classes_of,
    kin_of,
    part_flops,
    stage_entries,
    stage_reads,
)
from tensordsl.contraction import add_terms, contract
from tensordsl.dims import evaluate
from tensordsl.errors import BindError, PlanError, UnsupportedError, amount
from tensordsl.execution.layout import Layout, Scatter, lay_out
from tensordsl.expr import Expr, Symbol
from tensordsl.labels import Groups, Label, flat, rename, singles
from tensordsl.rewrites.rewriting import PHASES, simplified

SHARE = 0.6  # of the memory that tasks may hold: the rest is for the engine, and for what libraries copy on the way
SMALL = 1 << 16  # entries of arrays that something is computed of only to see its dtype
LAYOUTS = ("structured", "dense")


@dataclass(frozen=True)
class Term:
    """A term of the value: its cores, which are stages, and the labels around them, all of one universe."""

    layout: Layout
    cores: tuple[str, ...]
    slots: tuple[tuple[Label, ...], ...]
    output: Groups
    scatter: Scatter
    fused: bool  # whether its one core is made for each block, and stored nowhere

    @property
    def pieces(self) -> tuple[str, ...]:
        """What the pieces of its cores are called in a block: a core may stand in several places."""
        return tuple(f"{name}_{'_'.join(map(str, own))}" for name, own in zip(self.cores, self.slots, strict=True))

    @property
    def labels(self) -> tuple[Label, ...]:
        rows = (row for _, row in self.scatter.values() if row is not None)
        return tuple(dict.fromkeys((*flat(self.output), *flat(self.slots), *rows)))

    def expression(self, sizes: Mapping[Label, int]) -> Expr:
        """The term of a block, as an expression in tiles of its cores of the sizes given."""
        operands: list[tuple[Expr, Groups]] = [
            (Symbol(name, tuple(sizes[label] for label in own)), singles(own))
            for name, own in zip(self.pieces, self.slots, strict=True)
        ]
        for column, (select, row) in self.scatter.items():
            operands.append((select, singles((column,) if row is None else (row, column))))
        return contract(self.layout.coefficient, operands, self.output, {la: sizes[la] for la in self.labels})


@dataclass(frozen=True)
class ChunkedPlan:
    """What a chunked run does: `print(p)` shows it.

    `tasks` are counted over all stages, `chunks` is the shape of a tile of the result (of each core, where the layout
    is structured), `bytes_read` and `bytes_written` what goes through the stores, `bound_bytes` what has to in any
    order, `peak_bytes` what the largest task holds, `seconds` an estimate.
    """

    expression: Expr
    layout: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    stages: tuple[Stage, ...]  # those that are stored, in order, the cores that are results among them
    fused: Mapping[str, Stage]  # those that are made for each block
    tiling: Tiling
    sources: Mapping[str, Source]
    constants: Mapping[str, Any]
    dtypes: Mapping[str, np.dtype[Any]]  # of the stages
    sizes: Mapping[str, int]  # behind the dimensions
    classes: Mapping[Label, Label]  # for each label the first of those that are cut alike
    whole: frozenset[Label]  # labels that are not cut
    memory: int
    slots: int

    @cached_property
    def cores(self) -> dict[str, str]:
        """The stages that the terms of the value are made of, each with the name that its array has in a store."""
        names = dict.fromkeys(name for term in self.terms for name in term.cores)
        return {name: f"C{place}" for place, name in enumerate(names)}

    @cached_property
    def blocks(self) -> Blocks | None:
        """The blocks of a dense result."""
        return Blocks([term.output for term in self.terms], self.tiling) if self.layout == "dense" else None

    @property
    def tasks(self) -> int:
        stages = sum(self.tiling.counts(stage.labels) for stage in self.stages)
        return stages + (0 if self.blocks is None else self.blocks.count())

    @property
    def chunks(self) -> tuple[Any, ...]:
        if self.layout == "dense":
            return self.block_shape
        return tuple(chunk_of(stage, self.tiling) for stage in self.stages if stage.name in self.cores)

    @property
    def block_shape(self) -> tuple[int, ...]:
        """The shape of a block of a dense result."""
        if not self.terms:
            return tuple(max(1, size) for size in self.shape)
        return tuple(max(1, self.tiling.entries(group)) for group in self.terms[0].output)

    @property
    def bytes_read(self) -> int:
        read = sum(stage_reads(stage, stage.labels, self.tiling) for stage in self.stages)
        if self.blocks is not None:
            for term in self.terms:
                loop = tuple(dict.fromkeys(flat(term.output)))
                if term.fused:
                    read += stage_reads(self.fused[term.cores[0]], self.fused[term.cores[0]].labels, self.tiling)
                else:
                    for own in term.slots:
                        read += self.tiling.whole(own) * self.tiling.counts(la for la in loop if la not in own)
        return read * self.dtype.itemsize

    @property
    def bytes_written(self) -> int:
        written = sum(self.tiling.whole(stage.labels) for stage in self.stages)
        if self.blocks is not None:
            written += self.blocks.count() * prod(self.block_shape)
        return written * self.dtype.itemsize

    @property
    def bound_bytes(self) -> int:
        """What has to be read and written at the least: each array once, and of the result what is not zero."""
        stages = (*self.stages, *self.fused.values())
        arrays = {read.array for stage in stages for read in stage.every_read}
        read = sum(source.nbytes for name, source in self.sources.items() if name in arrays)
        if self.layout == "structured":
            result = sum(self.tiling.whole(stage.labels) for stage in self.stages if stage.name in self.cores)
        else:
            result = sum(self.tiling.whole(dict.fromkeys(flat(term.output))) for term in self.terms)
        return read + result * self.dtype.itemsize

    @property
    def peak_bytes(self) -> int:
        """What the largest task holds at once."""
        return self.dtype.itemsize * _entries(
            self.stages, self.fused, self.terms if self.layout == "dense" else (), self.tiling
        )

    @property
    def flops(self) -> int:
        return sum(part_flops(part, self.tiling) for stage in self.stages for part in stage.parts)

    @property
    def seconds(self) -> float:
        pieces = sum(
            self.tiling.counts((*stage.labels, *part.summed))
            for stage in (*self.stages, *self.fused.values())
            for part in stage.parts
        )
        return _seconds(self.flops, self.bytes_read + self.bytes_written, self.tasks, pieces, self.slots)

    def __str__(self) -> str:
        lines = [f"{self.layout} result {self.shape} {self.dtype}, tiles of {self.chunks}"]
        for stage in self.stages:
            shape = tuple(self.tiling.sizes[label] for label in stage.labels)
            lines.append(
                f"  {stage.name}: {self.tiling.counts(stage.labels)} tiles of {chunk_of(stage, self.tiling)} of {shape}"
            )
        if self.blocks is not None:
            every = prod(-(-size // block) for size, block in zip(self.shape, self.block_shape, strict=True))
            lines.append(
                f"  result: {self.blocks.count()} blocks of {self.block_shape}; {every - self.blocks.count()} are zero"
            )
        times = (self.bytes_read + self.bytes_written) / max(1, self.bound_bytes)
        lines.append(
            f"{self.tasks} tasks, {amount(self.bytes_read)} read, {amount(self.bytes_written)} written "
            f"({times:.2f} x the least), {amount(self.peak_bytes)} at the peak of a task, about {self.seconds:.2g} s"
        )
        return "\n".join(lines)


def chunk_of(stage: Stage, tiling: Tiling) -> tuple[int, ...]:
    """The shape of a tile of a stage."""
    return tuple(
        max(
            1,
            prod(
                min(tiling.lengths[place.label], tiling.sizes[place.label]) for place in axis if place.label is not None
            ),
        )
        for axis in stage.axes
    )


def shape_of(stage: Stage, tiling: Tiling) -> tuple[int, ...]:
    """The shape of the array that a stage makes."""
    return tuple(prod(tiling.sizes[place.label] for place in axis if place.label is not None) for axis in stage.axes)


def _entries(stages: Sequence[Stage], fused: Mapping[str, Stage], terms: Sequence[Term], tiling: Tiling) -> int:
    largest = max((stage_entries(stage, tiling) for stage in stages), default=0)
    for term in terms:
        block = prod(max(1, tiling.entries(group)) for group in term.output)
        cores = sum(
            stage_entries(fused[name], tiling) if term.fused else tiling.entries(own)
            for name, own in zip(term.cores, term.slots, strict=True)
        )
        largest = max(largest, 2 * block + cores)
    return largest


def _seconds(flops: int, moved: int, tasks: int, pieces: int, slots: int) -> float:
    side_by_side = max(1, min(slots, max(tasks, pieces)))  # a sum of many pieces is shared by the slots
    return max(flops / FLOPS / side_by_side, moved / BANDWIDTH) + (tasks * TASK + pieces * PIECE) / side_by_side


def default_slots() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan_chunked(
    node: Expr,
    sources: Mapping[str, Source],
    sizes: Mapping[str, int],
    memory: int,
    slots: int,
    layout: str | None = None,
    at_once: int | None = None,
) -> ChunkedPlan:
    """The plan of an expression whose data lie in sources. `PlanError` where no task keeps within the memory.

    The memory is what `at_once` tasks hold, those of one worker; there are `slots` of them in all.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UnsupportedError(f"The layout {layout!r} is unknown; known are {', '.join(map(repr, LAYOUTS))}.")
    (simple,) = simplified([node], *PHASES)
    cores, layouts = lay_out(simple, sizes)
    kind = layout or ("structured" if any(_is_structured(found) for found in layouts) else "dense")
    cutter = Cutter(sizes, sources)
    made = [cutter.stage(core) for core in cores]
    terms = [_term(found, made, cutter) for found in layouts]
    pairs = list(cutter.kin)
    if kind == "dense":
        pairs += kin_of([term.output for term in terms])
        for groups in zip(*(term.output for term in terms), strict=True):
            inner = {tuple(cutter.sizes[label] for label in group[1:]) for group in groups if group}
            if len(inner) > 1:  # an axis that is split in several ways is not cut
                cutter.uncut.update(label for group in groups for label in group)
        for term in terms:  # the faster labels of a group are not cut: a block is one slice of each axis
            cutter.uncut.update(label for group in term.output for label in group[1:])
            # What thin cores are multiplied along is summed over in each block; what is scattered is not cut.
            cutter.uncut.update(term.labels if term.scatter else set(term.labels) - set(flat(term.output)))
    else:
        terms = [replace(t, fused=False) for t in terms]
    inlined = {name for term in terms if term.fused for name in term.cores}
    inlined -= {name for term in terms if not term.fused for name in term.cores}
    inlined -= {read.array for stage in cutter.stages for read in stage.every_read}
    terms = [replace(t, fused=t.fused and set(t.cores) <= inlined) for t in terms]
    stages = tuple(stage for stage in cutter.stages if stage.name not in inlined)
    fused = {stage.name: stage for stage in cutter.stages if stage.name in inlined}
    constants = {name: constant.array for name, constant in cutter.constants.items()}
    dtype, dtypes = _dtypes(terms, cutter, sources, constants)
    units = _units(cutter, sources)
    classes = classes_of(cutter.sizes, pairs)
    whole = frozenset(la for la in cutter.sizes if any(classes[la] == classes[fixed] for fixed in cutter.uncut))
    written = terms if kind == "dense" else ()

    shape = tuple(evaluate(size, sizes) for size in node.shape)

    def entries(tiling: Tiling) -> int:
        return _entries(stages, fused, written, tiling)

    names = (node, kind, dtype, shape, tuple(terms), stages, fused, Tiling({}, {}), sources, constants)
    plan = ChunkedPlan(*names, dtypes, sizes, classes, whole, memory, slots)

    def seconds(tiling: Tiling) -> float:
        return replace(plan, tiling=tiling).seconds

    at_once = at_once or slots
    limit = int(SHARE * memory / at_once) // dtype.itemsize
    tiling, least = choose(cutter.sizes, units, classes, cutter.uncut, entries, seconds, limit)
    needed = entries(tiling)
    if needed > limit:
        want = int(least * dtype.itemsize * at_once / SHARE) + 1
        raise PlanError(
            f"The smallest task needs {amount(least * dtype.itemsize)}, and with {at_once} at a time and room for the "
            f"engine that is {amount(want)}; given were {amount(memory)}. Give memory={want} or more, or fewer threads."
        )
    return replace(plan, tiling=tiling)


def _is_structured(layout: Layout) -> bool:
    labels = flat(layout.output)
    return bool(layout.scatter) or len(set(labels)) < len(labels)


def _term(layout: Layout, made: Sequence[Stage], cutter: Cutter) -> Term:
    names: dict[Label, Label] = {}
    for place, own in zip(layout.cores, layout.slots, strict=True):
        for label, axis in zip(own, made[place].axes, strict=True):
            names.setdefault(label, cutter.label(layout.sizes[label]))
            cutter.kin += [(names[label], found.label) for found in axis if found.label is not None]
    rows = [row for _, row in layout.scatter.values() if row is not None]
    for label in (*flat(layout.output), *rows):
        if label not in names:
            names[label] = cutter.label(layout.sizes[label])
    scatter = {names[c]: (select, None if row is None else names[row]) for c, (select, row) in layout.scatter.items()}
    slots = rename(layout.slots, names)
    output = rename(layout.output, names)
    distinct = set(flat(output))
    fused = len(layout.cores) == 1 and distinct == set(slots[0]) and not layout.scatter
    return Term(layout, tuple(made[place].name for place in layout.cores), slots, output, scatter, fused)


def _units(cutter: Cutter, sources: Mapping[str, Source]) -> dict[Label, int]:
    """For each label the longest chunk that what is read along it is stored in."""
    units: dict[Label, int] = {}
    for stage in cutter.stages:
        for read in stage.every_read:
            source = sources.get(read.array)
            if source is None or source.chunks is None:
                continue
            for axis, chunk in zip(read.axes, source.chunks, strict=True):
                if len(axis) == 1 and axis[0].label is not None and axis[0][1:] == (0, 1):
                    units[axis[0].label] = max(units.get(axis[0].label, 1), int(chunk))
    return units


def _dtypes(
    terms: Sequence[Term], cutter: Cutter, sources: Mapping[str, Source], constants: Mapping[str, Any]
) -> tuple[np.dtype[Any], dict[str, np.dtype[Any]]]:
    """The dtype of the value, and of each stage: those of the smallest tiles, computed for it."""
    known: dict[str, Any] = {name: source.dtype for name, source in sources.items()}
    known |= {name: np.asarray(value).dtype for name, value in constants.items()}
    for stage in cutter.stages:
        values: dict[str, Any] = {}
        with np.errstate(all="ignore"):
            for part in stage.parts:
                values[part.name] = _small(part.expr, {r.name: known[r.array] for r in part.reads})
            found = _small(
                stage.expr,
                {r.name: known[r.array] for r in stage.reads} | {n: v.dtype for n, v in values.items()},
            )
        known[stage.name] = np.asarray(found).dtype
    kinds = [known[name] for term in terms for name in term.cores]
    numbers = [term.layout.coefficient for term in terms if not term.cores]
    kinds += [np.dtype(complex if isinstance(number, complex) else float) for number in numbers]
    return np.result_type(*(kinds or [np.dtype(float)])), {stage.name: known[stage.name] for stage in cutter.stages}


def _small(expr: Expr, dtypes: Mapping[str, Any]) -> Any:
    """The value of an expression of the smallest arrays that it takes, all of them ones."""
    one = {dim.name: 1 for dim in expr.dims}
    shapes = {symbol.name: tuple(evaluate(size, one) for size in symbol.shape) for symbol in expr.symbols}
    if any(prod(shape) > SMALL for shape in shapes.values()):  # of a function of a whole array, whose size is fixed
        return np.result_type(*dtypes.values(), np.float32).type(0)
    values = {name: _ones(shape, dtypes[name]) for name, shape in shapes.items()}
    try:
        return call(expr, values, one)
    except BindError:  # a function that the smallest matrices are not in the domain of
        return np.result_type(*dtypes.values(), np.float32).type(0)


def _ones(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Ones; of square matrices the identity, which nearly every function takes."""
    square = len(shape) > 1 and shape[-1] == shape[-2]
    return np.broadcast_to(np.eye(shape[-1], dtype=dtype), shape) if square else np.ones(shape, dtype)


def sum_of(terms: Sequence[Term], sizes: Mapping[Label, int]) -> Expr:
    """A block as an expression in tiles of cores."""
    found = [term.expression(sizes) for term in terms]
    return add_terms(found, found[0].shape)


def axes_of(term: Term) -> tuple[Axis, ...]:
    return tuple(tuple(Place(label) for label in group) for group in term.output)
