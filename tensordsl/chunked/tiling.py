"""Tiling: how long the tiles of each label are, so that a task fits in memory and little is read and written twice.

Everything here is counted by formulas in the numbers of tiles, never by listing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import ceil, prod
from typing import NamedTuple

from tensordsl.chunked.cutting import Part, Read, Stage
from tensordsl.labels import Groups, Label, classes

BANDWIDTH = 1e9  # bytes a second that one worker reads and writes, about
STORE = 2e10  # bytes a second that a store gives all workers together, about
FLOPS = 2e10  # a second and a core, in products of matrices, about
TASK = 3e-3  # seconds that the engine and the store take for one task, about
DECODED = 10  # chunks that zarr decodes side by side
GAIN = 0.98  # of the time, to which shorter tiles have to bring it
PIECE = 2e-4  # seconds that the call for one piece of a sum takes, about


class Stored(NamedTuple):
    """How an array lies where it is read: the bytes of an entry as it is computed with, and its chunks, if any."""

    itemsize: int
    chunks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Tiling:
    """The sizes of labels, and the lengths of their tiles; and how the arrays lie that are read."""

    sizes: Mapping[Label, int]
    lengths: Mapping[Label, int]
    arrays: Mapping[str, Stored] = field(default_factory=dict)

    def count(self, label: Label) -> int:
        """How many tiles a label has: one at least, which may be empty."""
        return max(1, ceil(self.sizes[label] / self.lengths[label]))

    def counts(self, labels: Iterable[Label]) -> int:
        return prod(map(self.count, labels))

    def range(self, label: Label, tile: int) -> tuple[int, int]:
        start = tile * self.lengths[label]
        return start, min(start + self.lengths[label], self.sizes[label])

    def length(self, label: Label) -> int:
        """The length of a whole tile."""
        return min(self.lengths[label], self.sizes[label])

    def entries(self, labels: Iterable[Label]) -> int:
        """The entries of a tile."""
        return prod(map(self.length, labels))

    def whole(self, labels: Iterable[Label]) -> int:
        """The entries of an array with these labels."""
        return prod(self.sizes[label] for label in labels)

    def stored(self, name: str) -> Stored:
        return self.arrays.get(name, Stored(8))


def bytes_read(reads: Iterable[Read], loop: Sequence[Label], tiling: Tiling) -> int:
    """The bytes that are read over all tiles of `loop`: of each array as often as labels go on that it has not.

    Of a chunk that a tile has a part of, the whole is read.
    """
    total = 0
    for read in reads:
        itemsize, chunks = tiling.stored(read.array)
        once = tiling.whole(dict.fromkeys(read.labels))
        for axis, chunk in zip(read.axes, chunks or (), strict=False):
            if len(axis) == 1 and axis[0].label is not None and once:
                label = axis[0].label
                each = tiling.count(label) * _in_chunks(label, chunk, tiling)
                once = once * max(tiling.sizes[label], each) // tiling.sizes[label]
        total += itemsize * once * tiling.counts(label for label in loop if label not in read.labels)
    return total


def _in_chunks(label: Label, chunk: int, tiling: Tiling) -> int:
    """The entries along an axis that a tile reads, in whole chunks."""
    size, length = tiling.sizes[label], tiling.length(label)
    if length >= size or length % chunk == 0:
        return length
    touched = 1 if chunk % length == 0 else -(-length // chunk) + (length % chunk > 1)
    return min(touched * chunk, size)


def bytes_held(read: Read, tiling: Tiling) -> int:
    """The bytes of a piece, and of the chunks that are decoded for it: a store decodes some of them at a time."""
    itemsize, chunks = tiling.stored(read.array)
    piece = tiling.entries(read.labels)
    if chunks is None:
        return itemsize * piece
    decoded = 1
    for axis, chunk in zip(read.axes, chunks, strict=True):
        label = axis[0].label if len(axis) == 1 else None
        decoded *= chunk if label is None else _in_chunks(label, chunk, tiling)
    return itemsize * (piece + min(decoded, DECODED * prod(chunks)))


def stage_reads(stage: Stage, loop: Sequence[Label], tiling: Tiling) -> int:
    """The bytes that a stage reads where its tiles are made for each tile of `loop`."""
    return bytes_read(stage.reads, loop, tiling) + sum(
        bytes_read(part.reads, (*loop, *part.summed), tiling) for part in stage.parts
    )


def stage_bytes(stage: Stage, itemsize: int, tiling: Tiling) -> int:
    """The bytes that a task of a stage holds at once, about: what it reads, adds up, and leaves."""
    tile = itemsize * tiling.entries(stage.labels)
    held = len(stage.parts) * tile

    def of(reads: Iterable[Read]) -> int:
        return sum(bytes_held(read, tiling) for read in reads)

    adding = max((of(part.reads) + 2 * tile for part in stage.parts), default=0)
    return max(held + adding, held + of(stage.reads) + 2 * tile)


def part_flops(part: Part, tiling: Tiling) -> int:
    """The operations of a sum, about: a multiplication and an addition for each entry of all labels."""
    return 2 * tiling.whole(dict.fromkeys((*part.labels, *part.summed)))


# --- blocks of a dense result -------------------------------------------------------------------------------------


class Blocks:
    """The blocks of a dense array that structure leaves: those where equal output labels have equal tiles.

    Each term says for each axis which labels it stands for; axes are cut alike where a term repeats a label on them.
    """

    def __init__(self, outputs: Sequence[Groups], tiling: Tiling) -> None:
        self._outputs = [tuple(group[0] if group else None for group in output) for output in outputs]
        self._tiling = tiling

    def count(self) -> int:
        """How many there are, by inclusion and exclusion over the ways in which terms tie axes together."""
        total = 0
        patterns = self._patterns()
        for size in range(1, len(patterns) + 1):
            for chosen in combinations(patterns, size):
                total += self._together(chosen) if size % 2 else -self._together(chosen)
        return total

    def _patterns(self) -> list[frozenset[tuple[int, int]]]:
        """For each term the pairs of axes that have one label; without those whose blocks others have all."""
        found = set()
        for output in self._outputs:
            first: dict[Label, int] = {}
            pairs = ((first.setdefault(label, axis), axis) for axis, label in enumerate(output) if label is not None)
            found.add(frozenset(pair for pair in pairs if pair[0] != pair[1]))
        return sorted((one for one in found if not any(other < one for other in found)), key=sorted)

    def _together(self, patterns: Iterable[frozenset[tuple[int, int]]]) -> int:
        """The blocks that all of some patterns have: axes that any of them ties together have one tile."""
        output = self._outputs[0]
        roots = classes(range(len(output)), (pair for pattern in patterns for pair in pattern))
        first = [output[axis] for axis, root in roots.items() if axis == root]
        return prod(self._tiling.count(label) for label in first if label is not None)

    def all(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The blocks in order, as the tile on each axis, with the places of the terms that have entries there."""
        for place, output in enumerate(self._outputs):
            labels = [label for label in dict.fromkeys(output) if label is not None]
            for tiles in product_of([self._tiling.count(label) for label in labels]):
                at = dict(zip(labels, tiles, strict=True))
                block = tuple(0 if label is None else at[label] for label in output)
                terms = self.terms_at(block)
                if terms[0] == place:  # a block is given by the first of its terms
                    yield block, terms

    def along(self, axes: Iterable[int]) -> int:
        """How many tiles some axes have together."""
        output = self._outputs[0]
        return prod(self._tiling.count(label) for axis in axes if (label := output[axis]) is not None)

    def share(self, first: int, last: int) -> int:
        """How many blocks are written at a tile of the first axis and one of the last, over all tiles between them."""
        found: set[tuple[int, ...]] = set()
        for output in self._outputs:
            at: dict[Label, int] = {}
            for label, tile in ((output[0], first), (output[-1], last)):
                if label is not None and at.setdefault(label, tile) != tile:
                    break
            else:
                between = [label for label in output[1:-1] if label is not None]
                free = [label for label in dict.fromkeys(between) if label not in at]
                for tiles in product_of([self._tiling.count(label) for label in free]):
                    here = at | dict(zip(free, tiles, strict=True))
                    found.add(tuple(here[label] for label in between))
        return len(found)

    def terms_at(self, block: Sequence[int]) -> tuple[int, ...]:
        found = []
        for place, output in enumerate(self._outputs):
            at: dict[Label, int] = {}
            if all(
                label is None or at.setdefault(label, tile) == tile for label, tile in zip(output, block, strict=True)
            ):
                found.append(place)
        return tuple(found)


