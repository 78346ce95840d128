"""Dask arrays in, lazy dask arrays out: the stages of an expression as blockwise layers of public calls alone.

A sum over tiles is a chain: each layer adds one tile of the labels that are summed over to what the one before it left,
so that a task holds one piece of each array and its own piece of the sum, whatever the number of tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from itertools import product as combinations
from math import prod
from typing import Any

import numpy as np

from tensordsl.chunked.binding import bind_sources
from tensordsl.chunked.computing import budget_of
from tensordsl.chunked.cutting import Part, Read, Stage, tile_size
from tensordsl.chunked.plan import ChunkedPlan, Term, sum_of
from tensordsl.chunked.planning import Asked, Budget, plan_chunked
from tensordsl.chunked.running import call, numbers
from tensordsl.chunked.streaming import SparseBlocks
from tensordsl.errors import PlanError, UnsupportedError
from tensordsl.expr import Expr, Symbol, operation
from tensordsl.labels import Label
from tensordsl.program.threads import thread_count

MOST_LAYERS = 256  # that one sum may be a chain of


@operation("evaluate_lazily")
def evaluate_lazily(
    expressions: Sequence[Expr], output: str, single: bool, memory: int | None, data: Mapping[Any, Any]
) -> Any:
    """The values of expressions, some of whose data are dask arrays, as dask arrays."""
    if output not in ("dense", "sparse"):
        raise UnsupportedError(
            f"output={output!r} is made of NumPy arrays, and some of the data are dask arrays. Use output='dense', "
            "output='sparse', which gives the entries block by block, or td.store and td.open, which keep structure."
        )
    found = [_lazy(node, data, budget_of(memory), output) for node in expressions]
    return found[0] if single else tuple(found)


def _lazy(node: Expr, data: Mapping[Any, Any], memory: int, output: str) -> Any:
    sources, sizes = bind_sources([node], data)
    budget = Budget.here(memory, thread_count())  # a scheduler of the caller's does the tasks
    layout = "dense" if output == "dense" else "structured"
    try:
        plan = plan_chunked(node, sources, sizes, budget, Asked(layout, keep_chunks=True, aligned=True))
    except PlanError:  # chunks that are too large for it
        plan = plan_chunked(node, sources, sizes, budget, Asked(layout, aligned=True))
    given = {key.name if isinstance(key, Symbol) else key: value for key, value in data.items()}
    layers = Layers(plan, {name: given[name] for name in sources})
    for stage in plan.stages:
        layers.made[stage.name] = layers.stage(stage)
    if output == "dense":
        return layers.result()
    return SparseBlocks(plan, {name: layers.core(name) for name in plan.cores})


class Layers:
    """The arrays of a plan as dask arrays, cut as the plan cuts them."""

    def __init__(self, plan: ChunkedPlan, data: Mapping[str, Any]) -> None:
        self.plan = plan
        self.made: dict[str, Any] = {}
        self._data = data
        self._arrays: dict[str, Any] = {}

    def chunks(self, label: Label) -> tuple[int, ...]:
        """The lengths of the tiles of a label."""
        tiling = self.plan.tiling
        bounds = [tiling.range(label, tile) for tile in range(tiling.count(label))]
        return tuple(stop - start for start, stop in bounds)

    def stage(self, stage: Stage) -> Any:
        """An array whose axes are the labels of a stage."""
        sums = {part.name: self.sum(part) for part in stage.parts}
        if isinstance(stage.expr, Symbol) and stage.expr.name in sums:
            return sums[stage.expr.name]
        pieces = [(part.name, sums[part.name], part.labels) for part in stage.parts]
        pieces += [(read.name, self.read(read, {}), read.labels) for read in stage.reads]
        return self.tiles(stage.expr, stage.labels, pieces, self.plan.dtypes[stage.name])

    def sum(self, part: Part) -> Any:
        """A sum over tiles, one layer for each."""
        tiling = self.plan.tiling
        if tiling.counts(part.summed) > MOST_LAYERS:
            raise UnsupportedError(
                f"A sum of {tiling.counts(part.summed)} tiles would be a chain of as many layers of dask. Rechunk the "
                "arrays to larger chunks along what is summed over, or give memory=."
            )
        total: Any = None
        for number in combinations(*(range(tiling.count(label)) for label in part.summed)):
            at = dict(zip(part.summed, number, strict=True))
            pieces = [(read.name, self.read(read, at), read.labels) for read in part.reads]
            total = self.tiles(part.expr, part.labels, pieces, self.plan.dtypes[part.name], total, at)
        return total

    def tiles(
        self,
        expr: Expr,
        labels: Sequence[Label],
        pieces: Sequence[tuple[str, Any, Sequence[Label]]],
        dtype: Any,
        before: Any = None,
        at: Mapping[Label, int] | None = None,
    ) -> Any:
        """An array of tiles of an expression, added to those that come `before`."""
        import dask.array as da

        at = at or {}
        arguments: list[Any] = []
        for _, array, own in pieces:
            arguments += [array, tuple(own)]
        # What no piece has an axis for is told by the lengths of arrays of nothing else.
        shown = {label for _, _, own in pieces for label in own}
        lengths = [label for label in labels if label not in shown]
        for label in lengths:
            sizes = self.chunks(label)
            arguments += [da.empty(sum(sizes), chunks=(sizes,), dtype=np.int8), (label,)]
        if before is not None:
            arguments += [before, tuple(labels)]
        tiling = self.plan.tiling
        fixed = {
            str(tile_size(la)): stop - start for la, (start, stop) in ((la, tiling.range(la, at[la])) for la in at)
        }
        function = partial(
            tile_of,
            expr=expr,
            names=tuple(name for name, _, _ in pieces),
            lengths=tuple(lengths),
            fixed={**self.plan.sizes, **fixed},
            adds=before is not None,
        )
        if not arguments:
            return da.from_array(np.asarray(function()))
        meta = np.empty((0,) * len(labels), dtype)
        return da.blockwise(
            function, tuple(labels), *arguments, dtype=dtype, align_arrays=False, concatenate=True, meta=meta
        )

    def read(self, read: Read, at: Mapping[Label, int]) -> Any:
        """What tiles read of an array, its axes the labels, cut as they are; at the tiles given of what is summed."""
        if read.array not in self._arrays:
            self._arrays[read.array] = self._array(read.array)
        array = self._arrays[read.array]
        keys: list[Any] = []
        shape: list[int] = []
        cut: list[tuple[int, ...]] = []
        tiling = self.plan.tiling
        for axis in read.axes:
            if not axis or axis[0].label is None:
                keys.append(axis[0].start if axis else 0)
                continue
            first = axis[0]
            assert first.label is not None
            faster = 1
            for place in axis[1:]:
                assert place.label is not None
                faster *= tiling.sizes[place.label]
            lo, hi = tiling.range(first.label, at[first.label]) if first.label in at else (0, tiling.sizes[first.label])
            start, stop = first.start + first.step * lo, first.start + first.step * hi
            keys.append(slice(start * faster, None if stop < 0 else stop * faster, first.step))
            shape += [hi - lo, *(tiling.sizes[place.label] for place in axis[1:] if place.label is not None)]
            cut.append((hi - lo,) if first.label in at else self.chunks(first.label))
            cut += [(tiling.sizes[place.label],) for place in axis[1:] if place.label is not None]
        found = array[tuple(keys)]
        if found.shape != tuple(shape):
            found = self._split(found, tuple(shape))
        return found.rechunk(tuple(cut)) if cut and found.chunks != tuple(cut) else found

    def _array(self, name: str) -> Any:
        """An array that tiles read, with its own axes."""
        import dask.array as da

        if name in self.plan.constants:
            return da.from_array(np.asarray(self.plan.constants[name]), chunks=-1)
        if name in self.made:
            return self.made[name][tuple(slice(None) if axis else None for axis in self._stage(name).axes)]
        array = self._data[name]
        if type(array).__module__.startswith("xarray"):
            array = array.data
        if not isinstance(array, da.Array):
            source = self.plan.sources[name]
            array = da.from_array(source.opened(), chunks=source.chunks or -1)
        narrow = array.dtype.kind in "biu" and array.dtype.itemsize < 8
        return array.astype(np.int64) if narrow else array

    def _split(self, array: Any, shape: tuple[int, ...]) -> Any:
        """An array with an axis that is a group of labels as one axis for each."""
        import dask.array as da

        try:
            return da.reshape(array, shape)
        except NotImplementedError:
            raise UnsupportedError(
                "dask cannot reshape arrays while array.query-planning is on, and an axis here is a group of several. "
                "Turn it off, as in DASK_ARRAY__QUERY_PLANNING=False."
            ) from None

    # --- the result -----------------------------------------------------------------------------------------------

    def result(self) -> Any:
        """The value: its terms put where their labels say, in blocks that know which of them they are."""
        import dask.array as da

        plan = self.plan
        axes = tuple(range(len(plan.shape)))
        chunks = [self._axis(axis) for axis in axes]
        if not plan.terms:
            return da.zeros(plan.shape, chunks=tuple(chunks), dtype=plan.dtype)
        arguments: list[Any] = []
        inner = count(len(axes))
        for term in plan.terms:
            names: dict[Label, int] = {
                label: axis for axis, group in reversed(list(enumerate(term.output))) for label in group[:1]
            }
            for name, own in zip(term.cores, term.slots, strict=True):
                array = self.core(name)
                index = tuple(names.setdefault(label, next(inner)) for label in own)
                wanted = tuple(self.chunks(label) for label in own)
                arguments += [array.rechunk(wanted) if array.chunks != wanted else array, index]
        for axis in axes:
            places = da.from_array(np.arange(len(chunks[axis])), chunks=1)
            lengths = da.from_array(np.asarray(chunks[axis]), chunks=1)
            arguments += [places, (axis,), lengths, (axis,)]
        function = partial(block_of, terms=plan.terms, sizes=dict(plan.tiling.sizes), kind=plan.dtype)
        if not arguments:
            return da.from_array(np.asarray(function()))
        return da.blockwise(
            function,
            axes,
            *arguments,
            dtype=plan.dtype,
            align_arrays=False,
            concatenate=True,
            adjust_chunks={axis: tuple(chunks[axis]) for axis in axes},
            meta=np.empty((0,) * len(axes), plan.dtype),
        )

    def core(self, name: str) -> Any:
        """A core as an array with an axis for each of its own, those of size 1 too."""
        array = self.made[name] if name in self.made else self.stage(self.plan.fused[name])
        keys = tuple(slice(None) if axis else None for axis in self._stage(name).axes)
        return array[keys] if None in keys else array

    def _axis(self, axis: int) -> tuple[int, ...]:
        """The lengths of the blocks along an axis of the result."""
        if not self.plan.terms or not self.plan.terms[0].output[axis]:
            size = self.plan.shape[axis]
            return (size,)
        first, *inner = self.plan.terms[0].output[axis]
        faster = prod(self.plan.tiling.sizes[label] for label in inner)
        return tuple(length * faster for length in self.chunks(first))

    def _stage(self, name: str) -> Stage:
        return self.plan.fused[name] if name in self.plan.fused else next(s for s in self.plan.stages if s.name == name)


def tile_of(
    *arrays: Any, expr: Expr, names: Sequence[str], lengths: Sequence[Label], fixed: Mapping[str, int], adds: bool
) -> Any:
    """A tile of an expression, added to one that was made before."""
    pieces = {name: numbers(np.asarray(array)) for name, array in zip(names, arrays, strict=False)}
    known = {str(tile_size(label)): len(array) for label, array in zip(lengths, arrays[len(names) :], strict=False)}
    value = call(expr, pieces, {**fixed, **known})
    return value if not adds else arrays[-1] + value


def block_of(*arrays: Any, terms: Sequence[Term], sizes: Mapping[Label, int], kind: Any) -> Any:
    """A block of the value: the terms that have entries there, which are those whose equal labels have equal tiles.

    Where there are none it is zero, and takes no memory.
    """
    cores = sum(len(term.cores) for term in terms)
    pieces, rest = iter(arrays[:cores]), arrays[cores:]
    tiles = [int(found[0]) for found in rest[0::2]]
    extents = [int(found[0]) for found in rest[1::2]]
    here: list[Term] = []
    known: dict[Label, int] = {}
    values: dict[str, Any] = {}
    for term in terms:
        own = dict(zip(term.pieces, pieces, strict=False))
        at: dict[Label, int] = {}
        if not all(not g or at.setdefault(g[0], tile) == tile for g, tile in zip(term.output, tiles, strict=True)):
            continue
        here.append(term)
        values |= own
        known |= {label: sizes[label] for label in term.labels}
        for group, extent in zip(term.output, extents, strict=True):
            if group:
                known[group[0]] = extent // max(1, prod(sizes[label] for label in group[1:]))
    if not here:
        return np.broadcast_to(kind.type(0), extents)
    return np.asarray(call(sum_of(here, known), values, {}), kind).reshape(extents)[()]  # a number, not an array of one
