"""Planning: an expression and where its data lie, to the tasks that make its value within a memory budget.

A plan knows what will be read and written, how many tasks there are and what the largest of them holds, before any of
them runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from tensordsl.chunked.cutting import Cutter, Stage
from tensordsl.chunked.plan import ChunkedPlan, Term
from tensordsl.chunked.running import call
from tensordsl.chunked.sources import Source
from tensordsl.chunked.tiling import Stored, Tiling, Wanted, choose, kin_of
from tensordsl.dims import evaluate
from tensordsl.errors import BindError, PlanError, UnsupportedError, amount, show_shape
from tensordsl.execution.layout import Layout, lay_out
from tensordsl.expr import Expr
from tensordsl.labels import Label, flat, rename
from tensordsl.labels import classes as tied
from tensordsl.program.build import dimensions
from tensordsl.rewrites.rewriting import PHASES, simplified

SHARE = 0.6  # of the memory that tasks may hold: the rest is for the engine, and for what libraries copy on the way
DELTA = 16  # the length to begin with along axes of a dense result that a δ is on: the shorter, the fewer zeros
LONGEST = 20.0  # seconds that one task should last at the most
SMALL = 1 << 16  # entries of arrays that something is computed of only to see its dtype
MEMORY = "2GiB"  # where nothing else is said
LAYOUTS = ("structured", "dense")


def plan_chunked(
    node: Expr,
    sources: Mapping[str, Source],
    sizes: Mapping[str, int],
    memory: int,
    slots: int,
    layout: str | None = None,
    at_once: int | None = None,
    chunks: int | Sequence[int] | None = None,
    keep_chunks: bool = False,
    lengths: Mapping[Label, int] | None = None,
) -> ChunkedPlan:
    """The plan of an expression whose data lie in sources. `PlanError` where no task keeps within the memory.

    The memory is what `at_once` tasks hold, those of one worker; there are `slots` of them in all. `chunks` are the
    lengths of the blocks of a dense result along its axes; otherwise those that a δ is on are short, so that few zeros
    are in them, or, where `keep_chunks` is true, all are those of the data.
    `lengths` are those of all tiles, of a run that is taken up.
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
    classes = tied(cutter.sizes, pairs)
    whole = frozenset(la for la in cutter.sizes if any(classes[la] == classes[fixed] for fixed in cutter.uncut))
    written = terms if kind == "dense" else ()

    shape = tuple(evaluate(size, sizes) for size in node.shape)

    parts = (node, kind, dtype, shape, tuple(terms), stages, fused, Tiling({}, {}), sources, constants)
    plan = ChunkedPlan(*parts, dtypes, sizes, classes, whole, memory, slots)

    def held(tiling: Tiling) -> int:
        return replace(plan, tiling=tiling).peak_bytes

    def seconds(tiling: Tiling) -> float:
        found = replace(plan, tiling=tiling)
        each = found.seconds * min(slots, found.tasks) / max(1, found.tasks)
        return found.seconds + found.tasks * max(0.0, each - LONGEST)  # what is long is lost where a worker is

    at_once = at_once or slots
    limit = int(SHARE * memory / at_once)
    arrays = {name: Stored(_itemsize(source.dtype), source.chunks) for name, source in sources.items()}
    arrays |= {stage.name: Stored(dtypes[stage.name].itemsize) for stage in cutter.stages}
    repeated = [
        la for term in written for la in flat(term.output) if not keep_chunks and flat(term.output).count(la) > 1
    ]
    pinned = _pinned(terms, chunks, kind, shape) if lengths is None else lengths
    if keep_chunks:
        along = {classes[label] for term in terms for label in flat(term.output)}
        pinned = {label: unit for label, unit in units.items() if classes[label] in along}
    wanted = Wanted(classes, units, dict.fromkeys(repeated, DELTA), pinned, whole, arrays)
    tiling, least = choose(cutter.sizes, wanted, held, seconds, limit)
    if held(tiling) > limit:
        want = int(least * at_once / SHARE) + 1
        raise PlanError(
            f"The smallest task needs {amount(least)}, and with {at_once} at a time and room for the engine that is "
            f"{amount(want)}; given were {amount(memory)}. Give memory={want} or more, or fewer threads."
        )
    return replace(plan, tiling=tiling)


def _itemsize(dtype: np.dtype[Any]) -> int:
    """The bytes of an entry as it is computed with: whole numbers and truth values in 64 bits."""
    return 8 if dtype.kind in "biu" else dtype.itemsize


def _pinned(
    terms: Sequence[Term], chunks: int | Sequence[int] | None, kind: str, shape: Sequence[int]
) -> dict[Label, int]:
    """The lengths that are asked for along the axes of a dense result."""
    if chunks is None:
        return {}
    lengths = [chunks] * len(shape) if isinstance(chunks, int) else list(chunks)
    if kind != "dense" or len(lengths) != len(shape) or any(length < 1 for length in lengths):
        raise PlanError(
            f"chunks={chunks!r} for a {kind} result of shape {show_shape(tuple(shape))}: expected one length for each "
            "axis of a dense result, or one for all."
        )
    pinned: dict[Label, int] = {}
    for term in terms:
        for group, length in zip(term.output, lengths, strict=True):
            if len(group) == 1:
                pinned[group[0]] = length
    return pinned


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
        known |= {name: np.asarray(value).dtype for name, value in values.items()}
        known[stage.name] = np.asarray(found).dtype
    kinds = [known[name] for term in terms for name in term.cores]
    numbers = [term.layout.coefficient for term in terms if not term.cores]
    kinds += [np.dtype(complex if isinstance(number, complex) else float) for number in numbers]
    return np.result_type(*(kinds or [np.dtype(float)])), {
        name: known[name] for stage in cutter.stages for name in (stage.name, *(part.name for part in stage.parts))
    }


def _small(expr: Expr, dtypes: Mapping[str, Any]) -> Any:
    """The value of an expression of the smallest arrays that it takes, all of them ones."""
    one = dict.fromkeys(dimensions([expr]) | {dim.name for dim in expr.dims}, 1)
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
