"""Files of the command: data that are read, results that are written whole or not at all."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import numpy as np
import typer

from tensordsl.errors import BindError, TensorDSLError, words

UsageError: Any = typer.BadParameter.__base__  # whatever is wrong with the words of a command line


class Output(StrEnum):
    DENSE = "dense"
    SPARSE = "sparse"


def load(name: str, source: str) -> np.ndarray[Any, Any]:
    """The array that `--data NAME=SOURCE` means."""
    path = Path(source).expanduser()
    where = f"The data for {name}, {source!r},"
    if not path.exists() and (source[:1] in "[-+.0123456789" and not path.suffix.isalpha()):
        try:
            return numbers(json.loads(source), where)
        except ValueError:
            pass
    reader = READERS.get(path.suffix.lower())
    if not path.exists():
        raise BindError(f"{where} cannot be read: there is no such file.")
    if reader is None:
        known = ", ".join(READERS)
        raise BindError(f"{where} has a suffix that is not known; known are {known}. Convert it, as with numpy.save.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return numbers(reader(path, name), where)
    except TensorDSLError:
        raise
    except MemoryError:
        raise BindError(f"{where} does not fit in memory.") from None
    except OSError as error:
        raise BindError(f"{where} cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # noqa: BLE001 - a broken file breaks its reader in any way it likes
        said = words(error)
        if "pickle" in said:
            said = "it holds no plain array of numbers"
        raise BindError(f"{where} cannot be read as {path.suffix}: {said}.") from None


def numbers(value: Any, where: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise BindError(f"{where} is no rectangular array.") from None
    if array.dtype.kind not in "biufc":
        raise BindError(f"{where} holds {array.dtype}; expected numbers.")
    return array


def read_npy(path: Path, name: str) -> Any:
    return np.load(path, allow_pickle=False)


def read_npz(path: Path, name: str) -> Any:
    """The one array of an archive or the one named like the symbol; a sparse array as a dense one."""
    with np.load(path, allow_pickle=False) as archive:
        if {"data", "coords", "shape"} <= set(archive.files):
            array = np.zeros(archive["shape"], archive["data"].dtype)
            np.add.at(array, tuple(archive["coords"]), archive["data"])
            return array
        if "format" in archive.files:
            from scipy.sparse import load_npz  # noqa: PLC0415 - heavy, and rarely needed

            return load_npz(path).toarray()
        if name in archive.files or len(archive.files) == 1:
            return archive[name if name in archive.files else archive.files[0]]
        raise BindError(
            f"The data for {name}, '{path}', holds {', '.join(archive.files) or 'nothing'}; expected one "
            f"array, or one called {name}."
        )


def read_csv(path: Path, name: str) -> Any:
    """A table of numbers, with or without a line of titles. For a lower-case name one row or column is a vector."""
    text = path.read_text(encoding="utf-8-sig").strip()
    lines = text.splitlines()
    if not lines:
        raise BindError(f"The data for {name}, '{path}', is empty.")

    def number(cell: str) -> bool:
        try:
            complex(cell)
        except ValueError:
            return False
        return True

    titles = not any(number(cell) for cell in lines[0].split(","))
    table = np.loadtxt(lines[titles:], delimiter=",", ndmin=2, comments=None)
    return table.reshape(-1) if 1 in table.shape and not name[0].isupper() else table


def read_zarr(path: Path, name: str) -> Any:
    import zarr  # noqa: PLC0415 - heavy, and rarely needed

    array: Any = zarr.open(str(path), mode="r")
    if not hasattr(array, "dtype"):
        raise BindError(f"The data for {name}, '{path}', is a group of arrays; give the path of one of them.")
    return array[...]


READERS: dict[str, Callable[[Path, str], Any]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".zarr": read_zarr,
}


def check_target(out: Path, output: Output | None, force: bool) -> Output:
    """The kind of result that a file takes, which can be written there."""
    kinds = {".npy": Output.DENSE, ".npz": Output.SPARSE}
    kind = kinds.get(out.suffix)
    if kind is None:
        raise UsageError(f"--out {out}: expected a name that ends in .npy (dense), .npz (sparse) or .zarr.")
    if output is not None and output is not kind:
        raise UsageError(
            f"--out {out}: {out.suffix} holds a {kind.value} result, but --output {output.value} is asked "
            f"for. Write to {out.with_suffix('.npz' if output is Output.SPARSE else '.npy')}."
        )
    check_place(out, force)
    return kind


def check_picture(out: Path, force: bool, formats: Sequence[str]) -> str:
    """The format of a picture that is written to a file."""
    format = out.suffix.lower().removeprefix(".")
    if format not in formats:
        raise UsageError(f"--out {out}: expected a name that ends in {', '.join(f'.{known}' for known in formats)}.")
    check_place(out, force)
    return format


def check_place(out: Path, force: bool) -> None:
    """Everything that can be known beforehand about writing a file."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory.")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no directory {out.parent}.")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"--out {out}: the directory {out.parent} cannot be written to.")
    if out.exists() and not force:
        raise UsageError(
            f"--out {out} exists; nothing was computed. Choose another name, or overwrite it with --force."
        )


def write(out: Path, force: bool, save: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: beside its place first, then moved there."""
    target = out.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(beside, "xb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(beside, target)
        else:
            try:
                os.link(beside, target)  # unlike a rename, this never replaces a file that has come up meanwhile
            except FileExistsError:
                raise UsageError(
                    f"--out {out} has come up while computing; it was left as it is. Choose another name, "
                    "or overwrite it with --force."
                ) from None
            except OSError:  # a file system without links
                os.replace(beside, target)
    except OSError as error:
        raise BindError(f"--out {out} cannot be written: {error.strerror or error}.") from None
    finally:
        beside.unlink(missing_ok=True)


def save_sparse(file: IO[bytes], value: Any) -> None:
    np.savez(file, data=value.data, coords=np.stack(value.coords), shape=np.asarray(value.shape, dtype=np.int64))
