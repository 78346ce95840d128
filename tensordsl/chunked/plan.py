"""The plan of a chunked run: what is made tile by tile, what that reads, writes and holds, as a table and a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from math import ceil, prod
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tensordsl.chunked.bounds import least_moved
from tensordsl.chunked.cutting import Axis, Place, Read, Stage
from tensordsl.chunked.pictures import blocks_svg
from tensordsl.chunked.sources import Source
from tensordsl.chunked.tiling import (
    ADDED,
    BANDWIDTH,
    EXPOSED,
    FLOPS,
    PIECE,
    STORE,
    TASK,
    Blocks,
    Tiling,
    bytes_coded,
    bytes_held,
    bytes_read,
    entries_asked,
    part_flops,
    stage_bytes,
    stage_reads,
)
from tensordsl.contraction import add_terms, contract
from tensordsl.errors import UnsupportedError, amount
from tensordsl.execution.layout import Layout, Scatter
from tensordsl.expr import Expr, Symbol
from tensordsl.labels import Groups, Label, flat, singles
from tensordsl.printing.names import index_names
from tensordsl.program.plan import table

SHARED = 16  # tasks that share a sum
GATHERED = 0.05  # of the memory, in which their parts of a tile are added up
TITLES = ("array", "made of", "tiles", "of", "read", "written", "peak of a task")
WORD = re.compile(r"[^\W\d]\w*")


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
    def is_core(self) -> bool:
        """Whether the term is its one core, which is made for each block, as it is."""
        return self.fused and self.layout.coefficient == 1 and self.output == singles(self.slots[0])

    @property
    def reads(self) -> tuple[Read, ...]:
        """What a block reads of its cores, where they are stored."""
        return tuple(
            Read(piece, name, tuple((Place(label),) for label in own))
            for piece, name, own in zip(self.pieces, self.cores, self.slots, strict=True)
        )

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

    `tasks` are counted over all stages, `chunks` is the shape of a chunk of the result (of each core, where the layout
    is structured), of which a task writes one or several, `bytes_read` and `bytes_written` what goes through the
    stores, `bound_bytes` what has to in any order, `peak_bytes` what the largest task holds, `seconds` an estimate.
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
    dtypes: Mapping[str, np.dtype[Any]]  # of the stages and of their parts
    sizes: Mapping[str, int]  # behind the dimensions
    classes: Mapping[Label, Label]  # for each label the first of those that are cut alike
    whole: frozenset[Label]  # labels that are not cut
    memory: int
    slots: int  # tasks that go on side by side
    at_once: int  # of which so many are on one worker
    blas: int  # threads of BLAS that each has
    has_chunks: bool  # whether those of a dense result were asked for

    @cached_property
    def cores(self) -> dict[str, str]:
        """The stages that the terms of the value are made of, each with the name that its array has in a store."""
        names = dict.fromkeys(name for term in self.terms for name in term.cores)
        return {name: f"C{place}" for place, name in enumerate(names)}

    def size_of(self, stage: Stage) -> int:
        """The bytes of the array that a stage makes."""
        return self.dtypes[stage.name].itemsize * prod(shape_of(stage, self.tiling))

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
        if self.layout != "dense":
            return tuple(self.chunks_of(stage) for stage in self.stages if stage.name in self.cores)
        return self.tiling.chunks(self.terms[0].output, self.dtype.itemsize) if self.terms else self.block_shape

    def chunks_of(self, stage: Stage) -> tuple[int, ...]:
        """The shape of a chunk of the array that a stage makes."""
        return self.tiling.chunks(stage.every_axis, self.dtypes[stage.name].itemsize)

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
                    made = [self.fused[name] for name in term.cores]
                    read += sum(stage_reads(stage, stage.labels, self.tiling) for stage in made)
                else:
                    read += bytes_read(term.reads, loop, self.tiling)
        return read

    @property
    def bytes_written(self) -> int:
        written = sum(self.dtypes[stage.name].itemsize * self.tiling.whole(stage.labels) for stage in self.stages)
        if self.blocks is not None:
            written += self.dtype.itemsize * self.blocks.count() * prod(self.block_shape)
        return written

    @property
    def bytes_moved(self) -> int:
        return self.bytes_read + self.bytes_written

    @cached_property
    def bound_bytes(self) -> int:
        """What has to be read and written at the least: that of `once_bytes`, in whatever order.

        For a product of two arrays it is more where the memory is small, see `bounds.least_moved`.
        """
        return max([self.once_bytes, *map(self._bound_of, self._results)])

    @property
    def once_bytes(self) -> int:
        """Of the data what is asked for, read once, and of the result what is not zero; or all of chunks asked for."""
        largest: dict[str, int] = {}  # of several pieces of an array the largest, at least
        for each in (each for stage in self.steps for each in stage.every_read if each.array in self.sources):
            largest[each.array] = max(largest.get(each.array, 0), entries_asked(each, self.tiling))
        read = sum(self.sources[name].dtype.itemsize * entries for name, entries in largest.items())
        if self.layout == "structured":
            return read + sum(self.dtypes[c.name].itemsize * self.tiling.whole(c.labels) for c in self._results)
        if self.has_chunks and self.blocks is not None:
            return read + self.dtype.itemsize * self.blocks.count() * prod(self.block_shape)
        return read + self.dtype.itemsize * sum(self.tiling.whole(dict.fromkeys(flat(t.output))) for t in self.terms)

    @property
    def _results(self) -> list[Stage]:
        """The stages whose tiles go to the result as they are."""
        if self.layout == "structured":
            return [stage for stage in self.stages if stage.name in self.cores]
        return [self.fused[name] for term in self.terms if term.is_core for name in term.cores]

    def _bound_of(self, stage: Stage) -> int:
        """What one result needs that is a product of two arrays of the data.

        Of an array with itself an entry that is there may serve as both factors, for which there is no bound here.
        """
        part = stage.parts[0] if stage.is_sum else None
        if part is None or not part.is_product or len({read.array for read in part.reads} & self.sources.keys()) < 2:
            return 0
        itemsize = min(
            self.dtypes[stage.name].itemsize, *(self.sources[read.array].dtype.itemsize for read in part.reads)
        )
        arrays = [frozenset(labels) for labels in (part.labels, *(read.labels for read in part.reads))]
        return int(itemsize * least_moved(arrays, self.tiling.sizes, self.memory / itemsize, self.workers))

    @property
    def peak_bytes(self) -> int:
        """What the largest task holds at once."""
        stages = [stage_bytes(stage, self.dtypes[stage.name].itemsize, self.tiling) for stage in self.stages]
        return max([*stages, self.block_bytes])

    @property
    def block_bytes(self) -> int:
        """What the task of a block holds at once: the pieces of all terms, the block, and a term of it or chunks."""
        if self.blocks is None:
            return 0
        if len(self.terms) == 1 and self.terms[0].is_core:  # the block is the piece
            (name,) = self.terms[0].cores
            return stage_bytes(self.fused[name], self.dtypes[name].itemsize, self.tiling)
        pieces = 0
        for term in self.terms:
            if term.fused:
                pieces += sum(stage_bytes(self.fused[n], self.dtypes[n].itemsize, self.tiling) for n in term.cores)
            else:
                pieces += sum(bytes_held(read, self.tiling) for read in term.reads)
        block = self.dtype.itemsize * prod(self.block_shape)
        return pieces + block + max(block, min(2 * block, bytes_coded(self.chunks, self.dtype.itemsize)))

    @property
    def flops(self) -> int:
        products = 0  # of cores, in the blocks of a dense result
        if self.blocks is not None:
            each = (dict.fromkeys((*flat(t.slots), *flat(t.output))) for t in self.terms if len(t.cores) > 1)
            products = sum(2 * self.tiling.whole(labels) for labels in each)
        return products + sum(part_flops(part, self.tiling) for stage in self.steps for part in stage.parts)

    @property
    def load(self) -> Load:
        """What all tasks together have to do."""
        pieces, added, width = 0, 0, self.tasks
        for stage in self.steps:
            for part in stage.parts:
                terms = self.tiling.counts((*stage.labels, *part.summed))
                pieces += terms
                added += self.dtypes[part.name].itemsize * self.tiling.entries(stage.labels) * terms
                if self.is_shared(stage):
                    width = max(width, min(terms, SHARED))
        return Load(self.flops, self.bytes_moved, added, self.tasks, pieces, max(1, width), self.tiling.ahead)

    @property
    def workers(self) -> int:
        return max(1, self.slots // self.at_once)

    @property
    def seconds(self) -> float:
        return seconds_of(self.load, self.slots, self.workers, self.blas)

    @property
    def is_moving(self) -> bool:
        """Whether one worker's reading and writing of it all would take longer than computing."""
        return self.bytes_moved / BANDWIDTH > self.flops / FLOPS / (self.slots * self.blas)

    def is_shared(self, stage: Stage) -> bool:
        """Whether several tasks share each sum of a stage: it has fewer tiles than keep all busy, and small ones."""
        parts = SHARED * max(1, len(stage.parts))
        small = parts * self.dtypes[stage.name].itemsize * self.tiling.entries(stage.labels) <= GATHERED * self.memory
        few = stage.name not in self.fused and self.tiling.counts(stage.labels) < min(SHARED, 2 * self.slots)
        return self.slots > 1 and small and few and any(self.tiling.counts(part.summed) > 1 for part in stage.parts)

    @property
    def steps(self) -> tuple[Stage, ...]:
        """The arrays that are made tile by tile, in order."""
        return (*self.stages, *self.fused.values())

    def rows(self) -> list[tuple[str, ...]]:
        """The table: for each array what it is made of, its tiles, and what its tasks read, write and hold."""
        found: list[tuple[str, ...]] = []
        for stage in self.stages:
            itemsize = self.dtypes[stage.name].itemsize
            found.append(
                (
                    self._called(stage.name),
                    self._made_of(stage),
                    f"{self.tiling.counts(stage.labels):,}",
                    times(tile_of(stage, self.tiling)),
                    amount(stage_reads(stage, stage.labels, self.tiling)),
                    amount(itemsize * self.tiling.whole(stage.labels)),
                    amount(stage_bytes(stage, itemsize, self.tiling)),
                )
            )
        if self.blocks is not None:
            number = self.blocks.count()
            read = self.bytes_read - sum(stage_reads(stage, stage.labels, self.tiling) for stage in self.stages)
            written = self.dtype.itemsize * number * prod(self.block_shape)
            made = " + ".join(map(self._term, self.terms))
            words = (f"{number:,}", times(self.block_shape), amount(read), amount(written), amount(self.block_bytes))
            found.append(("result", made or "0", *words))
        return found

    def _called(self, name: str) -> str:
        """What people call an array: a core by the name that it has in a store."""
        return self.cores.get(name, name.removeprefix("_"))

    def _made_of(self, stage: Stage) -> str:
        """The formula of a tile, with arrays for their pieces."""
        called = {read.name: self._called(read.array) for read in stage.every_read}
        parts = {part.name: readable(part.expr, called) for part in stage.parts}
        return brief_text(readable(stage.expr, called | {name: f"({text})" for name, text in parts.items()}))

    def _term(self, term: Term) -> str:
        """A term of a block: what its core is made of, or which cores it has, and the axes where it stands."""
        order = dict.fromkeys(
            (*flat(term.slots), *flat(term.output)) if term.fused else (*flat(term.output), *flat(term.slots))
        )
        letters = dict(zip(order, index_names(self.expression), strict=False))
        axes = ",".join("".join(letters[la] for la in group) for group in term.output)
        made = [
            f"{self._called(n)}[{','.join(letters[la] for la in own)}]"
            for n, own in zip(term.cores, term.slots, strict=True)
        ]
        made = [self._made_of(self.fused[name]) for name in term.cores] if term.fused else made
        return f"{'*'.join(made) or '1'} -> [{axes}]"

    def foot(self) -> str:
        """The totals."""
        least = max(1, self.bound_bytes)
        return (
            f"{self.tasks:,} tasks, {amount(self.bytes_read)} read, {amount(self.bytes_written)} written, "
            f"{self.bytes_moved / least:.2f} x the least; {amount(self.peak_bytes)} at the peak "
            f"of a task, {self.slots} at a time; about {self.seconds:.2g} s"
        )

    def head(self) -> str:
        """What is stored."""
        result = f"{self.layout} result of {times(self.shape) or 'one number'}, {self.dtype}"
        zero = ""
        if self.blocks is not None:
            every = prod(-(-size // block) for size, block in zip(self.shape, self.block_shape, strict=True))
            zero = f"; of {every:,} blocks {every - self.blocks.count():,} are zero, and not written"
        return f"{result}, within {amount(self.memory)}{zero}"

    def __str__(self) -> str:
        lines = table([TITLES, *self.rows()], words=2)
        rule = "─" * max(map(len, lines))
        return "\n".join([self.head(), lines[0], rule, *lines[1:], rule, self.foot()])

    def __repr__(self) -> str:
        return f"<chunked plan: {self.foot()}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_svg(self) -> str:
        """The blocks of the result as a picture: those that are written, and those that are zero."""
        return blocks_svg(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture of the blocks, `plan.svg`."""
        if Path(path).suffix.lower() != ".svg":
            raise UnsupportedError(f"The picture of blocks is written as .svg, not as {Path(path).suffix or 'that'!r}.")
        Path(path).write_text(self.to_svg(), encoding="utf-8")


def times(sizes: Sequence[int]) -> str:
    """Sizes as a person writes them: 5,000 x 5,000."""
    return " x ".join(f"{size:,}" for size in sizes)


def brief_text(text: str, width: int = 40) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def readable(expr: Expr, names: Mapping[str, str]) -> str:
    """The text of the expression of a tile, with the names of arrays for those of their pieces."""
    text = str(expr).partition(" -> [")[0]
    return WORD.sub(lambda found: names.get(found.group(), found.group()), text)


def tile_of(stage: Stage, tiling: Tiling) -> tuple[int, ...]:
    """The shape of a tile of a stage."""
    return tuple(max(1, tiling.entries(group)) for group in stage.every_axis)


def shape_of(stage: Stage, tiling: Tiling) -> tuple[int, ...]:
    """The shape of the array that a stage makes."""
    return tuple(map(tiling.whole, stage.every_axis))


class Load(NamedTuple):
    """What a run has to do: bytes `moved` through the stores, and `added` to sums that are in memory.

    The calls for the pieces of sums count, and how many tasks can go on side by side; a task waits for what it reads,
    while others of its worker compute, or reads it `ahead`.
    """

    flops: int
    moved: int
    added: int
    tasks: int
    pieces: int
    width: int
    ahead: bool


def moving(load: Load, workers: int) -> float:
    """About how long it takes to read and write."""
    return load.moved / min(BANDWIDTH * min(workers, load.width), STORE)


def computing(load: Load, slots: int, blas: int = 1) -> float:
    """About how long it takes to compute."""
    return (load.flops / FLOPS / blas + load.added / ADDED) / side_by_side(load, slots)


def side_by_side(load: Load, slots: int) -> float:
    """How many tasks go on at a time on the average: the last of them are alone where they do not come out even."""
    return max(1.0, load.width / ceil(load.width / slots))


def seconds_of(load: Load, slots: int, workers: int, blas: int = 1) -> float:
    """About how long a run takes."""
    move, compute = moving(load, workers), computing(load, slots, blas)
    exposed = EXPOSED if load.ahead else workers / slots
    hidden = (1 - exposed) * min(move, compute)  # tasks compute while others read
    return move + compute - hidden + (load.tasks * TASK + load.pieces * PIECE) / side_by_side(load, slots)


def sum_of(terms: Sequence[Term], sizes: Mapping[Label, int]) -> Expr:
    """A block as an expression in tiles of cores."""
    found = [term.expression(sizes) for term in terms]
    return add_terms(found, found[0].shape)


def axes_of(term: Term) -> tuple[Axis, ...]:
    return tuple(tuple(Place(label) for label in group) for group in term.output)
