"""Running: what one task does, which is one tile of one stage, or one block of a dense result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tensordsl.chunked.cutting import Axis, Part, Read, Stage, tile_size
from tensordsl.chunked.sources import Source
from tensordsl.chunked.tiling import Tiling, product_of, slabs
from tensordsl.errors import BindError
from tensordsl.execution.compiled import CompiledFunction
from tensordsl.expr import Constant, Expr, Symbol
from tensordsl.labels import Label
from tensordsl.program.build import dimensions

Tiles = Mapping[Label, int]
Array = np.ndarray[Any, Any]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Job:
    """All that a worker has to know to make any tile: the stages, how they are cut, and where everything lies.

    `sources` are the arrays that are read: data, and what earlier stages have made.
    """

    stages: Mapping[str, Stage]
    tiling: Tiling
    sources: Mapping[str, Source]
    constants: Mapping[str, Array]
    sizes: Mapping[str, int]  # behind the dimensions, for what is not cut

    def piece(self, read: Read, tiles: Tiles) -> Array:
        """The piece that a tile reads, its axes the labels of the places."""
        region, shape, squeezed = self.region(read.axes, tiles)
        if read.array in self.constants:
            found = self.constants[read.array][region]
        else:
            found = self.sources[read.array].read(region)
        if squeezed:
            found = found.reshape([size for axis, size in enumerate(found.shape) if axis not in squeezed])
        found = found.reshape(shape) if found.shape != shape else found
        return numbers(found)

    def region(self, axes: Sequence[Axis], tiles: Tiles) -> tuple[tuple[slice, ...], tuple[int, ...], set[int]]:
        """Where a piece lies in its array; its shape by labels; and the axes that no label goes along."""
        region, shape, squeezed = [], [], set()
        for number, axis in enumerate(axes):
            if not axis or axis[0].label is None:
                start = axis[0].start if axis else 0
                region.append(slice(start, start + 1))
                squeezed.add(number)
                continue
            first, *inner = axis
            faster = 1
            for place in inner:
                assert place.label is not None
                faster *= self.tiling.sizes[place.label]
            assert first.label is not None
            lo, hi = self.tiling.range(first.label, tiles.get(first.label, 0))  # of what is not cut there is one tile
            if first.step > 0:
                region.append(
                    slice(
                        (first.start + first.step * lo) * faster,
                        (first.start + first.step * hi) * faster,
                        first.step if faster == 1 else 1,
                    )
                )
            else:
                stop = first.start + first.step * hi
                region.append(slice(first.start + first.step * lo, None if stop < 0 else stop, first.step))
            shape += [hi - lo, *(self.tiling.sizes[place.label] for place in inner if place.label is not None)]
        return tuple(region), tuple(shape), squeezed

    # --- tiles ----------------------------------------------------------------------------------------------------

    def tile(self, stage: Stage, tiles: Tiles) -> Array:
        """One tile of a stage."""
        return self.finished(stage, tiles, {part.name: self.sum(part, tiles) for part in stage.parts})

    def finished(self, stage: Stage, tiles: Tiles, sums: Mapping[str, Any]) -> Array:
        """One tile of a stage whose parts have been added up."""
        values = dict(sums)
        if isinstance(stage.expr, Symbol) and stage.expr.name in values:
            return np.asarray(values[stage.expr.name])
        values |= {read.name: self.piece(read, tiles) for read in stage.reads}
        return np.asarray(call(stage.expr, values, self.lengths(stage.labels, tiles)))

    def core(self, stage: Stage | None, name: str, labels: Sequence[Label], tiles: Tiles) -> Array:
        """A piece of a core with an axis for each label: made here where a stage is given, read otherwise."""
        ranges = [self.tiling.range(label, tiles.get(label, 0)) for label in labels]
        if stage is None:
            found = self.sources[name].read(tuple(slice(lo, hi) for lo, hi in ranges))
        else:
            given = zip(stage.axes, labels, strict=True)
            found = self.tile(stage, {axis[0].label: tiles.get(label, 0) for axis, label in given if axis})  # type: ignore[misc]
        return numbers(found.reshape([hi - lo for lo, hi in ranges]))

    def put(self, name: str, tiles: Tiles, value: Array) -> None:
        """Store a tile of a stage."""
        region, _, _ = self.region(self.stages[name].axes, tiles)
        self.write(name, region, value)

    def write(self, name: str, region: tuple[slice, ...], value: Array) -> None:
        """Store a part of an array. `BindError` for one that would not be the same in the dtype that was planned."""
        planned = self.sources[name].dtype
        if not fits(value, planned):
            raise BindError(
                f"A function gives {value.dtype} for these data, and {planned} was planned for what it gives. Give "
                "data of the dtype that its value has, or store its value and give that as data of its own."
            )
        shape = [1 if part.stop is None else part.stop - part.start for part in region]
        self.sources[name].write(region, value.reshape(shape))

    def sum(self, part: Part, tiles: Tiles, chosen: range | None = None) -> Any:
        """A sum over tiles, added up in order; `chosen` are those of its terms that are meant."""
        total: Any = None
        every = product_of([self.tiling.count(label) for label in part.summed])
        meant = every if chosen is None else islice(every, chosen.start, chosen.stop)
        terms = ({**tiles, **dict(zip(part.summed, number, strict=True))} for number in meant)

        def read(at: Tiles) -> tuple[Tiles, dict[str, Array]]:
            return at, {read.name: self.piece(read, at) for read in part.reads}

        for at, pieces in ahead(read, terms) if self.is_looped(part) else map(read, terms):
            total = self._added(total, part, pieces, at)
            del pieces  # before the next ones are read
        return total

    def is_looped(self, part: Part) -> bool:
        """Whether a sum has several terms whose pieces are read from a store: one is read while another is added."""
        stored = any(read.array in self.sources and self.sources[read.array].is_stored for read in part.reads)
        return stored and self.tiling.ahead and self.tiling.counts(part.summed) > 1

    def _added(self, total: Any, part: Part, pieces: Mapping[str, Array], tiles: Tiles) -> Any:
        """A sum with one term more."""
        lengths = self.lengths((*part.labels, *part.summed), tiles)
        shape = tuple(lengths[str(tile_size(label))] for label in part.labels)
        axis, found = slabs(part, shape)
        if len(found) == 1:
            value = call(part.expr, pieces, lengths)
            if total is None:
                return value
            if not isinstance(total, np.ndarray) or not total.ndim:
                return total + value
            total += value
            return total
        label, first = part.labels[axis], total is None
        value = None  # of a slab, in memory that the next one takes
        for slab in found:
            own = {
                read.name: pieces[read.name][tuple(slab if la == label else slice(None) for la in read.labels)]
                for read in part.reads
            }
            sizes = {**lengths, str(tile_size(label)): slab.stop - slab.start}
            place = (*[slice(None)] * axis, slab)
            if total is None:
                value = call(part.expr, own, sizes)
                total = np.empty(shape, value.dtype)
                total[place] = value
            elif first:
                call(part.expr, own, sizes, out=total[place])
            else:
                same = value is not None and value.shape == total[place].shape
                value = call(part.expr, own, sizes, out=value if same else None)
                total[place] += value
        return total

    def lengths(self, labels: Sequence[Label], tiles: Tiles) -> dict[str, int]:
        """The sizes of a tile, by the names that its expression has for them."""
        found = dict(self.sizes)
        for label in labels:
            lo, hi = self.tiling.range(label, tiles.get(label, 0))
            found[str(tile_size(label))] = hi - lo
        return found


def ahead(read: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """What is read of each item, the next one while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        before: Future[U] | None = None
        for item in items:
            following = pool.submit(read, item)
            if before is not None:
                yield before.result()
            before = following
        if before is not None:
            yield before.result()


