"""Sparse forms of structured values: where each entry stands, read off the labels once; values are laid there after.

A term in the order of its row labels is a CSR matrix in canonical form as it is, with no search: an axis is a group of
labels, the first the slowest. The pattern of several terms is the sum of such matrices, which SciPy merges in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tensordsl.execution.layout import Layout
from tensordsl.expr import Pattern, Select
from tensordsl.functions import routines
from tensordsl.labels import Group, Label
from tensordsl.program.threads import in_blocks, thread_count

Array = np.ndarray[Any, Any]
TILE = (32, 512)  # entries along the first and the last axis that are laid at once: what is read across stays cached
FEW = 1 << 18  # entries that are not worth a second thread


class Entries(NamedTuple):
    """The entries of a term: an array with one axis for each of the labels; the same all along the others."""

    core: Any
    labels: Sequence[Label]
    layout: Layout

    @property
    def total(self) -> int:
        return prod(extents(self.layout, self.layout.axes))

    def along(self, axes: Sequence[Label]) -> Array:
        """A view with these axes."""
        order = [self.labels.index(label) for label in axes if label in self.labels]
        key = tuple(slice(None) if label in self.labels else None for label in axes)
        return np.broadcast_to(np.asarray(self.core).transpose(order)[key], extents(self.layout, axes))

    def write(self, out: Array) -> None:
        view = self.along(self.layout.axes)
        out.reshape(view.shape)[...] = view


def extents(layout: Layout, axes: Sequence[Label]) -> tuple[int, ...]:
    return tuple(layout.sizes[label] for label in axes)


def positions_of(select: Select) -> Array:
    """The places that a selection by a list or a pattern takes."""
    if isinstance(select.positions, Pattern):
        return np.asarray(getattr(routines, select.positions.name)(select.positions.size))
    return np.asarray(select.positions, np.int64)


def along(
    layout: Layout,
    group: Group,
    axes: Sequence[Label],
    kind: Any,
    ranges: Mapping[Label, tuple[int, int]] = MappingProxyType({}),
) -> Array:
    """The place on an axis of the value that its group of labels stands for, to be broadcast over the axes.

    `ranges` are the parts of labels that are meant; of others, all.
    """

    def digit(label: Label) -> Array:
        if label in layout.scatter:
            select, row = layout.scatter[label]
            if row is None:
                return np.asarray(select.start, kind)
            if select.positions is not None:
                return positions_of(select).astype(kind)[digit(row)]
            return np.asarray(select.start + select.step * digit(row), kind)
        shape = [1] * len(axes)
        shape[axes.index(label)] = -1
        return np.arange(*ranges.get(label, (0, layout.sizes[label])), dtype=kind).reshape(shape)

    place = np.zeros([1] * len(axes), kind)
    for label in group:
        place = place * layout.sizes[label] + digit(label)
    return place


def kind_for(*counts: int) -> Any:
    """The type of index that holds numbers up to these."""
    return np.int32 if max(counts, default=0) <= np.iinfo(np.int32).max else np.int64


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def coordinates(layouts: Sequence[Layout], shape: tuple[int, ...]) -> tuple[Array, ...]:
    """The place of each entry along each axis, term after term, each in the order of its labels."""
    kind = kind_for(*shape) if len(shape) <= 2 else np.int64  # as SciPy has them
    counts = [prod(extents(layout, layout.axes)) for layout in layouts]
    found = tuple(np.empty(sum(counts), kind) for _ in shape)
    start = 0
    for layout, count in zip(layouts, counts, strict=True):
        for axis, out in zip(layout.output, found, strict=True):
            piece = out[start : start + count].reshape(extents(layout, layout.axes))
            piece[...] = along(layout, axis, layout.axes, kind)
        start += count
    return tuple(map(read_only, found))


# --- rows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Where the entries of one term go in the data of a CSR matrix: `places` of them, or strides from a `start`."""

    axes: tuple[Label, ...]
    places: Array | None
    start: int
    strides: tuple[int, ...]
    distinct: bool  # no place stands twice, so that the entries may be laid in any order
    lost: Array  # entries, counted along the axes, that a later one writes over: they are added at the end
    regained: Array  # their places

    def lay(self, values: Array, data: Array) -> None:
        """Write the values, a tile at a time, several threads side by side."""
        many = values.size >= FEW and self.distinct
        in_blocks(self._lay, values.shape[0] if values.ndim else 1, thread_count() if many else 1, values, data)

    def _lay(self, start: int, stop: int, chunk: int, values: Array, data: Array) -> None:
        if self.places is None:
            steps = tuple(data.itemsize * stride for stride in self.strides)
            target = as_strided(data[self.start :], values.shape, steps)
            for tile in tiles(values.shape, start, stop):
                target[tile] = values[tile]
        else:
            for tile in tiles(values.shape, start, stop):
                data[self.places[tile].astype(np.intp)] = np.ascontiguousarray(values[tile])

    def add_lost(self, values: Array, data: Array) -> None:
        if len(self.lost):
            np.add.at(data, self.regained, values[np.unravel_index(self.lost, values.shape)])


@dataclass(frozen=True)
class Rows:
    """The pattern of a CSR matrix, and where in it the entries of each term go."""

    indptr: Array
    indices: Array
    pieces: tuple[Piece, ...]

    def values(self, terms: Sequence[Entries], dtype: Any) -> Array:
        """The data of the matrix."""
        data = np.empty(len(self.indices), dtype)
        views = [entries.along(piece.axes) for entries, piece in zip(terms, self.pieces, strict=True)]
        for piece, view in zip(self.pieces, views, strict=True):
            piece.lay(view, data)
        for piece, view in zip(self.pieces, views, strict=True):
            piece.add_lost(view, data)
        return data


