"""Binding: the data of an expression as sources, and the sizes that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensordsl.chunked.sources import Source, source_of
from tensordsl.dims import bind as bind_sizes
from tensordsl.dims import evaluate
from tensordsl.errors import BindError, PlanError, show_shape
from tensordsl.execution.binding import check_sizes, needed_symbols, sizes_shown, whole
from tensordsl.expr import Expr, Symbol
from tensordsl.program.build import dimensions


def bind_sources(
    expressions: Sequence[Expr], data: Mapping[Any, Any], sizes: Mapping[str, int] | None = None
) -> tuple[dict[str, Source], dict[str, int]]:
    """The sources of the symbols of some expressions, and the number behind each dimension.

    `sizes` are numbers given beside the data.
    """
    if not isinstance(data, Mapping):
        raise BindError(f"Data is a mapping from symbols or names to arrays and paths, not a {type(data).__name__}.")
    given = {key.name if isinstance(key, Symbol) else str(key): value for key, value in data.items()}
    symbols = needed_symbols(expressions)
    missing = [symbol.name for symbol in symbols if symbol.name not in given]
    if missing:
        raise BindError(
            f"There is no data for {', '.join(missing)}; given were {', '.join(sorted(given)) or 'none'}. Give an "
            "array or a path for each."
        )
    sources: dict[str, Source] = {}
    pairs = []
    for symbol in symbols:
        source = sources[symbol.name] = source_of(symbol.name, given[symbol.name])
        pairs += sizes_shown(symbol, source.shape)
    names = dimensions(expressions) | {dim.name for e in expressions for dim in e.dims}
    known = {name: whole(name, given[name]) for name in names if name in given and name not in sources}
    known |= dict(sizes or {})
    for key, value in data.items():  # a symbol that the expression has lost may show a size
        if isinstance(key, Symbol) and key.name not in sources and not names <= known.keys():
            shape = source_of(key.name, value).shape
            if len(shape) == key.ndim:
                pairs += [(size, n, f"an axis of {key.name}") for size, n in zip(key.shape, shape, strict=True)]
    found = bind_sizes(pairs, known)
    lost = sorted(names - found.keys())
    if lost:
        raise BindError(
            f"No array fixes the size {', '.join(lost)}. Give it with the data, as in {{'{lost[0]}': 5, ...}}."
        )
    check_sizes(expressions, found)
    return sources, found


def declared_sources(
    expressions: Sequence[Expr], sizes: Mapping[str, int], chunks: Any
) -> tuple[dict[str, Source], dict[str, int]]:
    """Sources without data, of float64 and of the sizes given, stored in chunks of the lengths given."""
    symbols = needed_symbols(expressions)
    names = dimensions(expressions) | {dim.name for e in expressions for dim in e.dims}
    lost = sorted(names - sizes.keys())
    if lost:
        raise BindError(f"No size is given for {', '.join(lost)}. Give it by name, as in td.plan(e, {lost[0]}=1000).")
    sources = {}
    for symbol in symbols:
        shape = tuple(evaluate(size, sizes) for size in symbol.shape)
        length = chunks.get(symbol.name) if isinstance(chunks, Mapping) else chunks
        each = [length] * len(shape) if isinstance(length, int) else length
        if each is not None and len(each) != len(shape):
            raise PlanError(
                f"The chunks {length!r} of {symbol.name}, of shape {show_shape(shape)}: expected one length for each "
                "axis, or one for all."
            )
        found = None if each is None else tuple(min(size, int(part)) for size, part in zip(shape, each, strict=True))
        sources[symbol.name] = Source(symbol.name, shape, np.dtype(float), found, None, "declared")
    check_sizes(expressions, sizes)
    return sources, {name: sizes[name] for name in names}
