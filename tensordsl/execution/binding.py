"""Data for symbols: checked once for each combination of shapes and dtypes, with an error that says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tensordsl.dims import AnySize, evaluate
from tensordsl.dims import bind as bind_sizes
from tensordsl.errors import BindError, UnsupportedError, show_shape
from tensordsl.execution.namespaces import Space, is_foreign, space_of
from tensordsl.expr import Expr, Select, Symbol, brief, declared
from tensordsl.graph import topological


class Bound(NamedTuple):
    """Arrays in the order of the symbols, and the number behind each dimension."""

    arrays: tuple[Any, ...]
    sizes: dict[str, int]
    space: Space | None = None  # of the arrays, where they are not NumPy's


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


def as_array(name: str, value: Any, space: Space | None) -> Any:
    """The data for a symbol as an array of numbers, NumPy's or of a space."""
    if space is None:
        return as_numpy(name, value)
    return space.data(name, value) if is_foreign(value) else space.array(as_numpy(name, value))


def as_numpy(name: str, value: Any) -> np.ndarray[Any, Any]:
    """The data for a symbol as a NumPy array of numbers."""
    if type(value).__module__.partition(".")[0] == "dask":
        raise UnsupportedError(
            f"The data for {name} is a dask array; expressions run on NumPy arrays here. "
            f"Give {name}.compute() where it fits in memory."
        )
    if isinstance(value, Expr):
        raise BindError(
            f"The data for {name} is the expression {brief(value)}; expected numbers. Give its value, e.evaluate(...), "
            f"or write it in the place of {name}."
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
    # Whole numbers and truth values are computed in 64 bits, so that sums of products do not overflow a narrow type.
    return array.astype(np.int64) if array.dtype.kind in "biu" and array.dtype.itemsize < 8 else array


def check_sizes(expressions: Sequence[Expr], sizes: Mapping[str, int]) -> None:
    """`BindError` where the data make a size negative, or too small for a slice or a position that is taken."""
    for node in topological(expressions):
        shape = [size for size in node.shape if isinstance(size, int) or size.names <= sizes.keys()]
        negative = next((size for size in shape if evaluate(size, sizes) < 0), None)
        if negative is not None:
            raise BindError(
                f"The size {negative} of {brief(node)} is {evaluate(negative, sizes)} for this data "
                f"({_listed(sizes)}). Give larger arrays."
            )
        if isinstance(node, Select) and isinstance(node.positions, tuple):
            axis = node.axis_size
            size = evaluate(axis, sizes) if isinstance(axis, int) or axis.names <= sizes.keys() else None
            if size is not None and node.positions and max(node.positions) >= size:
                raise BindError(
                    f"The position {max(node.positions)} does not lie on an axis of size {size} ({_listed(sizes)}). "
                    "Give a larger array."
                )
        elif isinstance(node, Select) and node.positions is None:
            parts = [node.start, node.axis_size, 1 if node.length is None else node.length]
            if any(not isinstance(part, int) and not part.names <= sizes.keys() for part in parts):
                continue
            start, size, length = (evaluate(part, sizes) for part in parts)
            ends = (start, start + (length - 1) * node.step)
            if length and not all(0 <= end < size for end in ends):
                what = f"The position {node.start}"
                if node.length is not None:
                    what = f"A slice from {node.start} of length {node.length}"
                raise BindError(
                    f"{what} does not lie on an axis of size {size} ({_listed(sizes)}). Give a larger array, or "
                    "declare the axis with its number, which slices then respect as in NumPy."
                )


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sorted(sizes.items())) or "all sizes are given"


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
    if data is not None and not isinstance(data, Mapping):
        raise BindError(
            f"Data is given by name, as in evaluate({', '.join(s.name + '=...' for s in symbols)}), or in a mapping; "
            f"given was a {type(data).__name__} without a name."
        )
    by_name = {symbol.name: symbol for symbol in symbols}
    for key, value in (data or {}).items():
        if isinstance(key, Symbol):
            shapes_of_keys.append((key, value))
            if by_name.get(key.name, key) is key:  # another symbol of that name says nothing of this one
                given[key.name] = value
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
    space = space_of(given, [symbol.name for symbol in symbols])
    for symbol in symbols:
        array = as_array(symbol.name, given[symbol.name], space)
        pairs += sizes_shown(symbol, array.shape)
        arrays.append(array)
    names = {size_name for size, _, _ in pairs if not isinstance(size, int) for size_name in size.names}
    wanted_dims = {*names, *parameters}
    known = {
        name: whole(name, given[name])
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
    return Bound(tuple(arrays), sizes, space)


def sizes_shown(symbol: Symbol, shape: Sequence[int]) -> list[tuple[AnySize, int, str]]:
    """Each size of a symbol with the number that its data show for it, and where; `BindError` for other axes."""
    if len(shape) != symbol.ndim:
        raise BindError(
            f"The data for {symbol.name} has {len(shape)} axes, shape {show_shape(shape)}; expected {symbol.ndim}, "
            f"shape {show_shape(symbol.shape)}. Reshape the array."
        )
    return [
        (size, actual, f"axis {place} of {symbol.name} (its data has shape {show_shape(shape)})")
        for place, (size, actual) in enumerate(zip(symbol.shape, shape, strict=True))
    ]


def whole(name: str, value: Any) -> int:
    """A size that is given; `BindError` for what is none."""
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
        if name in here or not _is_data(value):
            continue
        candidates = [by_symbol[name]] if name in by_symbol else list(declared.get(name, ()))
        fitting = [s for s in candidates if s.ndim == np.ndim(value) and lost & {d.name for d in s.dims}]
        if len(fitting) == 1:
            pairs += [
                (size, actual, f"axis {place} of {name}")
                for place, (size, actual) in enumerate(zip(fitting[0].shape, np.shape(value), strict=True))
            ]
    return pairs


def _is_data(value: object) -> bool:
    """Whether a value has a shape that can be read off without computing anything."""
    return hasattr(value, "shape") or (isinstance(value, list | tuple) and np.asarray(value).dtype.kind in "biufc")
