"""The journal of a run: what is finished, written down so that a run that was cut off is taken up where it was.

One line for each finished tile, with a checksum; before them one with the fingerprint of the run. A last line that is
torn, or one that is doubled, counts for nothing more than what it says whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any
from zlib import crc32

from tensordsl.chunked.logs import Log
from tensordsl.errors import BindError, words


class Journal:
    """What is written to a log, which this run has as long as the journal is open."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._removed = False

    def __enter__(self) -> Journal:
        self._log.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with nullcontext() if kind is None else suppress(Exception):  # what has gone wrong already is to be heard of
            try:
                if not self._removed and not self.is_begun:
                    self._log.remove()
            finally:
                self._log.let_go()

    def begun(self) -> tuple[dict[str, Any] | None, set[tuple[Any, ...]]]:
        """The fingerprint of the run that the journal is of, and the tiles that it has finished."""
        lines = [found for line in self._log.read().split(b"\n") if (found := _read(line)) is not None]
        if not lines or "run" not in lines[0]:
            return None, set()
        return lines[0]["run"], {_tuple(line["tile"]) for line in lines[1:] if "tile" in line}

    @property
    def is_begun(self) -> bool:
        """Whether anything stands in it, whole or not."""
        return self._log.is_begun

    @property
    def times(self) -> int:
        """How many times as long as with a file one waits before something is noted."""
        return self._log.times

    def begin(self, fingerprint: dict[str, Any]) -> None:
        """A new run: what was written before is forgotten."""
        self._log.clear()
        self._append(_line({"run": fingerprint}))

    def mend(self) -> None:
        """Begin a new line, so that one that was torn stays alone."""
        text = self._log.read()
        if text and not text.endswith(b"\n"):
            self._append(b"\n")

    def finished(self, tiles: Iterable[tuple[Any, ...]]) -> None:
        self._append(b"".join(_line({"tile": tile}) for tile in tiles))

    def _append(self, text: bytes) -> None:
        try:
            self._log.append(text)
        except Exception as error:  # noqa: BLE001 - a store that is no file errs in any way it likes
            raise BindError(
                f"The journal {self._log.where!r} cannot be written: {words(error)}. What it says is kept, and what "
                "was finished after that is done again: make room, and run again with resume."
            ) from None

    def remove(self) -> None:
        self._removed = True
        self._log.remove()


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


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of two fingerprints differs, in words."""
    return [name for name in new if old.get(name) != new[name]]
