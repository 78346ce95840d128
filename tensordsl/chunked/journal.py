"""The journal of a run: what is finished, written down so that a run that was cut off is taken up where it was.

One line for each finished tile, with a checksum; before them one with the fingerprint of the run. A last line that is
torn, or one that is doubled, counts for nothing more than what it says whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

from tensordsl.errors import BindError, words

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]


class Journal:
    """The file beside a store; while it is open no other process can open it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def open(self) -> Journal:
        """Take the file; `BindError` where another run has it, or where it is no journal."""
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - held as long as the run goes on
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise BindError(
                f"Another run is writing to {self.path.name.removesuffix('.journal')}. Wait for it, or stop it."
            ) from None
        self._file.seek(0)
        first = self._file.readline()
        if first and not re.fullmatch(rb"[0-9a-f]{1,8}( .*)?\n?", first, re.DOTALL):
            self._file.close()
            raise BindError(f"{str(self.path)!r} is no journal of this library. Choose another target, or move it.")
        return self

    def close(self) -> None:
        if not self.is_begun:
            self.remove()
        self._file.close()

    def __enter__(self) -> Journal:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begun(self) -> tuple[dict[str, Any] | None, set[tuple[Any, ...]]]:
        """The fingerprint of the run that the journal is of, and the tiles that it has finished."""
        self._file.seek(0)
        lines = [found for line in self._file.read().split(b"\n") if (found := _read(line)) is not None]
        if not lines or "run" not in lines[0]:
            return None, set()
        return lines[0]["run"], {_tuple(line["tile"]) for line in lines[1:] if "tile" in line}

    @property
    def is_begun(self) -> bool:
        """Whether anything stands in it, whole or not."""
        self._file.seek(0, os.SEEK_END)
        return bool(self._file.tell())

    def begin(self, fingerprint: dict[str, Any]) -> None:
        """A new run: what was written before is forgotten."""
        self._file.truncate(0)
        self._append([{"run": fingerprint}])

    def mend(self) -> None:
        """Begin a new line, so that one that was torn stays alone."""
        self._file.seek(0, os.SEEK_END)
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def finished(self, tiles: Iterable[tuple[Any, ...]]) -> None:
        self._append([{"tile": tile} for tile in tiles])

    def _append(self, records: list[dict[str, Any]]) -> None:
        text = b"".join(_line(record) for record in records)
        try:
            os.lseek(self._file.fileno(), 0, os.SEEK_END)
            while text:
                text = text[os.write(self._file.fileno(), text) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise BindError(
                f"The journal {str(self.path)!r} cannot be written: {words(error)}. What it says is kept, and what was "
                "finished after that is done again: make room, and run again with resume."
            ) from None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
    return b"%08x %s\n" % (crc32(text), text)


def _read(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is not whole."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % crc32(text) or not text:
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _lock(file: Any) -> None:
    if fcntl is not None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of two fingerprints differs, in words."""
    return [name for name in new if old.get(name) != new[name]]