def fits(value: Array, dtype: np.dtype[Any]) -> bool:
    """Whether an array is the same in another dtype."""
    if not np.can_cast(value.dtype, dtype, "safe"):
        return False
    if value.dtype.kind not in "iu" or dtype.kind not in "fc" or not value.size:
        return True
    largest = 2 ** (np.finfo(dtype).nmant + 1)  # up to which every whole number is there
    return bool(-largest <= value.min() and value.max() <= largest)


def numbers(array: Array) -> Array:
    """A piece as it is computed with: whole numbers and truth values in 64 bits, as everywhere in the library."""
    return array.astype(np.int64) if array.dtype.kind in "biu" and array.dtype.itemsize < 8 else array


class Called(NamedTuple):
    """The function of an expression of a tile, and what it is given by name."""

    function: CompiledFunction
    arrays: tuple[str, ...]
    sizes: frozenset[str]


@lru_cache(maxsize=256)
def called(expr: Expr) -> Called:
    sizes = dimensions([expr]) | {dim.name for dim in expr.dims}
    return Called(
        CompiledFunction((expr,), "dense", True, keep=False),
        tuple(symbol.name for symbol in expr.symbols),
        frozenset(sizes),
    )


def call(expr: Expr, values: Mapping[str, Any], sizes: Mapping[str, int], out: Array | None = None) -> Any:
    """The value of an expression of a tile, in `out` if given. Sizes that no array shows are given by name."""
    if isinstance(expr, Constant):
        return expr.array
    if isinstance(expr, Symbol):
        return values[expr.name]
    found = called(expr)
    more = {name: size for name, size in sizes.items() if name in found.sizes}
    return found.function({name: values[name] for name in found.arrays}, out=out, **more)
