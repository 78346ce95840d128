"""Arrays of other libraries: the namespace, device and precision of some data, and how numbers become arrays there.

All of it goes through the Array API standard, with `array_api_compat` where a library says things otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property, reduce
from math import prod
from typing import Any

import numpy as np

from tensordsl.errors import BindError
from tensordsl.expr import Expr

NUMBERS = ("bool", "integral", "real floating", "complex floating")  # the kinds of dtypes, each above the one before
KINDS = (bool, int, float, complex)  # the same of Python's numbers


@dataclass(frozen=True)
class Space:
    """A namespace of arrays, with the device and the precision of some data."""

    xp: Any
    place: str  # the device in words, which can be compared whatever the library
    real: Any  # the dtype of floating-point numbers: that of the data, or the library's own
    device: Any = field(compare=False)
    _common: dict[tuple[Any, ...], Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The library, as people call it."""
        return library(self.xp)

    @cached_property
    def whole(self) -> Any:
        """The dtype of whole numbers, 64 bits wherever the library has them."""
        return self.xp.__array_namespace_info__().default_dtypes(device=self.device)["integral"]

    def kind(self, value: Any) -> int:
        """Where the numbers of a value stand in `NUMBERS`; -1 for what are no numbers."""
        return kind_of(self.xp, type_of(value))

    def dtype(self, *values: Any) -> Any:
        """The dtype that holds all of some values, arrays and numbers.

        A number takes the precision of an array beside it, and so do whole numbers beside floating-point ones.
        """
        types = tuple([type_of(value) for value in values])
        if types not in self._common:
            self._common[types] = common_dtype(self, types)
        return self._common[types]

    def together(self, *values: Any, floating: bool = False) -> tuple[Any, ...]:
        """The values with their arrays in the dtype that holds all; Python's numbers stay as they are.

        With `floating`, the dtype is one of floating-point numbers, for functions that are of those.
        """
        dtype = self.dtype(*values, *([0.0] if floating else []))
        return tuple(self.cast(value, dtype) if hasattr(value, "dtype") else value for value in values)

    def arrays(self, *values: Any, floating: bool = False) -> tuple[Any, ...]:
        """The same, Python's numbers made arrays too."""
        dtype = self.dtype(*values, *([0.0] if floating else []))
        return tuple(self.cast(value, dtype) for value in values)

    def holds(self, value: Any) -> bool:
        """Whether a value is an array of this namespace."""
        import array_api_compat

        return is_foreign(value) and array_api_compat.array_namespace(value) is self.xp

    def cast(self, value: Any, dtype: Any) -> Any:
        """A value as an array of a dtype."""
        if not hasattr(value, "dtype"):
            return self.xp.asarray(value, dtype=dtype, device=self.device)
        return value if value.dtype == dtype else self.xp.astype(value, dtype)

    def array(self, value: Any) -> Any:
        """A value as an array: a number, a list, or an array of NumPy, in the precision of the data."""
        if hasattr(value, "dtype") and not isinstance(value, np.ndarray | np.generic):
            return value
        array = np.array(value)  # of its own, since some libraries share the storage
        dtype = {"b": self.xp.bool, "f": self.real, "c": self.dtype(0j)}.get(array.dtype.kind, self.whole)
        return self.xp.asarray(array, dtype=dtype, device=self.device)

    def lasting(self) -> AbstractContextManager[Any]:
        """Arrays made in it outlive what is being traced or recorded, so that later calls can use them."""
        if self.name == "jax":
            import jax

            return jax.ensure_compile_time_eval()
        if self.name == "torch":
            import torch

            outside: AbstractContextManager[Any] = torch.inference_mode(False)
            return outside
        return nullcontext()

    def data(self, name: str, value: Any) -> Any:
        """The data for a symbol, an array of this namespace already.

        Whole numbers and truth values are computed in 64 bits, as in NumPy.
        """
        kind = self.kind(value)
        if kind < 0:
            raise BindError(
                f"The data for {name} has the dtype {value.dtype}; expected numbers (integer, floating or complex)."
            )
        narrow = kind == 0 or (kind == 1 and self.xp.iinfo(value.dtype).bits < 64)
        return self.cast(value, self.whole) if narrow else value

    def added(self, x: Any, key: tuple[Any, ...], value: Any) -> Any:
        """The array x with a value added at a key of slices, or of arrays of places, of which each entry counts.

        An array that can be changed is, so x is one that the program made.
        """
        value = self.cast(value, x.dtype)
        if self.name == "jax":
            return x.at[key].add(value)
        try:
            return self._written(x, key, value)
        except RuntimeError:
            if self.name != "torch":
                raise
            # Its vmap writes to no array but one that it maps over, which this is then.
            return self._written(x + self.xp.sum(self.xp.zeros_like(value)), key, value)

    def _written(self, x: Any, key: tuple[Any, ...], value: Any) -> Any:
        if not any(hasattr(part, "dtype") for part in key):
            x[key] = x[key] + value
            return x
        if self.name == "torch":
            return x.index_put_(key, value, accumulate=True)
        if self.name == "cupy":
            self.xp.add.at(x, key, value)
            return x
        return looked_up(self, x, key, value)


def type_of(value: Any) -> Any:
    """The dtype of an array, the type of a number."""
    return value.dtype if hasattr(value, "dtype") else type(value)


