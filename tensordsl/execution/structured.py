"""Structured values: what a program leaves as terms, made sparse without any search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tensordsl.dims import Shape, evaluate
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Pattern, Select
from tensordsl.functions import routines
from tensordsl.program.instructions import Term


def to_coo(terms: Sequence[Term], cores: Sequence[Any], shape: Shape, sizes: Mapping[str, int]) -> Any:
    """The terms as a `scipy.sparse.coo_array`: each entry's coordinates are read off the labels.

    Entries that fall together in several terms stay apart, as COO allows; `sum_duplicates()` adds them.
    """
    from scipy.sparse import coo_array  # scipy is heavy, and needed here alone

    extents = [evaluate(size, sizes) for size in shape]
    if not extents:
        raise UnsupportedError("A scalar has no sparse form; use output='dense'.")
    kind = np.int32 if max(extents, default=0) <= np.iinfo(np.int32).max else np.int64
    counts = []
    for term in terms:
        counts.append(int(np.prod([evaluate(term.sizes[la], sizes) for la in term.axes], dtype=np.int64)))
    live = [(t, c, n) for t, c, n in zip(terms, cores, counts, strict=True) if n and t.coefficient != 0]
    total = sum(n for _, _, n in live)
    kinds = [c if c is not None else _number(t) for t, c, _ in live]
    dtype = np.result_type(*kinds, *([] if any(c is not None for _, c, _ in live) else [np.float64]))
    data = np.empty(total, dtype)
    coordinates = [np.empty(total, kind) for _ in extents]
    start = 0
    for term, core, count in live:
        piece = slice(start, start + count)
        _fill(
            term,
            core,
            [sizes_of(term, label, sizes) for label in term.axes],
            data[piece],
            [c[piece] for c in coordinates],
            sizes,
            kind,
        )
        start += count
    return coo_array((data, tuple(coordinates)), shape=tuple(extents))


def _number(term: Term) -> int | float | complex:
    return float(term.coefficient) if isinstance(term.coefficient, Fraction) else term.coefficient


def positions_of(select: Select, sizes: Mapping[str, int]) -> Any:
    """The places that a selection by a list or a pattern takes."""
    if isinstance(select.positions, Pattern):
        return getattr(routines, select.positions.name)(evaluate(select.positions.size, sizes))
    return np.asarray(select.positions)


def sizes_of(term: Term, label: int, sizes: Mapping[str, int]) -> int:
    return evaluate(term.sizes[label], sizes)


def _fill(
    term: Term, core: Any, extents: list[int], data: Any, coordinates: list[Any], sizes: Mapping[str, int], kind: Any
) -> None:
    axes = term.axes
    values = np.asarray(_number(term) if core is None else core)
    order = [term.labels.index(label) for label in axes if label in term.labels]
    key = tuple(slice(None) if label in term.labels else None for label in axes)
    data.reshape(extents)[...] = values.transpose(order)[key] if order else values

    def along(label: int) -> Any:
        """The coordinate that a label stands for, broadcast along its axis."""
        if label in term.scatter:
            select, row = term.scatter[label]
            if select.positions is not None:
                assert row is not None
                return positions_of(select, sizes).astype(kind)[along(row)]
            start = evaluate(select.start, sizes)
            if row is None:
                return np.asarray(start, kind)
            return start + select.step * along(row)
        shape = [1] * len(axes)
        shape[axes.index(label)] = extents[axes.index(label)]
        return np.arange(extents[axes.index(label)], dtype=kind).reshape(shape)

    for group, out in zip(term.output, coordinates, strict=True):
        position: Any = np.asarray(0, kind)
        for label in group:
            position = position * evaluate(term.sizes[label], sizes) + along(label)
        out.reshape(extents)[...] = position
