"""Sources: arrays that are read piece by piece, wherever they lie, and reopened by each worker that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from math import ceil, prod
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

import numpy as np

from tensordsl.chunked import objects
from tensordsl.chunked.files import folder
from tensordsl.chunked.memory import one_arena
from tensordsl.chunked.nodes import Node, path_of, remote
from tensordsl.errors import BindError, words
from tensordsl.execution.compiled import STORES

Region = tuple[slice, ...]
KINDS = "biufc"
TRIES = 4  # of a read that fails, the last included
CODED = 4  # chunks that are coded side by side where they are written
PAUSE = 0.05  # seconds before the second try; twice as long before each later one


@dataclass(frozen=True)
class Source:
    """An array that is read piece by piece: its shape, its dtype, and the chunks that it is stored in.

    `array` is what slices are taken of; a stored one is opened anew from its `place` where the source is unpickled.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    place: str | None  # where it is stored; None for an array in memory
    kind: str
    array: Any = field(default=None, repr=False, compare=False)
    stamp: Any = None  # of what is stored, so that nothing is taken for what was there before

    def __reduce__(self) -> tuple[Any, ...]:
        array = None if self.place is not None else self.array
        return Source, (self.name, self.shape, self.dtype, self.chunks, self.place, self.kind, array, self.stamp)

    @property
    def is_stored(self) -> bool:
        """Whether it is read from a store, and not from memory."""
        return self.kind in OPENERS and self.kind != "held"

    @property
    def where(self) -> str:
        """Its place, for messages."""
        if self.place is not None and self.kind != "open":
            return self.place
        array = self.array if self.place is None else HELD.get(self.place)
        at = getattr(array, "store_path", None)
        return "memory" if at is None else objects.name(at)

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def read(self, region: Region) -> np.ndarray[Any, Any]:
        """A piece as an array of numbers, tried again where a store errs; `BindError` where it cannot be had."""
        backwards = [axis for axis, part in enumerate(region) if part.step is not None and part.step < 0]
        if backwards:  # which no store can read
            turned = tuple(_turned(part, size) for part, size in zip(region, self.shape, strict=True))
            found: np.ndarray[Any, Any] = np.flip(self.read(turned), tuple(backwards))
            return found
        for attempt in range(TRIES):
            try:
                return np.asarray(self.opened()[region])
            except Exception as error:
                if attempt == TRIES - 1 or isinstance(error, MemoryError | FileNotFoundError):
                    piece = ", ".join(f"{part.start}:{part.stop}" for part in region)
                    raise BindError(
                        f"The piece [{piece}] of {self.name} cannot be read from {self.where}: "
                        f"{words(error)}. What was finished is kept: mend the data and run again with resume."
                    ) from error
                sleep(PAUSE * 2**attempt)
        raise AssertionError

    def opened(self) -> Any:
        """What slices are taken of."""
        if self.array is not None:
            return self.array
        assert self.place is not None
        return OPENERS[self.kind](self.place, self.stamp)

    def write(self, region: Region, value: np.ndarray[Any, Any]) -> None:
        """Write a piece, tried again where a store errs; `BindError` where it cannot be written."""
        for attempt in range(TRIES):
            try:
                target = self.array if self.place is None else WRITERS[self.kind](self.place, self.stamp)
                for part in portions(value.shape, self.chunks or value.shape):
                    starts = [each.start or 0 for each in region]
                    at = (slice(o + p.start, o + p.stop) for o, p in zip(starts, part, strict=True))
                    target[tuple(at)] = value[part]
                return
            except Exception as error:
                if attempt == TRIES - 1 or isinstance(error, MemoryError | PermissionError):
                    piece = ", ".join(f"{part.start}:{part.stop}" for part in region)
                    raise BindError(
                        f"The piece [{piece}] of {self.name} cannot be written to {self.where}: {words(error)}. "
                        "What was finished is kept: make room, and run again with resume."
                    ) from error
                sleep(PAUSE * 2**attempt)

    def fingerprint(self) -> list[Any]:
        """What a later run has to find again: the stored array as it was last changed, or the numbers in memory."""
        what = [self.name, list(self.shape), str(self.dtype)]
        if self.kind == "memory":
            return [*what, blake2b(np.ascontiguousarray(self.array).data, digest_size=12).hexdigest()]
        if self.place is None:
            return [*what, state_of(self.array) or self.stamp]
        return [*what, _changed(Path(self.place.partition("::")[0]))]


def node_of(source: Source) -> Node | None:
    """Where a source is stored; None for one in memory, or that something else reads."""
    if source.place is not None:
        return Node(Path(source.place.partition("::")[0]))
    return Node.of(source.array) if source.kind == "zarr" else None