def product_of(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All combinations, the last fastest, without an array of them."""
    tiles = [0] * len(counts)
    if any(count == 0 for count in counts):
        return
    while True:
        yield tuple(tiles)
        place = len(counts) - 1
        while place >= 0 and tiles[place] == counts[place] - 1:
            tiles[place] = 0
            place -= 1
        if place < 0:
            return
        tiles[place] += 1


# --- the search ---------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """What is given of the lengths of tiles: labels of one class have one length.

    `units` are the lengths of the chunks that arrays are stored in, `starts` lengths to begin with in their place,
    `pinned` lengths that are asked for, `whole` the labels that are not cut, `arrays` how what is read lies.
    """

    classes: Mapping[Label, Label]
    units: Mapping[Label, int] = {}
    starts: Mapping[Label, int] = {}
    pinned: Mapping[Label, int] = {}
    whole: frozenset[Label] = frozenset()
    arrays: Mapping[str, Stored] = {}


def choose(
    sizes: Mapping[Label, int],
    wanted: Wanted,
    held: Callable[[Tiling], int],
    seconds: Callable[[Tiling], float],
    limit: int,
) -> tuple[Tiling, int]:
    """The lengths that take the least time of those whose tasks hold no more than the limit; and the least there is.

    From tiles of a chunk on, lengths are doubled or halved, those first that gain most by it, as long as any does.
    Shorter tiles than chunks give more tasks, for many workers; the chunks are then read by several. It ends: the time
    never grows, and where it does not fall lengths grow.
    """
    one = wanted.classes
    roots = sorted({one[label] for label in sizes})
    extent = {root: max(1, *(sizes[label] for label in sizes if one[label] == root)) for root in roots}

    def of_class(lengths: Mapping[Label, int]) -> dict[Label, int]:
        found: dict[Label, int] = {}
        for label, length in lengths.items():
            found[one[label]] = max(found.get(one[label], 1), length)
        return found

    fixed = of_class({label: sizes[label] for label in wanted.whole})
    fixed = {root: extent[root] for root in fixed} | {
        root: min(length, extent[root]) for root, length in of_class(wanted.pinned).items() if root not in fixed
    }
    first = of_class(wanted.units) | of_class(wanted.starts)

    def tiling(lengths: Mapping[Label, int]) -> Tiling:
        return Tiling(sizes, {label: lengths[one[label]] for label in sizes}, wanted.arrays)

    smallest = {root: fixed.get(root, 1) for root in roots}
    least = held(tiling(smallest))
    lengths = {root: fixed.get(root, min(extent[root], first.get(root, 1))) for root in roots}
    while held(tiling(lengths)) > limit:
        shorter = [root for root in roots if root not in fixed and lengths[root] > 1]
        if not shorter:
            return tiling(smallest), least
        longest = max(shorter, key=lambda root: (lengths[root], root))
        lengths[longest] = ceil(lengths[longest] / 2)
    best = seconds(tiling(lengths))

    def better(root: Label, length: int) -> float | None:
        """The time with another length, where that gains; None where it does not, or does not fit."""
        other = tiling({**lengths, root: length})
        if held(other) > limit:
            return None
        found = seconds(other)
        # Of two that take as long the one of fewer tiles: longer ones may gain nothing, shorter ones have to.
        gains = found <= best * (1 + 1e-9) if length > lengths[root] else found < best * GAIN
        return found if gains else None

    while True:
        moves = []
        for root in roots:
            for length in {min(extent[root], 2 * lengths[root]), ceil(lengths[root] / 2)} - {lengths[root]}:
                if root not in fixed and (found := better(root, length)) is not None:
                    moves.append((found, root, length))
        if not moves:
            return tiling(lengths), least
        moved = set()
        for _, root, length in sorted(moves):  # the best one, and those that still gain after it
            if root not in moved and (found := better(root, length)) is not None:
                best, lengths = found, {**lengths, root: length}
                moved.add(root)


def kin_of(outputs: Sequence[Groups]) -> Iterator[tuple[Label, Label]]:
    """The labels that stand on one axis of a dense result: its blocks have one length there."""
    for axis in zip(*outputs, strict=True):
        yield from pairwise([group[0] for group in axis if group])
