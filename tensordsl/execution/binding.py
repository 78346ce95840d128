"""Data for symbols: checked once for each combination of shapes and dtypes, with an error that says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tensordsl.dims import AnySize
from tensordsl.dims import bind as bind_sizes
from tensordsl.errors import BindError, UnsupportedError, show_shape
from tensordsl.expr import Expr, Symbol, brief, declared


class Bound(NamedTuple):
    """Arrays in the order of the symbols, and the number behind each dimension."""

    arrays: tuple[Any, ...]
    sizes: dict[str, int]


def needed_symbols(expressions: Sequence[Expr]) -> list[Symbol]:
    """The symbols of some expressions by name; `BindError` where one name stands for two symbols."""
    symbols = sorted({symbol for e in expressions for symbol in e.symbols}, key=lambda s: (s.name, str(s.shape)))
    for first, second in pairwise(symbols):
        if first.name == second.name:
            raise BindError(
                f"Two symbols are called {first.name!r}: one has the shape {show_shape(first.shape)}, the "
                f"other {show_shape(second.shape)}, so data given by name would be ambiguous. Rename one."
            )
    return symbols


def as_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """The data for a symbol as a NumPy array of numbers."""
    if type(value).__module__.partition(".")[0] == "dask":
        raise UnsupportedError(
            f"The data for {name} is a dask array; expressions run on NumPy arrays here. "
            f"Give {name}.compute() where it fits in memory."
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BindError(f"The data for {name} is no rectangular array of numbers: {error}.") from None
    if array.dtype.kind not in "biufc":
        raise BindError(
            f"The data for {name} has the dtype {array.dtype}; expected numbers (integer, floating or "
            f"complex). Convert it first, as in np.asarray({name}, dtype=float)."
        )
    return array


def bind(
    expressions: Sequence[Expr],
    symbols: Sequence[Symbol],
    parameters: Sequence[str],
    data: Mapping[Any, Any] | None,
    named: Mapping[str, Any],
) -> Bound:
    """Check the data against the symbols and solve for the dimensions."""
    given: dict[str, Any] = {}
    shapes_of_keys: list[tuple[Symbol, Any]] = []
    for key, value in (data or {}).items():
        if isinstance(key, Symbol):
            given[key.name] = value
            shapes_of_keys.append((key, value))
        elif isinstance(key, str):
            given[key] = value
        else:
            raise BindError(f"Data is given by symbol or by name; {key!r} is neither.")
    for name, value in named.items():
        if name in given and given[name] is not value:
            raise BindError(f"Data for {name} is given twice, once in the mapping and once by name. Give it once.")
        given[name] = value
    missing = [s for s in symbols if s.name not in given]
    if missing:
        wanted = ", ".join(f"{s.name} of shape {show_shape(s.shape)}" for s in missing)
        have = ", ".join(sorted(given)) or "none"
        raise BindError(
            f"There is no data for {wanted}.\n    needed by  {brief(expressions[0])}\n    given      {have}\n"
            f"Give an array for each: evaluate({', '.join(s.name + '=...' for s in symbols)})."
        )
    pairs: list[tuple[AnySize, int, str]] = []
    arrays = []
    for symbol in symbols:
        array = as_array(symbol.name, given[symbol.name])
        if array.ndim != symbol.ndim:
            raise BindError(
                f"The data for {symbol.name} has {array.ndim} axes, shape {show_shape(array.shape)}; expected "
                f"{symbol.ndim}, shape {show_shape(symbol.shape)}. Reshape the array."
            )
        pairs += [
            (size, actual, f"axis {place} of {symbol.name} (its data has shape {show_shape(array.shape)})")
            for place, (size, actual) in enumerate(zip(symbol.shape, array.shape, strict=True))
        ]
        arrays.append(array)
    names = {size_name for size, _, _ in pairs if not isinstance(size, int) for size_name in size.names}
    wanted_dims = {*names, *parameters}
    known = {
        name: _whole(name, given[name])
        for name in wanted_dims
        if name in given and not any(s.name == name for s in symbols)
    }
    sizes = bind_sizes(pairs, known)
    lost = [name for name in parameters if name not in sizes]
    if lost:
        sizes = bind_sizes(_from_lost(given, symbols, shapes_of_keys, set(lost)), sizes)
    still = [name for name in parameters if name not in sizes]
    if still:
        raise BindError(
            f"No array fixes the size {', '.join(still)} of {brief(expressions[0])}, whose shape is "
            f"{show_shape(expressions[0].shape)}. Give it by name, as in evaluate(..., {still[0]}=5)."
        )
    return Bound(tuple(arrays), sizes)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value.__index__()) < 0:
        raise BindError(f"The size {name} must be a whole number that is not negative, not {value!r}.")
    return int(value.__index__())


def _from_lost(
    given: Mapping[str, Any], symbols: Sequence[Symbol], keys: Sequence[tuple[Symbol, Any]], lost: set[str]
) -> list[tuple[AnySize, int, str]]:
    """Sizes from the data of symbols that the expression has lost, as a Hessian may have lost its x."""
    here = {s.name for s in symbols}
    pairs: list[tuple[AnySize, int, str]] = []
    by_symbol = {symbol.name: symbol for symbol, _ in keys}
    for name, value in given.items():
        if name in here or not hasattr(value, "shape"):
            continue
        candidates = [by_symbol[name]] if name in by_symbol else list(declared.get(name, ()))
        fitting = [s for s in candidates if s.ndim == len(value.shape) and lost & {d.name for d in s.dims}]
        if len(fitting) == 1:
            pairs += [
                (size, actual, f"axis {place} of {name}")
                for place, (size, actual) in enumerate(zip(fitting[0].shape, value.shape, strict=True))
            ]
    return pairs