def portions(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[Region]:
    """Parts of a piece of no more than `CODED` chunks: a store codes many that it is given side by side."""
    many = [ceil(size / max(1, chunk)) for size, chunk in zip(shape, chunks, strict=True)]
    while prod(many) > CODED:
        axis = many.index(max(many))
        many[axis] = ceil(many[axis] / 2)
    lengths = [number * max(1, chunk) for number, chunk in zip(many, chunks, strict=True)]
    starts = [range(0, max(1, size), max(1, length)) for size, length in zip(shape, lengths, strict=True)]
    for found in product(*starts):
        yield tuple(slice(lo, min(lo + by, size)) for lo, by, size in zip(found, lengths, shape, strict=True))


def _turned(part: slice, size: int) -> slice:
    """The places of a slice in the order in which they lie."""
    places = range(size)[part]
    if part.step is None or part.step > 0 or not places:
        return part if places else slice(0, 0)
    return slice(places[-1], places[0] + 1, -places.step)


def state_of(array: Any) -> str | None:
    """What tells the content of an array that is no file from others; of some stores nothing does."""
    if isinstance(array, _Dask):
        return array.token
    at = getattr(array, "store_path", None)
    return None if at is None else objects.state(at)


def _changed(path: Path) -> list[Any]:
    """When the files of a store were last changed, and how large they are."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return [len(found), blake2b(repr(found).encode(), digest_size=12).hexdigest()]


# --- stored arrays, opened once in each process ---------------------------------------------------------------------


HELD: dict[str, Any] = {}  # arrays that the tasks of this process share, by the name of a run


@lru_cache(maxsize=64)
def open_npy(place: str, stamp: Any) -> Any:
    return np.load(place, mmap_mode="r", allow_pickle=False)


@lru_cache(maxsize=64)
def open_zarr(place: str, stamp: Any) -> Any:
    import zarr

    return zarr.open_array(folder(place), mode="r")


@lru_cache(maxsize=64)
def open_target(place: str, stamp: Any) -> Any:
    import zarr

    return zarr.open_array(place, mode="r+")


def open_held(place: str, stamp: Any) -> Any:
    return HELD[place]


@lru_cache(maxsize=64)
def open_hdf5(place: str, stamp: Any) -> Any:
    import h5py

    path, _, dataset = place.partition("::")
    return h5py.File(path, "r")[dataset]


@contextmanager
def using_stores() -> Iterator[None]:
    """Where stores are opened, which begin threads: files that were opened by name are let go, whatever comes."""
    one_arena()
    try:
        yield
    finally:
        for opened in (open_npy, open_zarr, open_target, open_hdf5):
            opened.cache_clear()


OPENERS: Mapping[str, Callable[[str, Any], Any]] = {
    "npy": open_npy,
    "zarr": open_zarr,
    "hdf5": open_hdf5,
    "held": open_held,
    "open": open_held,
}
WRITERS: Mapping[str, Callable[[Any, Any], Any]] = {"zarr": open_target, "held": open_held, "open": open_held}


def source_of(name: str, value: Any) -> Source:
    """The source that data are: a path, an open array of zarr or h5py, a memory map, an array, xarray's or dask's."""
    if isinstance(value, Source):
        return replace(value, name=name)
    if isinstance(value, str) and "://" in value:
        path = path_of(value)
        return source_of(name, _remote(name, value) if path is None else path)
    if isinstance(value, str | Path):
        return _stored(name, str(value))
    module = type(value).__module__.partition(".")[0]
    if module in ("zarr", "h5py") and hasattr(value, "chunks"):
        place: str | None
        if module == "h5py":
            value.file.flush()  # of a file that is written to, what is in it and when it was changed
            path, kind = Path(str(value.file.filename)), "hdf5"
            place = f"{path}::{value.name}" if path.is_file() else None  # else in memory, or read by something else
        else:
            root, kind = getattr(value.store, "root", None), "zarr"
            place = None if root is None else str(Path(root) / value.path)
        stamp = uuid4().hex if place is None else stamp_of(Path(place.partition("::")[0]))
        chunks = None if value.chunks is None else tuple(value.chunks)
        return _checked(Source(name, tuple(value.shape), np.dtype(value.dtype), chunks, place, kind, value, stamp))
    if module == "xarray":
        value = value.data if hasattr(value, "data") else value
        module = type(value).__module__.partition(".")[0]
    if module == "dask":
        if any(np.isnan(size) for size in value.shape):
            raise BindError(
                f"The data for {name} is a dask array of unknown chunk sizes, shape {value.shape}. "
                "Call compute_chunk_sizes() on it first."
            )
        chunks = tuple(max(sizes, default=1) for sizes in value.chunks)
        return _checked(Source(name, tuple(value.shape), np.dtype(value.dtype), chunks, None, "dask", _Dask(value)))
    if isinstance(value, np.memmap) and value.filename is not None and _is_npy(value):
        place = str(value.filename)
        return _checked(Source(name, value.shape, value.dtype, None, place, "npy", value, stamp_of(Path(place))))
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BindError(f"The data for {name} is no rectangular array of numbers: {error}.") from None
    return _checked(Source(name, array.shape, array.dtype, None, None, "memory", array))


def _remote(name: str, url: str) -> Any:
    """The array of zarr at a URL."""
    import zarr

    where = f"The data for {name}, {url!r},"
    try:
        return zarr.open_array(remote(url, read_only=True), mode="r")
    except BindError:
        raise
    except Exception as error:  # noqa: BLE001 - a store errs in any way it likes
        raise BindError(f"{where} cannot be read as an array of zarr: {words(error)}.") from None


class _Dask:
    """A dask array that is read by computing the piece."""

    def __init__(self, array: Any) -> None:
        self._array = array

    @property
    def token(self) -> str:
        from dask.base import tokenize

        return str(tokenize(self._array))

    def __getitem__(self, region: Region) -> Any:
        return self._array[region].compute(scheduler="synchronous")


def _is_npy(value: np.memmap[Any, Any]) -> bool:
    """Whether a memory map is the whole of a .npy file, so that a worker finds the same by its name."""
    path = Path(str(value.filename))
    if path.suffix != ".npy" or not path.exists():
        return False
    found = open_npy(str(path), stamp_of(path))
    return bool(found.shape == value.shape and found.dtype == value.dtype and found.strides == value.strides)


def _stored(name: str, place: str) -> Source:
    path = Path(place.partition("::")[0]).expanduser()
    place = str(path.resolve()) + place[len(place.partition("::")[0]) :]
    kind = STORES.get(path.suffix.lower())
    where = f"The data for {name}, {str(path)!r},"
    if not path.exists():
        raise BindError(f"{where} cannot be read: there is no such file.")
    if kind is None and (path / "zarr.json").exists():
        kind = "zarr"
    if kind is None:
        raise BindError(f"{where} has a suffix that is not known; known are {', '.join(STORES)}.")
    if kind == "hdf5" and "::" not in place:
        place = f"{place}::{_only_dataset(path, where)}"
    try:
        stamp = stamp_of(path)
        array = OPENERS[kind](place, stamp)
        chunks = getattr(array, "chunks", None)
    except Exception as error:  # noqa: BLE001 - a broken file breaks its reader in any way it likes
        raise BindError(f"{where} cannot be read as {kind}: {words(error)}.") from None
    return _checked(Source(name, tuple(array.shape), np.dtype(array.dtype), chunks, place, kind, None, stamp))


def stamp_of(path: Path) -> tuple[int, int]:
    """When the file that says what is stored was last changed, and its size."""
    about = next((path / name for name in ("zarr.json", ".zarray") if (path / name).exists()), path)
    found = about.stat()
    return found.st_mtime_ns, found.st_size


def _only_dataset(path: Path, where: str) -> str:
    import h5py

    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    if len(found) != 1:
        raise BindError(
            f"{where} holds {', '.join(found) or 'no dataset'}; say which one is meant, as in {str(path) + '::name'!r}."
        )
    return found[0]


def _checked(source: Source) -> Source:
    if source.dtype.kind not in KINDS:
        raise BindError(
            f"The data for {source.name} has the dtype {source.dtype}; expected numbers (integer, floating or complex)."
        )
    return source


def array_of(
    place: Node,
    name: str,
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: Any,
    said: Any = None,
    compressors: Any = None,
) -> Source:
    """An array of zeros of zarr, made where it is not there yet."""
    found = place.opened("r+")  # of a run that is taken up, whose chunks may have been planned otherwise
    if found is None:
        found = place.create_array(
            shape=tuple(shape),
            chunks=tuple(max(1, chunk) for chunk in chunks),
            dtype=dtype,
            fill_value=0,
            compressors=compressors,
            attributes={} if said is None else {"tensordsl": said},
        )
    told = name, tuple(shape), np.dtype(dtype), tuple(found.chunks)
    if place.folder is None:
        return Source(*told, None, "zarr", found)
    return Source(*told, str(place), "zarr", None, stamp_of(place.folder))