@cache
def kind_of(xp: Any, dtype: Any) -> int:
    if isinstance(dtype, type):
        return KINDS.index(dtype)
    return next((place for place, kind in enumerate(NUMBERS) if xp.isdtype(dtype, kind)), -1)


def common_dtype(space: Space, types: tuple[Any, ...]) -> Any:
    """The dtype that holds what is of some types: dtypes of arrays, and Python's types of numbers."""
    xp = space.xp
    kinds = [kind_of(xp, dtype) for dtype in types]
    top = max(kinds)
    arrays = [(dtype, kind) for dtype, kind in zip(types, kinds, strict=True) if not isinstance(dtype, type)]
    found = [dtype for dtype, kind in arrays if min(top, 2) <= kind]
    if top < 2:
        return xp.result_type(*found) if found else (xp.bool, space.whole)[top]
    common = xp.result_type(*(found or [space.real]))
    return xp.result_type(common, xp.complex64) if top == 3 else common


def looked_up(space: Space, x: Any, key: tuple[Any, ...], value: Any) -> Any:
    """The same by the standard alone, which writes to no list of places: each entry of x looks up what falls to it."""
    xp = space.xp
    strides = [prod(x.shape[axis + 1 :]) for axis in range(len(key))]
    places = reduce(operator.add, (part * stride for part, stride in zip(key, strides, strict=True)))
    entries = xp.reshape(xp.broadcast_to(value, places.shape), (-1,))
    places = xp.reshape(places, (-1,))
    if not (count := places.shape[0]):
        return x
    order = xp.argsort(places)
    places, entries = xp.take(places, order), xp.take(entries, order)
    here = xp.arange(prod(x.shape), dtype=places.dtype, device=space.device)
    first, end = (xp.searchsorted(places, here, side=side) for side in ("left", "right"))
    total = xp.reshape(x, (-1,))
    for turn in range(int(xp.max(end - first))):
        entry = xp.take(entries, xp.minimum(first + turn, xp.asarray(count - 1, device=space.device)))
        total = xp.where(first + turn < end, total + entry, total)
    return xp.reshape(total, x.shape)


# --- which namespace ----------------------------------------------------------------------------------------------


def library(xp: Any) -> str:
    """The name of the library whose namespace this is."""
    words = str(xp.__name__).split(".")
    return words[1] if words[0] == "array_api_compat" else words[0]


def is_foreign(value: object) -> bool:
    """Whether a value is an array of another library than NumPy that speaks the Array API."""
    if isinstance(value, np.ndarray | np.generic | complex | float | int | list | tuple | Expr):
        return False
    if type(value).__module__.partition(".")[0] == "dask":
        return False
    import array_api_compat  # where there are such arrays, and nowhere else

    return bool(array_api_compat.is_array_api_obj(value))


def foreign_key(array: Any) -> tuple[Any, ...]:
    """What a plan hangs on, of an array of any library; `AttributeError` where it is none."""
    return (type(array), array.shape, array.dtype, str(getattr(array, "device", None)))


def space_of(given: Mapping[str, Any], needed: Sequence[str]) -> Space | None:
    """The namespace that all arrays among the data are of, None for NumPy's.

    What is given for symbols that an expression has lost counts where it needs no array at all, so that its value
    lies on the device of the data still.
    """
    wanted = {name: given[name] for name in needed}
    if not any(isinstance(value, np.ndarray) or is_foreign(value) for value in wanted.values()):
        wanted = dict(given)
    foreign = {name: value for name, value in wanted.items() if is_foreign(value)}
    if not foreign:
        return None
    import array_api_compat

    spaces = {name: array_api_compat.array_namespace(value) for name, value in foreign.items()}
    libraries = {
        name: library(spaces.get(name, np))
        for name, value in wanted.items()
        if name in foreign or isinstance(value, np.ndarray)
    }
    same(libraries, "arrays of different libraries", "Convert them to one of these, which the result will be of.")
    devices = {name: device_of(value) for name, value in foreign.items()}
    # What JAX traces, or spreads over several devices, lies on no one device: what is made beside it goes where it is.
    known = {name: d for name, d in devices.items() if d is not None and not hasattr(d, "device_set")}
    same({n: str(d) for n, d in known.items()}, "arrays on different devices", "Move them to one of these.")
    device = next(iter(known.values())) if len(known) == len(devices) else None
    xp = next(iter(spaces.values()))
    return Space(xp, str(device), precision(xp, [value.dtype for value in foreign.values()], device), device)


def device_of(value: Any) -> Any:
    """Where an array lies; None for what is traced, which lies nowhere: older releases raise there."""
    import array_api_compat

    try:
        return array_api_compat.device(value)
    except AttributeError:
        return None


def same(found: Mapping[str, str], what: str, way_out: str) -> None:
    """`BindError` where the data are not all of one library, or on one device."""
    if len(set(found.values())) > 1:
        listed = "\n".join(f"    {name}  {value}" for name, value in found.items())
        raise BindError(f"The data are {what}:\n{listed}\n{way_out}")


def precision(xp: Any, dtypes: Sequence[Any], device: Any) -> Any:
    """The dtype of real numbers in the precision of the data; the library's own where they are all whole numbers."""
    found = [dtype for dtype in dtypes if xp.isdtype(dtype, ("real floating", "complex floating"))]
    if not found:
        return xp.__array_namespace_info__().default_dtypes(device=device)["real floating"]
    common = xp.result_type(*found)
    if not xp.isdtype(common, "complex floating"):
        return common
    return xp.float32 if common == xp.complex64 else xp.float64
