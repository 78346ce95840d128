"""Planning: an expression and where its data lie, to the tasks that make its value within a memory budget.

A plan knows what will be read and written, how many tasks there are and what the largest of them holds, before any of
them runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tensordsl.chunked.cutting import Cutter, Stage
from tensordsl.chunked.plan import ChunkedPlan, Term
from tensordsl.chunked.running import call
from tensordsl.chunked.sources import Source
from tensordsl.chunked.tiling import Stored, Tiling, Wanted, choose, kin_of
from tensordsl.dims import evaluate
from tensordsl.errors import BindError, PlanError, UnsupportedError, amount, show_shape
from tensordsl.execution.layout import Layout, lay_out
from tensordsl.expr import Expr, Number
from tensordsl.labels import Label, flat, rename
from tensordsl.labels import classes as tied
from tensordsl.program.build import dimensions
from tensordsl.program.threads import thread_count
from tensordsl.rewrites.rewriting import PHASES, simplified

SHARE = 0.6  # of the memory that tasks may hold: the rest is for the engine, and for what libraries copy on the way
DELTA = 16  # the length to begin with along axes of a dense result that a δ is on: the shorter, the fewer zeros
LONGEST = 30.0  # seconds that one task should last at the most
ALIKE, MUCH_LESS = 1.25, 0.8  # about the same time, and much less that is moved
SMALL = 1 << 20  # entries of arrays that something is computed of only to see its dtype
PROBES = (1, 2, 5)  # numbers that such arrays hold: I - A has no inverse for one of them
MEMORY = "2GiB"  # where nothing else is said
LAYOUTS = ("structured", "dense")


class Budget(NamedTuple):
    """The memory that the tasks of one worker may hold, `at_once` of them; there are `slots` for tasks in all.

    Each task has some threads of BLAS. Where they are threads of this process, there may be fewer tasks at a time, with
    more memory each and more threads of BLAS.
    """

    memory: int
    slots: int
    at_once: int
    blas: int = 1
    may_be_fewer: bool = False

    @property
    def limit(self) -> int:
        """The bytes that one task may hold."""
        return int(SHARE * self.memory / self.at_once)

    @classmethod
    def here(cls, memory: int, threads: int | None = None) -> Budget:
        """That of so many threads of this process, or of those that suit best."""
        slots = threads or thread_count()
        return cls(memory, slots, slots, max(1, thread_count() // slots), threads is None)

    def choices(self) -> Iterator[Budget]:
        """This one, and those with half as many tasks at a time, and half of that."""
        found = self
        yield found
        while self.may_be_fewer and found.slots > 1:
            slots = found.slots // 2
            found = found._replace(slots=slots, at_once=slots, blas=self.slots * self.blas // slots)
            yield found


class Asked(NamedTuple):
    """What is asked of a plan: none of it has to be.

    `chunks` are the lengths of the blocks of a dense result along its axes; otherwise those that a δ is on are short,
    so that few zeros are in them, or, where `keep_chunks` is true, all are those of the data. Where `aligned` is true,
    what is made on the way is read in the tiles that it is made in. `lengths` are those of all tiles, of a run that is
    taken up.
    """

    layout: str | None = None
    chunks: int | Sequence[int] | None = None
    keep_chunks: bool = False
    aligned: bool = False
    lengths: Mapping[Label, int] | None = None


def plan_chunked(
    node: Expr,
    sources: Mapping[str, Source],
    sizes: Mapping[str, int],
    budget: Budget,
    asked: Asked = Asked(),  # noqa: B008 - it never changes
) -> ChunkedPlan:
    """The plan of an expression whose data lie in sources. `PlanError` where no task keeps within the memory."""
    if asked.layout is not None and asked.layout not in LAYOUTS:
        raise UnsupportedError(f"The layout {asked.layout!r} is unknown; known are {', '.join(map(repr, LAYOUTS))}.")
    (simple,) = simplified([node], *PHASES)
    cores, layouts = lay_out(simple, sizes)
    kind = asked.layout or ("structured" if any(_is_structured(found) for found in layouts) else "dense")
    cutter = Cutter(sizes, sources)
    made = [cutter.stage(core) for core in cores]
    terms = [_term(found, made, cutter, kind) for found in layouts]
    pairs = cutter.kin + (cutter.along if asked.aligned else [])
    if kind == "dense":
        pairs += kin_of([term.output for term in terms])
        _leave_uncut(terms, cutter)
    terms, inlined = _inlined(terms, cutter, kind)
    stages = tuple(stage for stage in cutter.stages if stage.name not in inlined)
    fused = {stage.name: stage for stage in cutter.stages if stage.name in inlined}
    constants = {name: constant.array for name, constant in cutter.constants.items()}
    dtype, dtypes = _dtypes(terms, node.ndim, cutter, sources, constants)
    classes = tied(cutter.sizes, pairs)
    whole = frozenset(la for la in cutter.sizes if any(classes[la] == classes[fixed] for fixed in cutter.uncut))
    shape = tuple(evaluate(size, sizes) for size in node.shape)
    parts = (node, kind, dtype, shape, tuple(terms), stages, fused, Tiling({}, {}), sources, constants)
    own = (budget.memory, budget.slots, budget.at_once, budget.blas)
    plan = ChunkedPlan(*parts, dtypes, sizes, classes, whole, *own, asked.chunks is not None)
    return _best(plan, cutter, budget, asked)


def _best(plan: ChunkedPlan, cutter: Cutter, budget: Budget, asked: Asked) -> ChunkedPlan:
    """As many tasks at a time as there may be; fewer where that moves much less, in about the time of the quickest.

    What is moved grows as one over the square root of what a task holds, and a store may be slower than is assumed.
    """
    found = []
    for own in budget.choices():
        one = replace(plan, slots=own.slots, at_once=own.at_once, blas=own.blas)
        tiling, least = _tiling(one, cutter, own, asked)
        one = replace(one, tiling=tiling)
        if one.peak_bytes <= own.limit:
            found.append(one)
            if MUCH_LESS * one.bytes_moved < one.once_bytes:  # there is nothing to gain by fewer
                break
    if not found:
        want = int(least * own.at_once / SHARE) + 1
        raise PlanError(
            f"The smallest task needs {amount(least)}, and with {own.at_once} at a time and room for the engine "
            f"that is {amount(want)}; given were {amount(budget.memory)}. Give memory={want} or more"
            f"{', or fewer threads' if own.at_once > 1 else ''}"
            f"{', or begin anew with resume=False: the tiles are those of a run before' if asked.lengths else ''}."
        )
    quick = [one for one in found if one.seconds <= ALIKE * min(other.seconds for other in found)]
    best = quick[0]
    for one in quick[1:]:
        best = one if one.bytes_moved <= MUCH_LESS * best.bytes_moved else best
    return best


def _leave_uncut(terms: Sequence[Term], cutter: Cutter) -> None:
    """Of the blocks of a dense result each is one slice of each axis: what that keeps from being cut."""
    for groups in zip(*(term.output for term in terms), strict=True):
        inner = {tuple(cutter.sizes[label] for label in group[1:]) for group in groups if group}
        if len(inner) > 1:  # an axis that is split in several ways is not cut
            cutter.uncut.update(label for group in groups for label in group)
    for term in terms:  # nor are the faster labels of a group
        cutter.uncut.update(label for group in term.output for label in group[1:])
        # What thin cores are multiplied along is summed over in each block; what is scattered is not cut.
        cutter.uncut.update(term.labels if term.scatter else set(term.labels) - set(flat(term.output)))


def _inlined(terms: Sequence[Term], cutter: Cutter, kind: str) -> tuple[list[Term], set[str]]:
    """The terms, and the cores that are made for each block and stored nowhere: those that serve one term alone."""
    if kind != "dense":
        return [replace(term, fused=False) for term in terms], set()
    inlined = {name for term in terms if term.fused for name in term.cores}
    inlined -= {name for term in terms if not term.fused for name in term.cores}
    inlined -= {read.array for stage in cutter.stages for read in stage.every_read}
    return [replace(term, fused=term.fused and set(term.cores) <= inlined) for term in terms], inlined


def _tiling(plan: ChunkedPlan, cutter: Cutter, budget: Budget, asked: Asked) -> tuple[Tiling, int]:
    """The tiles that take the least time of those that keep within the memory; and the least that there is."""

    def held(tiling: Tiling) -> int:
        return replace(plan, tiling=tiling).peak_bytes

    def seconds(tiling: Tiling) -> float:
        found = replace(plan, tiling=tiling)
        each = found.seconds * min(budget.slots, found.tasks) / max(1, found.tasks)
        return found.seconds + max(0.0, each - LONGEST)  # what is long is lost where a worker is

    units = _units(plan, tied(cutter.sizes, [*plan.classes.items(), *cutter.along]))
    arrays = {name: Stored(_itemsize(source.dtype), _chunks(source)) for name, source in plan.sources.items()}
    arrays |= {stage.name: Stored(plan.dtypes[stage.name].itemsize, None, stage.every_axis) for stage in cutter.stages}
    readers: dict[Label, list[Label]] = {}
    for made, read in cutter.along:
        readers.setdefault(made, []).append(read)
    written = [flat(term.output) for term in plan.terms] if plan.layout == "dense" and not asked.keep_chunks else []
    repeated = [label for output in written for label in output if output.count(label) > 1]
    given = {plan.classes[label]: length for label, length in _pinned(plan, asked.chunks).items()}
    pinned = given if asked.lengths is None else asked.lengths
    if asked.keep_chunks:
        along = {plan.classes[label] for term in plan.terms for label in flat(term.output)}
        pinned = {label: unit for label, unit in units.items() if plan.classes[label] in along}
    wanted = Wanted(
        plan.classes,
        units | {label: given[plan.classes[label]] for label in cutter.sizes if plan.classes[label] in given},
        dict.fromkeys(repeated, DELTA),
        pinned,
        plan.whole,
        arrays,
        readers,
    )
    tiling, least = choose(cutter.sizes, wanted, held, seconds, budget.limit)
    if replace(plan, tiling=tiling).is_moving:  # what takes longest is not to wait for what is computed
        reading, _ = choose(cutter.sizes, wanted._replace(ahead=True), held, seconds, budget.limit)
        tiling = reading if held(reading) <= budget.limit else tiling
    return tiling, least


def _chunks(source: Source) -> tuple[int, ...] | None:
    """The chunks that an array is stored in, none longer than it is."""
    if source.chunks is None:
        return None
    return tuple(max(1, min(chunk, size)) for chunk, size in zip(source.chunks, source.shape, strict=True))


def _itemsize(dtype: np.dtype[Any]) -> int:
    """The bytes of an entry as it is computed with: whole numbers and truth values in 64 bits."""
    return 8 if dtype.kind in "biu" else dtype.itemsize


def _pinned(plan: ChunkedPlan, chunks: int | Sequence[int] | None) -> dict[Label, int]:
    """The lengths that are asked for along the axes of a dense result."""
    if chunks is None:
        return {}
    lengths = [chunks] * len(plan.shape) if isinstance(chunks, int) else list(chunks)
    if plan.layout != "dense" or len(lengths) != len(plan.shape) or any(length < 1 for length in lengths):
        raise PlanError(
            f"chunks={chunks!r} for a {plan.layout} result of shape {show_shape(plan.shape)}: expected one length for "
            "each axis of a dense result, or one for all."
        )
    pinned: dict[Label, int] = {}
    for term in plan.terms:
        for group, length in zip(term.output, lengths, strict=True):
            if len(group) == 1:
                pinned[group[0]] = length
    return pinned


def _is_structured(layout: Layout) -> bool:
    labels = flat(layout.output)
    return bool(layout.scatter) or len(set(labels)) < len(labels)


def _term(layout: Layout, made: Sequence[Stage], cutter: Cutter, kind: str) -> Term:
    names: dict[Label, Label] = {}
    axes: list[tuple[Label, Label]] = []
    for place, own in zip(layout.cores, layout.slots, strict=True):
        for label, axis in zip(own, made[place].axes, strict=True):
            names.setdefault(label, cutter.label(layout.sizes[label]))
            axes += [(found.label, names[label]) for found in axis if found.label is not None]
    rows = [row for _, row in layout.scatter.values() if row is not None]
    for label in (*flat(layout.output), *rows):
        if label not in names:
            names[label] = cutter.label(layout.sizes[label])
    scatter = {names[c]: (select, None if row is None else names[row]) for c, (select, row) in layout.scatter.items()}
    slots = rename(layout.slots, names)
    output = rename(layout.output, names)
    distinct = set(flat(output))
    fused = len(layout.cores) == 1 and distinct == set(slots[0]) and not layout.scatter
    if kind == "dense" and not fused:  # the blocks read of a core what they need
        cutter.along += axes
    else:
        cutter.kin += axes
    return Term(layout, tuple(made[place].name for place in layout.cores), slots, output, scatter, fused)


def _units(plan: ChunkedPlan, along: Mapping[Label, Label]) -> dict[Label, int]:
    """For labels of each axis the length of the chunks that the largest array is stored in that is read along it."""
    units: dict[Label, int] = {}
    reads = [read for stage in plan.steps for read in stage.every_read if read.array in plan.sources]
    for read in sorted(reads, key=lambda read: plan.sources[read.array].nbytes):  # the largest one last
        for axis, chunk in zip(read.axes, plan.sources[read.array].chunks or (), strict=False):
            if len(axis) == 1 and axis[0].label is not None and axis[0][1:] == (0, 1):
                units[along[axis[0].label]] = int(chunk)
    return {label: units[root] for label, root in along.items() if root in units}


def _dtypes(
    terms: Sequence[Term], ndim: int, cutter: Cutter, sources: Mapping[str, Source], constants: Mapping[str, Any]
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
        known |= {name: np.asarray(value).dtype for name, value in values.items()}
        known[stage.name] = np.asarray(found).dtype
    kinds = [known[name] for term in terms for name in term.cores]
    # Of structure alone, as of np.eye and np.ones, the entries are floating-point numbers.
    kinds += [np.dtype(float)] if not kinds and ndim else []
    numbers = [plain(term.layout.coefficient) for term in terms] or [0]
    return np.result_type(*kinds, *numbers), {
        name: known[name] for stage in cutter.stages for name in (stage.name, *(part.name for part in stage.parts))
    }


def plain(number: Number) -> int | float | complex:
    """A coefficient as NumPy computes with it."""
    if isinstance(number, complex) or (isinstance(number, int) and abs(number) < 2**63):
        return number
    return float(number)


def _small(expr: Expr, dtypes: Mapping[str, Any]) -> Any:
    """The value of an expression of the smallest arrays that it takes.

    Where none can be had its dtype is taken to be that of its arrays, and a floating one; `Job.put` refuses what would
    not fit in it.
    """
    one = dict.fromkeys(dimensions([expr]) | {dim.name for dim in expr.dims}, 1)
    shapes = {symbol.name: tuple(evaluate(size, one) for size in symbol.shape) for symbol in expr.symbols}
    if all(prod(shape) <= SMALL for shape in shapes.values()):  # otherwise of a whole array, whose size is fixed
        for number in PROBES:
            values = {name: _probe(shape, dtypes[name], number) for name, shape in shapes.items()}
            with suppress(BindError):  # a function whose domain they are not in
                return call(expr, values, one)
    return np.result_type(*dtypes.values(), np.float32).type(0)


def _probe(shape: tuple[int, ...], dtype: np.dtype[Any], number: int) -> Any:
    """Arrays of one number; of square matrices the identity times it, which nearly every function takes."""
    square = len(shape) > 1 and shape[-1] == shape[-2]
    found = np.broadcast_to(np.eye(shape[-1], dtype=dtype), shape) if square else np.ones(shape, dtype)
    return (found * number).astype(dtype)
