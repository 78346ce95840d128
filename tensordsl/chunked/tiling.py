"""Tiling: how long the tiles of each label are, so that a task fits in memory and little is read and written twice.

Everything here is counted by formulas in the numbers of tiles, never by listing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from itertools import product as combinations_of
from math import ceil, gcd, prod
from typing import NamedTuple

from tensordsl.chunked.cutting import Part, Read, Stage
from tensordsl.chunked.sources import CODED
from tensordsl.expr import Sum
from tensordsl.labels import Groups, Label, classes

BANDWIDTH = 1e9  # bytes a second that one worker reads and writes, about
STORE = 2e10  # bytes a second that a store gives all workers together, about
FLOPS = 2e10  # a second and a core, in products of matrices, about
ADDED = 5e9  # bytes a second and a core that are added to a sum, about
EXPOSED = 0.1  # of what is read ahead that is not hidden behind what is computed meanwhile, about
TASK = 3e-3  # seconds that the engine and the store take for one task, about
CHUNK = 1 << 23  # bytes that a chunk which is written has at the most, where that can be
SMALLEST = 1 << 16  # bytes of a chunk below which it is a file too small
SMALL_CHUNK = 1 << 20  # bytes that one may have in any case
MOST_PARTS = 16  # in which a length is parted for that at one time
DECODED = 10  # chunks that zarr decodes side by side
EXCHANGED = 4  # labels whose tiles may be made longer against so many whose tiles are made shorter
PLENTY = 4  # times what a task holds
LONGER, SHORTER = 0.999, 0.98  # of the time, to which longer and shorter tiles have to bring it
PIECE = 2e-4  # seconds that the call for one piece of a sum takes, about
SLABS = 8  # in which a product is added to a sum, so that there is no second tile beside it
SLABBED = 1 << 17  # entries of a tile that are worth it


class Stored(NamedTuple):
    """How an array lies where it is read: the bytes of an entry as it is computed with, and its chunks, if any.

    One that is made on the way says which labels its `axes` have: its chunks hang on how they are cut.
    """

    itemsize: int
    chunks: tuple[int, ...] | None = None
    axes: tuple[tuple[Label, ...], ...] | None = None


@dataclass(frozen=True)
class Tiling:
    """The sizes of labels, the lengths of their tiles and of the chunks along them; how arrays lie that are read.

    `readers` are the labels that arrays which are made on the way are read along, by those that they are made along.
    """

    sizes: Mapping[Label, int]
    lengths: Mapping[Label, int]
    arrays: Mapping[str, Stored] = field(default_factory=dict)
    units: Mapping[Label, int] = field(default_factory=dict)
    readers: Mapping[Label, Sequence[Label]] = field(default_factory=dict)
    ahead: bool = False  # whether the next piece of a sum is read while this one is added

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
        """How an array lies, its chunks known."""
        found = self.arrays.get(name, Stored(8))
        return found if found.axes is None else found._replace(chunks=self.chunks(found.axes, found.itemsize))

    def chunks(self, axes: Sequence[Sequence[Label]], itemsize: int) -> tuple[int, ...]:
        """The chunks in which an array with these labels is written: a tile is whole ones, and none is large.

        They are as long as those that its labels have in the data, or parts of a tile where those are none of it; no
        longer than what is read of it at a time, and, down to 1 MiB, so small that those that are coded side by side
        are half a tile.
        """
        chunks, units, whole = [], [], []
        tile = itemsize * prod(map(self.entries, axes))
        read = [self._read_at_once(group[0]) if group else 1 for group in axes]
        small = prod(read) * itemsize < min(SMALLEST, tile)  # where lengths have little in common
        for group, part in zip(axes, read, strict=True):
            inner = max(1, self.entries(group[1:]))
            length = (max(1, self.length(group[0])) if small else part) * inner if group else 1
            unit = self.units.get(group[0], 1) * inner if group else 1
            whole.append(not group or self.count(group[0]) == 1)
            chunks.append(length)
            units.append(unit if whole[-1] or length % unit == 0 else length)
        while itemsize * prod(chunks) > min(CHUNK, max(SMALL_CHUNK, tile // (2 * CODED))):
            shorter = []
            for axis, (chunk, unit) in enumerate(zip(chunks, units, strict=True)):
                parts = -(-chunk // unit)
                by = 2 if whole[axis] else next((n for n in range(2, MOST_PARTS + 1) if parts % n == 0), parts + 1)
                if 1 < parts >= by:
                    shorter.append((chunk, axis, unit * -(-parts // by)))
            if not shorter:
                break
            _, axis, chunks[axis] = max(shorter)
        return tuple(chunks)

    def _read_at_once(self, label: Label) -> int:
        """The length of a tile, or the part of it that is read at a time."""
        length = max(1, self.length(label))
        for reader in self.readers.get(label, ()):
            if self.count(reader) == 1:  # all of it, however it is parted
                continue
            read = max(1, self.length(reader))
            read = read if self.count(label) == 1 else gcd(length, read)
            length = min(length, read)
        return length


def bytes_read(reads: Iterable[Read], loop: Sequence[Label], tiling: Tiling) -> int:
    """The bytes that are read over all tiles of `loop`: of each array as often as labels go on that it has not.

    Of a chunk that a tile has a part of, the whole is read; of a diagonal, all of the blocks that it goes through.
    """
    total = 0
    for read in reads:
        itemsize, chunks, _ = tiling.stored(read.array)
        once = tiling.whole(dict.fromkeys(read.labels))
        before: set[Label] = set()
        for axis, chunk in zip(read.axes, chunks or [1] * len(read.axes), strict=False):
            if len(axis) == 1 and axis[0].label is None:
                once *= chunk
            elif len(axis) == 1 and axis[0].label is not None and once:
                label = axis[0].label
                if label in before:
                    once *= _in_chunks(label, chunk, tiling)
                elif tiling.length(label) % chunk:
                    each = tiling.count(label) * _in_chunks(label, chunk, tiling)
                    once = once * max(tiling.sizes[label], each) // tiling.sizes[label]
                before.add(label)
        total += itemsize * once * tiling.counts(label for label in loop if label not in read.labels)
    return total


def entries_asked(read: Read, tiling: Tiling) -> int:
    """The entries that are asked for over all tiles, with those that stand in the chunks of a diagonal or a row."""
    _, chunks, _ = tiling.stored(read.array)
    found = tiling.whole(dict.fromkeys(read.labels))
    before: set[Label | None] = {None}
    for axis, chunk in zip(read.axes, chunks or [1] * len(read.axes), strict=False):
        if len(axis) == 1:
            found *= chunk if axis[0].label in before else 1
            before.add(axis[0].label)
    return found


def _in_chunks(label: Label, chunk: int, tiling: Tiling) -> int:
    """The entries along an axis that a tile reads, in whole chunks."""
    size, length = tiling.sizes[label], tiling.length(label)
    if length >= size or length % chunk == 0:
        return length
    touched = 1 if chunk % length == 0 else -(-length // chunk) + (length % chunk > 1)
    return min(touched * chunk, size)


def bytes_held(read: Read, tiling: Tiling) -> int:
    """The bytes of a piece, and of the chunks that are decoded for it: a store decodes some of them at a time."""
    itemsize, chunks, _ = tiling.stored(read.array)
    piece = tiling.entries(read.labels)
    if chunks is None:
        return itemsize * piece
    decoded = 1
    for axis, chunk in zip(read.axes, chunks, strict=True):
        label = axis[0].label if len(axis) == 1 else None
        decoded *= chunk if label is None else _in_chunks(label, chunk, tiling)
    return itemsize * (piece + min(decoded, DECODED * prod(chunks)))


def bytes_coded(chunks: Sequence[int], itemsize: int) -> int:
    """The bytes of the chunks that are written at one time: each is copied, and coded."""
    return 2 * CODED * itemsize * prod(chunks)


def stage_reads(stage: Stage, loop: Sequence[Label], tiling: Tiling) -> int:
    """The bytes that a stage reads where its tiles are made for each tile of `loop`."""
    return bytes_read(stage.reads, loop, tiling) + sum(
        bytes_read(part.reads, (*loop, *part.summed), tiling) for part in stage.parts
    )


def stage_bytes(stage: Stage, itemsize: int, tiling: Tiling) -> int:
    """The bytes that a task of a stage holds at once, about: what it reads, adds up, and leaves."""
    tile = itemsize * tiling.entries(stage.labels)
    held = len(stage.parts) * tile
    coded = bytes_coded(tiling.chunks(stage.every_axis, itemsize), itemsize)

    def of(reads: Iterable[Read]) -> int:
        return sum(bytes_held(read, tiling) for read in reads)

    def added(part: Part) -> int:
        if isinstance(part.expr, Sum):  # of what is read once for several terms each may make as much again
            more = itemsize * tiling.entries(dict.fromkeys((*part.labels, *part.summed)))
            return 2 * tile + (len(part.expr.terms) - 1) * more
        return tile // (SLABS // 2) if _in_slabs(part, tiling.entries(part.labels)) else 2 * tile

    def read(part: Part) -> int:  # of a sum of several terms the next one is read ahead
        return of(part.reads) * (2 if tiling.ahead and tiling.counts(part.summed) > 1 else 1)

    adding = max((read(part) + added(part) for part in stage.parts), default=0)
    return held + max(adding, 0 if stage.is_sum else of(stage.reads) + 2 * tile, min(2 * tile, coded))


def slabs(part: Part, shape: Sequence[int]) -> tuple[int, list[slice]]:
    """An axis of a sum, and the slabs along it in which a term is added: one of them is there at a time.

    All of it is one slab where it is small, or where several would be more work.
    """
    axis = next((axis for axis, length in enumerate(shape) if length > 1), 0)
    size, number = (shape[axis], SLABS) if _in_slabs(part, prod(shape)) else (1, 1)
    return axis, [slice(lo, hi) for lo, hi in pairwise(size * n // number for n in range(number + 1)) if lo < hi]


def _in_slabs(part: Part, entries: int) -> bool:
    return part.is_product and entries >= SLABBED


def part_flops(part: Part, tiling: Tiling) -> int:
    """The operations of a sum, about: a multiplication and an addition for each entry of all labels, and each term."""
    terms = len(part.expr.terms) if isinstance(part.expr, Sum) else 1
    return 2 * terms * tiling.whole(dict.fromkeys((*part.labels, *part.summed)))


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
    `pinned` lengths that are asked for, `whole` the labels that are not cut, `arrays` how what is read lies and
    `readers` along which labels what is made is read.
    """

    classes: Mapping[Label, Label]
    units: Mapping[Label, int] = {}
    starts: Mapping[Label, int] = {}
    pinned: Mapping[Label, int] = {}
    whole: frozenset[Label] = frozenset()
    arrays: Mapping[str, Stored] = {}
    readers: Mapping[Label, Sequence[Label]] = {}
    ahead: bool = False


