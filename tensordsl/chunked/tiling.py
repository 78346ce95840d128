"""Tiling: how long the tiles of each label are, so that a task fits in memory and little is read and written twice.

Everything here is counted by formulas in the numbers of tiles, never by listing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil, prod

from tensordsl.chunked.cutting import Part, Read, Stage
from tensordsl.labels import Groups, Label, flat

BANDWIDTH = 1e9  # bytes a second that are read or written, about
FLOPS = 2e10  # a second and a core, in products of matrices, about
TASK = 3e-3  # seconds that the engine and the store take for one task, about
PIECE = 2e-4  # seconds that the call for one piece of a sum takes, about


@dataclass(frozen=True)
class Tiling:
    """The sizes of labels, and the lengths of their tiles."""

    sizes: Mapping[Label, int]
    lengths: Mapping[Label, int]

    def count(self, label: Label) -> int:
        """How many tiles a label has: one at least, which may be empty."""
        return max(1, ceil(self.sizes[label] / self.lengths[label]))

    def counts(self, labels: Iterable[Label]) -> int:
        return prod(map(self.count, labels))

    def range(self, label: Label, tile: int) -> tuple[int, int]:
        start = tile * self.lengths[label]
        return start, min(start + self.lengths[label], self.sizes[label])

    def entries(self, labels: Iterable[Label]) -> int:
        """The entries of a tile."""
        return prod(min(self.lengths[label], self.sizes[label]) for label in labels)

    def whole(self, labels: Iterable[Label]) -> int:
        """The entries of an array with these labels."""
        return prod(self.sizes[label] for label in labels)


def entries_read(reads: Iterable[Read], loop: Sequence[Label], tiling: Tiling) -> int:
    """The entries that are read over all tiles of `loop`: of each array as often as labels go on that it has not."""
    return sum(
        tiling.whole(dict.fromkeys(read.labels)) * tiling.counts(label for label in loop if label not in read.labels)
        for read in reads
    )


def stage_reads(stage: Stage, loop: Sequence[Label], tiling: Tiling) -> int:
    """The entries that a stage reads where its tiles are made for each tile of `loop`."""
    return entries_read(stage.reads, loop, tiling) + sum(
        entries_read(part.reads, (*loop, *part.summed), tiling) for part in stage.parts
    )


def stage_entries(stage: Stage, tiling: Tiling) -> int:
    """The entries that a task of a stage holds at once, about: what it reads, adds up, and leaves."""
    tile = tiling.entries(stage.labels)
    held = len(stage.parts) * tile

    def of(reads: Iterable[Read]) -> int:
        return sum(tiling.entries(read.labels) for read in reads)

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
        """How many there are, by inclusion and exclusion over the terms."""
        total = 0
        for size in range(1, len(self._outputs) + 1):
            for chosen in combinations(self._outputs, size):
                total += self._together(chosen) if size % 2 else -self._together(chosen)
        return total

    def _together(self, outputs: Sequence[tuple[Label | None, ...]]) -> int:
        """The blocks that all of some terms have: axes that any of them puts on one label have one tile."""
        axes = range(len(outputs[0]))
        parent = {axis: axis for axis in axes}

        def root(axis: int) -> int:
            while parent[axis] != axis:
                axis = parent[axis]
            return axis

        for output in outputs:
            stands: dict[Label, int] = {}
            for axis, label in enumerate(output):
                if label is not None:
                    parent[root(axis)] = root(stands.setdefault(label, axis))
        first = [outputs[0][axis] for axis in {root(axis) for axis in axes}]
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


def choose(
    sizes: Mapping[Label, int],
    units: Mapping[Label, int],
    classes: Mapping[Label, Label],
    fixed: Iterable[Label],
    entries: Callable[[Tiling], int],
    seconds: Callable[[Tiling], float],
    limit: int,
) -> tuple[Tiling, int]:
    """The lengths that take the least time of those whose `entries` keep within the limit; and the least there is.

    Labels of one class have one length, whole units of what is stored where that is possible. From the smallest tiles
    on, the length whose doubling gains most is doubled, as long as one gains: ends, as no length passes its size.
    """
    roots = sorted({classes[label] for label in sizes})
    members = {root: [label for label in sizes if classes[label] == root] for root in roots}
    extent = {root: max(1, *(sizes[label] for label in members[root])) for root in roots}
    whole = {classes[label] for label in fixed}

    def tiling(lengths: Mapping[Label, int]) -> Tiling:
        return Tiling(sizes, {label: lengths[classes[label]] for label in sizes})

    smallest = {root: extent[root] if root in whole else 1 for root in roots}
    least = entries(tiling(smallest))
    lengths = dict(smallest)
    for root in roots:
        if root not in whole:
            lengths[root] = min(extent[root], max(units.get(label, 1) for label in members[root]))
    while entries(tiling(lengths)) > limit:
        shorter = [root for root in roots if root not in whole and lengths[root] > 1]
        if not shorter:
            return tiling(smallest), least
        longest = max(shorter, key=lambda root: (lengths[root], root))
        lengths[longest] = ceil(lengths[longest] / 2)
    best = seconds(tiling(lengths))
    while True:
        tried = []
        for root in roots:
            if lengths[root] < extent[root]:
                longer = {**lengths, root: min(extent[root], 2 * lengths[root])}
                candidate = tiling(longer)
                if entries(candidate) <= limit:
                    tried.append((seconds(candidate), root, longer))
        if not tried or min(tried)[0] >= best:
            return tiling(lengths), least
        best, _, lengths = min(tried)


def classes_of(sizes: Mapping[Label, int], pairs: Iterable[tuple[Label, Label]]) -> dict[Label, Label]:
    """For each label the first of those that are cut alike."""
    parent = {label: label for label in sizes}

    def root(label: Label) -> Label:
        while parent[label] != label:
            label = parent[label]
        return label

    for a, b in pairs:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {label: root(label) for label in sizes}


def kin_of(outputs: Sequence[Groups]) -> Iterator[tuple[Label, Label]]:
    """The labels that stand on one axis of a dense result: its blocks have one length there."""
    for axis in zip(*outputs, strict=True):
        labels = [label for group in axis for label in flat((group,))[:1]]
        yield from pairwise(labels)
