"""Streaming: the entries that structure leaves of a value over dask arrays, as coordinates, block after block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from tensordsl.chunked.plan import ChunkedPlan, Term
from tensordsl.chunked.running import call
from tensordsl.chunked.tiling import product_of
from tensordsl.contraction import contract
from tensordsl.errors import ShapeError, amount, show_shape
from tensordsl.execution.pattern import along, extents
from tensordsl.expr import Symbol
from tensordsl.labels import Label, flat, singles


class SparseBlocks:
    """A value over dask arrays as blocks of coordinates: what `output="sparse"` gives of them.

    It holds no entries. Each step of a loop over it computes one block, a `scipy.sparse.coo_array` of the shape of the
    whole; their sum is the value. Where several terms have an entry in one place it is there as often.

    >>> import dask.array as da, numpy as np, tensordsl as td
    >>> x = td.vector("x", 4)
    >>> blocks = td.compile(td.hessian(td.sum(x**3), x), output="sparse")(x=da.arange(4.0, chunks=2))
    >>> [block.data.tolist() for block in blocks]
    [[0.0, 6.0], [12.0, 18.0]]
    """

    def __init__(self, plan: ChunkedPlan, cores: Mapping[str, Any]) -> None:
        if not plan.shape:
            raise ShapeError("A scalar has no sparse form; output='dense' gives its value.")
        self._plan = plan
        self._cores = cores
        self.shape = plan.shape
        self.dtype = plan.dtype

    @property
    def nnz(self) -> int:
        """The number of entries that structure leaves, in all blocks together."""
        return sum(prod(extents(term.layout, term.layout.axes)) for term in self._plan.terms)

    def __repr__(self) -> str:
        held = amount(self.nnz * self.dtype.itemsize)
        return f"<blocks of a sparse value {show_shape(self.shape)} {self.dtype}, {self.nnz:,} entries of {held}>"

    def __iter__(self) -> Iterator[Any]:
        for term in self._plan.terms:
            called = _universe(term)
            labels = [called[label] for label in term.layout.axes]
            for tiles in product_of([self._plan.tiling.count(label) for label in labels]):
                at = dict(zip(labels, tiles, strict=True))
                yield self._block(term, {label: self._plan.tiling.range(label, tile) for label, tile in at.items()})

    def tocoo(self) -> Any:
        """All blocks in one `scipy.sparse.coo_array`, in memory."""
        from scipy.sparse import coo_array

        blocks = list(self)
        data = np.concatenate([np.empty(0, self.dtype), *(block.data for block in blocks)])
        coords = tuple(
            np.concatenate([np.empty(0, np.int64), *(block.coords[axis] for block in blocks)])
            for axis in range(len(self.shape))
        )
        return coo_array((data, coords), shape=self.shape)

    def _block(self, term: Term, ranges: Mapping[Label, tuple[int, int]]) -> Any:
        """The entries of a term along a part of each of its labels."""
        from dask.base import compute
        from scipy.sparse import coo_array

        layout, called = term.layout, _universe(term)
        own = {label: ranges[called[label]] for label in layout.axes}
        shape = tuple(stop - start for start, stop in own.values())
        bound = layout.bound
        entries: Any = np.asarray(layout.coefficient)
        if term.cores:
            pieces = [
                self._cores[name][tuple(slice(*ranges[label]) if label in ranges else slice(None) for label in labels)]
                for name, labels in zip(term.cores, term.slots, strict=True)
            ]
            found = compute(*pieces)
            values = dict(zip(term.pieces, map(np.asarray, found), strict=True))
            sizes = {la: ranges[la][1] - ranges[la][0] if la in ranges else size for la, size in _sizes(term).items()}
            operands = [
                (Symbol(name, tuple(sizes[label] for label in labels)), singles(labels))
                for name, labels in zip(term.pieces, term.slots, strict=True)
            ]
            kept = tuple(called[label] for label in bound)
            entries = call(contract(layout.coefficient, operands, singles(kept), sizes), values, {})
        spread = tuple(slice(None) if label in bound else None for label in layout.axes)
        ordered = np.transpose(entries, [bound.index(label) for label in layout.axes if label in bound])
        data = np.broadcast_to(ordered[spread], shape).astype(self.dtype).reshape(-1)
        coords = tuple(
            np.broadcast_to(along(layout, group, layout.axes, np.int64, own), shape).reshape(-1)
            for group in layout.output
        )
        return coo_array((data, coords), shape=self.shape)


def _universe(term: Term) -> dict[Label, Label]:
    """For each label of the layout of a term the one that the plan has for it."""
    layout = term.layout
    found = dict(zip(flat(layout.output), flat(term.output), strict=True))
    for own, labels in zip(layout.slots, term.slots, strict=True):
        found |= dict(zip(own, labels, strict=True))
    rows = [row for _, row in layout.scatter.values() if row is not None]
    plan_rows = [row for _, row in term.scatter.values() if row is not None]
    return found | dict(zip(rows, plan_rows, strict=True))


def _sizes(term: Term) -> dict[Label, int]:
    """The sizes of the labels of the cores, as the plan calls them."""
    called = _universe(term)
    return {called[label]: term.layout.sizes[label] for label in flat(term.layout.slots)}