def choose(
    sizes: Mapping[Label, int],
    wanted: Wanted,
    held: Callable[[Tiling], int],
    seconds: Callable[[Tiling], float],
    limit: int,
) -> tuple[Tiling, int]:
    """The lengths that take the least time of those whose tasks hold no more than the limit; and the least there is.

    From tiles of a chunk on, lengths are made longer or shorter, those first that gain most by it, and then two against
    each other, as long as any does. Shorter tiles than chunks give more tasks, for many workers; the chunks are then
    read by several. It ends: moves take less time, but for those that only make a length longer.
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
    units = {label: first[one[label]] for label in sizes if one[label] in first}

    def tiling(lengths: Mapping[Label, int]) -> Tiling:
        own = {label: lengths[one[label]] for label in sizes}
        return Tiling(sizes, own, wanted.arrays, units, wanted.readers, wanted.ahead)

    def in_chunks(root: Label, length: int) -> int:
        """As many whole chunks as are at least as long; lengths below one chunk are what they are."""
        unit = first.get(root, 1)
        return min(extent[root], length if length < unit else unit * ceil(length / unit))

    smallest = {root: fixed.get(root, 1) for root in roots}
    least = held(tiling(smallest))
    lengths = {root: fixed.get(root, min(extent[root], first.get(root, 1))) for root in roots}
    while held(tiling(lengths)) > limit:
        shorter = [root for root in roots if root not in fixed and lengths[root] > 1]
        if not shorter:
            return tiling(smallest), least
        longest = max(shorter, key=lambda root: (lengths[root], root))
        lengths[longest] = in_chunks(longest, ceil(lengths[longest] / 2))
    best = seconds(tiling(lengths))

    def better(move: Mapping[Label, int]) -> float | None:
        """The time with other lengths, where that gains; None where it does not, or does not fit."""
        other = tiling({**lengths, **move})
        needed = held(other)
        if needed > limit:
            return None
        found = seconds(other)
        # Longer tiles take memory from those of other labels, shorter ones make more tasks: both have to gain by it,
        # but for longer ones where there is plenty.
        longer = any(length > lengths[root] for root, length in move.items())
        if longer and len(move) == 1 and PLENTY * needed <= limit:
            return found if found <= best * (1 + 1e-9) else None
        return found if found < best * (LONGER if longer else SHORTER) else None

    def others(root: Label) -> set[int]:
        """Lengths to try: twice, half, and the whole chunks with which there is one tile less."""
        length = lengths[root]
        fewer = ceil(extent[root] / max(1, ceil(extent[root] / length) - 1))
        return {in_chunks(root, each) for each in (2 * length, fewer, ceil(length / 2))} - {length}

    def exchanges() -> Iterator[dict[Label, int]]:
        """Lengths that would gain if they fitted, with others shorter to make room, those first that cost least."""
        timed = sorted((seconds(tiling({**lengths, root: length})), root, length) for root, length in singles)
        longer = [(root, length) for _, root, length in timed if length > lengths[root]]
        shorter = [(root, length) for _, root, length in timed if length < lengths[root]]
        for grown, shrunk in combinations_of(longer[:EXCHANGED], shorter[:EXCHANGED]):
            if grown[0] != shrunk[0]:
                yield dict((grown, room(grown, shrunk)))

    def room(grown: tuple[Label, int], shrunk: tuple[Label, int]) -> tuple[Label, int]:
        """The other length as much shorter as it has to be."""
        root, length = shrunk
        while length > 1 and held(tiling({**lengths, grown[0]: grown[1], root: length})) > limit:
            length = in_chunks(root, ceil(length / 2))
        return root, length

    while True:
        singles = [(root, length) for root in roots if root not in fixed for length in sorted(others(root))]
        gaining = [(found, dict([move])) for move in singles if (found := better(dict([move]))) is not None]
        gaining = gaining or [(found, move) for move in exchanges() if (found := better(move)) is not None]
        if not gaining:
            return tiling(lengths), least
        moved: set[Label] = set()
        for _, move in sorted(gaining, key=lambda pair: (pair[0], *pair[1].items())):
            # The best one, and those that still gain after it.
            if moved.isdisjoint(move) and (found := better(move)) is not None:
                best, lengths = found, {**lengths, **move}
                moved.update(move)


def kin_of(outputs: Sequence[Groups]) -> Iterator[tuple[Label, Label]]:
    """The labels that stand on one axis of a dense result: its blocks have one length there."""
    for axis in zip(*outputs, strict=True):
        yield from pairwise([group[0] for group in axis if group])
