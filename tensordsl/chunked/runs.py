"""Runs: the tasks of a plan, stage after stage, those left out that are finished."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from tensordsl.chunked import engine
from tensordsl.chunked.cutting import Part, Stage
from tensordsl.chunked.memory import one_arena
from tensordsl.chunked.nodes import Node
from tensordsl.chunked.plan import SHARED, ChunkedPlan, axes_of, shape_of, sum_of
from tensordsl.chunked.running import Job, call
from tensordsl.chunked.sources import HELD, Source, array_of
from tensordsl.chunked.tiling import product_of

Tile = tuple[Any, ...]
SHORTEST = 0.1  # seconds that a task should last, beside which what the engine takes for it is little
# What arrays that no path leads to are, as long as the tasks of this process share them.
TAKEN = {"memory": "held", "zarr": "open", "hdf5": "open"}
MOST_TOGETHER = 64  # tiles of one task


@dataclass(frozen=True)
class PlannedJob(Job):
    """A job with the plan that it is of."""

    plan: ChunkedPlan


def job_of(plan: ChunkedPlan, places: Mapping[str, Source]) -> PlannedJob:
    """The job of a plan whose stages are stored in the places given."""
    stages = {stage.name: stage for stage in plan.stages}
    return PlannedJob(stages, plan.tiling, {**plan.sources, **places}, plan.constants, plan.sizes, plan)


# --- what tasks do ------------------------------------------------------------------------------------------------


def make_tile(job: PlannedJob, name: str, tiles: tuple[int, ...]) -> None:
    """Make a tile of a stage and store it."""
    stage = job.stages[name]
    at = dict(zip(stage.labels, tiles, strict=True))
    job.put(name, at, job.tile(stage, at))


def make_sum(job: PlannedJob, name: str, tiles: tuple[int, ...], part: int, start: int, stop: int) -> Any:
    """Some terms of a sum of which a stage has few, and long ones."""
    stage = job.stages[name]
    return job.sum(stage.parts[part], dict(zip(stage.labels, tiles, strict=True)), range(start, stop))


def make_block(job: PlannedJob, block: tuple[int, ...], places: tuple[int, ...]) -> None:
    """Make a block of a dense result of the terms that have entries there, and store it."""
    plan = job.plan
    terms = [plan.terms[place] for place in places]
    at: dict[int, int] = {}
    for term in terms:
        at |= {group[0]: tile for group, tile in zip(term.output, block, strict=True) if group}
    pieces = {
        piece: job.core(plan.fused.get(name), name, own, at)
        for term in terms
        for piece, name, own in zip(term.pieces, term.cores, term.slots, strict=True)
    }
    sizes = {}
    for label in (label for term in terms for label in term.labels):
        lo, hi = job.tiling.range(label, at.get(label, 0))
        sizes[label] = hi - lo
    value = call(sum_of(terms, sizes), pieces, {})
    region, _, _ = job.region(axes_of(terms[0]), at)
    job.write("result", region, np.asarray(value))


def do_all(job: PlannedJob, function: Callable[..., Any], calls: Sequence[Any]) -> list[Any]:
    """Some of these, one after the other."""
    one_arena()
    return [function(job, *call) for call in calls]


# --- all of them --------------------------------------------------------------------------------------------------


class Run:
    """The tasks of one plan. `finished` are left out, `note` hears of each other one when it is done."""

    def __init__(
        self,
        plan: ChunkedPlan,
        places: Mapping[str, Source],
        client: Any,
        slots: int,
        finished: Iterable[Tile] = (),
        note: Callable[[Tile], None] = lambda tile: None,
    ) -> None:
        self.plan, self.job = plan, job_of(plan, places)
        self.done = 0
        self._client, self._slots, self._told = client, slots, note
        # How many tiles one task makes: the more the smaller they are, as long as every slot has some tasks.
        self._each = plan.seconds * min(slots, plan.tasks) / max(1, plan.tasks)
        most = min(MOST_TOGETHER, plan.tasks // (8 * slots))
        self._together = max(1, min(most, int(SHORTEST / max(self._each, 1e-9))))
        self._finished = set(finished)

    def all(self) -> None:
        """Do every task that is left."""
        for stage in self.plan.stages:
            self._stage(stage)
        if self.plan.blocks is not None:
            left = (call for call in self.plan.blocks.all() if ("result", call[0]) not in self._finished)
            self._run(make_block, left, lambda given, _: self._note(("result", given[0])))

    def _note(self, tile: Tile) -> None:
        self.done += 1
        self._told(tile)

    def _stage(self, stage: Stage) -> None:
        every = product_of([self.plan.tiling.count(label) for label in stage.labels])
        left = (tiles for tiles in every if (stage.name, tiles) not in self._finished)
        if self.plan.is_shared(stage):
            for tiles in list(left):
                self._split(stage, tiles)
        else:
            self._run(make_tile, ((stage.name, tiles) for tiles in left), lambda given, _: self._note(given))

    def _split(self, stage: Stage, tiles: tuple[int, ...]) -> None:
        """One tile whose sums are made by several tasks, and added up in the order of their terms."""
        bounds = {number: self._shares(part) for number, part in enumerate(stage.parts)}
        calls = [(stage.name, tiles, number, *each) for number, found in bounds.items() for each in found]
        early: dict[tuple[int, int], Any] = {}  # what has come before its turn
        totals: dict[int, Any] = {}

        def add(call: Any, value: Any) -> None:
            number, left = call[2], bounds[call[2]]
            early[number, call[3]] = value
            while left and (number, left[0][0]) in early:
                found = early.pop((number, left.pop(0)[0]))
                totals[number] = totals[number] + found if number in totals else found

        self._run(make_sum, iter(calls), add, together=1)
        at = dict(zip(stage.labels, tiles, strict=True))
        sums = {part.name: totals[number] for number, part in enumerate(stage.parts)}
        self.job.put(stage.name, at, self.job.finished(stage, at, sums))
        self._note((stage.name, tiles))

    def _shares(self, part: Part) -> list[tuple[int, int]]:
        """The terms of a sum in parts of equal length, each by its first and the one after its last."""
        terms = self.plan.tiling.counts(part.summed)
        pieces = min(terms, SHARED)
        return list(pairwise(terms * piece // pieces for piece in range(pieces + 1)))

    def _run(
        self,
        function: Callable[..., Any],
        calls: Iterator[Any],
        done: Callable[[Any, Any], None],
        together: int | None = None,
    ) -> None:
        calls = iter(calls)
        at_once = together or self._together

        def several() -> Iterator[tuple[Any, ...]]:
            while chosen := list(islice(calls, at_once)):
                yield function, chosen

        def count(given: Any, results: Sequence[Any]) -> None:
            for one, result in zip(given[1], results, strict=True):
                done(one, result)

        patience = max(engine.STUCK, 100 * at_once * self._each)
        engine.run(self._client, do_all, self.job, several(), self._slots, count, patience)


class Held:
    """Arrays in memory that the tasks of this process share; they are let go at the end."""

    def __init__(self, key: str) -> None:
        self._key = f"{key}:{id(self)}"
        self._names: list[str] = []

    def place(self, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Source:
        """A new array."""
        return self.take(Source(name, tuple(shape), dtype, None, None, "memory", np.empty(shape, dtype)))

    def take(self, source: Source) -> Source:
        """An array in memory, or of a store that is no folder, by a name from now on, so that no task carries it along.

        A task of this process, too, would have a copy: of a store in memory, one that nobody else reads.
        """
        if source.place is not None or source.kind not in TAKEN:
            return source
        key = f"{self._key}/{source.name}"
        HELD[key] = source.array
        self._names.append(key)
        return replace(source, place=key, kind=TAKEN[source.kind], array=None)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            HELD.pop(name, None)


def places_of(
    plan: ChunkedPlan,
    scratch: Node,
    held: Held | None,
    room: int,
    *,
    stored: Mapping[str, Node] = MappingProxyType({}),
    results: Collection[str] = (),
) -> dict[str, Source]:
    """Where each stage is made: in the place that it is `stored` in, in memory as long as there is room, or in scratch.

    `results` are in memory in any case.
    """
    places: dict[str, Source] = {}
    for stage in plan.stages:
        name, size = stage.name, plan.size_of(stage)
        shape, dtype = shape_of(stage, plan.tiling), plan.dtypes[name]
        if held is not None and (name in results or (name not in stored and size <= room)):
            room -= 0 if name in results else size
            places[name] = held.place(name, shape, dtype)
        else:
            places[name] = array_of(stored.get(name, scratch / name), name, shape, plan.chunks_of(stage), dtype)
    return places
