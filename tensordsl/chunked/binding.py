"""Binding: the data of an expression as sources, and the sizes that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tensordsl.chunked.sources import Source, source_of
from tensordsl.dims import bind as bind_sizes
from tensordsl.errors import BindError, show_shape
from tensordsl.execution.binding import needed_symbols
from tensordsl.expr import Expr, Symbol
from tensordsl.program.build import dimensions


def bind_sources(expressions: Sequence[Expr], data: Mapping[Any, Any]) -> tuple[dict[str, Source], dict[str, int]]:
    """The sources of the symbols of some expressions, and the number behind each dimension."""
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
    sources, pairs = {}, []
    for symbol in symbols:
        source = source_of(symbol.name, given[symbol.name])
        if len(source.shape) != symbol.ndim:
            raise BindError(
                f"The data for {symbol.name} has {len(source.shape)} axes, shape {show_shape(source.shape)}; expected "
                f"{symbol.ndim}, shape {show_shape(symbol.shape)}."
            )
        sources[symbol.name] = source
        pairs += [
            (size, actual, f"axis {place} of {symbol.name} (its data has shape {show_shape(source.shape)})")
            for place, (size, actual) in enumerate(zip(symbol.shape, source.shape, strict=True))
        ]
    names = dimensions(expressions) | {dim.name for e in expressions for dim in e.dims}
    known = {name: int(given[name]) for name in names if isinstance(given.get(name), int)}
    sizes = bind_sizes(pairs, known)
    lost = sorted(names - sizes.keys())
    if lost:
        raise BindError(
            f"No array fixes the size {', '.join(lost)}. Give it with the data, as in {{'{lost[0]}': 5, ...}}."
        )
    return sources, sizes