def tiles(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Slices along the first and the last axis that together take all from `start` to `stop` along the first."""
    if not shape:
        yield ()
        return
    last = min(TILE[1], shape[-1]) if len(shape) > 1 else 1
    first = max(1, TILE[0] * TILE[1] // max(1, prod(shape[1:-1]) * last))
    between = (slice(None),) * (len(shape) - 2)
    for row in range(start, stop, first):
        rows = slice(row, min(row + first, stop))
        if len(shape) == 1:
            yield (rows,)
        for column in range(0, shape[-1] if len(shape) > 1 else 0, last):
            yield (rows, *between, slice(column, column + last))


def rows_of(layouts: Sequence[Layout], shape: tuple[int, int]) -> Rows:
    """The pattern of a sum of terms: merged where the labels give the order, else sorted, once."""
    merge = len(layouts) <= 64 and all(map(is_ordered, layouts))
    indptr, indices, found = (merged if merge else sorted_once)(layouts, shape)
    pieces = [
        piece_of(layout.axes, places.reshape(extents(layout, layout.axes)), merge, lost, places[lost])
        for layout, (places, lost) in zip(layouts, found, strict=True)
    ]
    return Rows(read_only(indptr), read_only(indices), tuple(pieces))


def is_ordered(layout: Layout) -> bool:
    """Whether places rise with labels, so that entries in the order of the labels are in the order of the places."""
    return all(select.positions is None and select.step > 0 for select, _ in layout.scatter.values())


def piece_of(axes: tuple[Label, ...], places: Array, distinct: bool, lost: Array, regained: Array) -> Piece:
    """Strides instead of places, where those are what the places are."""
    start, strides = 0, [0] * places.ndim
    if places.size:
        start = int(places.flat[0])
        for axis, count in enumerate(places.shape):
            step = tuple(int(other == axis and count > 1) for other in range(places.ndim))
            strides[axis] = int(places[step]) - start
        regular = np.asarray(start, places.dtype)
        for axis, (stride, count) in enumerate(zip(strides, places.shape, strict=True)):
            steps = stride * np.arange(count, dtype=places.dtype)
            regular = regular + steps.reshape([-1 if other == axis else 1 for other in range(places.ndim)])
        if not np.array_equal(places, regular):
            return Piece(axes, places, 0, (), distinct, lost, regained)
    return Piece(axes, None, start, tuple(strides), distinct, lost, regained)


# Row pointers and columns; for each term, its axes in the order of its labels (rows first, as a CSR matrix is), the
# places of its entries, and which of them a later entry writes over.
Found = tuple[Array, Array, list[tuple[Array, Array]]]


def merged(layouts: Sequence[Layout], shape: tuple[int, int]) -> Found:
    """Each term as a canonical CSR matrix of a bit of its own; their sum says who has an entry where."""
    from scipy.sparse import csr_array  # scipy is heavy, and needed here alone

    counts = [prod(extents(layout, layout.axes)) for layout in layouts]
    kind = kind_for(sum(counts), *shape)
    bits = next(code for code in (np.uint8, np.uint16, np.uint32, np.uint64) if len(layouts) <= 8 * code().itemsize)
    none = np.zeros(0, kind)
    if len(layouts) == 1:
        return *term_rows(layouts[0], shape, kind), [(np.arange(counts[0], dtype=kind), none)]
    total = csr_array(shape, dtype=bits)
    for bit, (layout, count) in enumerate(zip(layouts, counts, strict=True)):
        indptr, indices = term_rows(layout, shape, kind)
        term = csr_array((np.full(count, 1 << bit, bits), indices, indptr), shape=shape)
        term.has_canonical_format = True
        total = total + term if bit else term
    codes, found = total.data, []
    for bit in range(len(layouts)):
        places = np.flatnonzero(codes & bits(1 << bit)).astype(kind, copy=False)
        found.append((places, np.flatnonzero(codes[places] >> bits(bit) > 1)))
    return total.indptr, total.indices, found


def term_rows(layout: Layout, shape: tuple[int, int], kind: Any) -> tuple[Array, Array]:
    """The row pointers and columns of one term."""
    sizes = extents(layout, layout.axes)
    rows, columns = (along(layout, group, layout.axes, kind) for group in layout.output)
    width = prod(size for size, varies in zip(sizes, rows.shape, strict=True) if varies == 1)
    every = np.broadcast_to(columns, sizes).reshape(-1)
    if rows.size == shape[0]:
        return np.arange(shape[0] + 1, dtype=kind) * kind(width), every
    lengths = np.zeros(shape[0] + 1, kind)
    lengths[rows.reshape(-1) + 1] = width
    return np.cumsum(lengths, dtype=kind), every


def sorted_once(layouts: Sequence[Layout], shape: tuple[int, int]) -> Found:
    """The general way: all places sorted."""
    keys = []
    for layout in layouts:
        rows, columns = (along(layout, group, layout.axes, np.int64) for group in layout.output)
        keys.append(np.broadcast_to(rows * shape[1] + columns, extents(layout, layout.axes)).reshape(-1))
    every = np.concatenate(keys)
    distinct, places = np.unique(every, return_inverse=True)
    kind = kind_for(len(every), *shape)
    rows, columns = np.divmod(distinct, max(shape[1], 1))
    indptr = np.searchsorted(rows, np.arange(shape[0] + 1)).astype(kind)
    last = np.empty(len(distinct), kind)  # who writes there last
    last[places] = np.arange(len(every), dtype=kind)
    lost = last[places] != np.arange(len(every), dtype=kind)
    ends = np.cumsum([len(key) for key in keys])[:-1]
    found = [
        (own.astype(kind), np.flatnonzero(over))
        for own, over in zip(np.split(places, ends), np.split(lost, ends), strict=True)
    ]
    return indptr, columns.astype(kind), found
