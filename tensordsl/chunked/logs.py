"""Logs: what a journal is written to, a file that is locked, or objects of a store beside one that says whose they are.

A log belongs to one run at a time.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol
from uuid import uuid4

from tensordsl.chunked import objects
from tensordsl.errors import BindError

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]


class Log(Protocol):
    """Text that grows, of the run that has taken it."""

    times: int  # how many times as long as with a file one waits before something is appended

    @property
    def where(self) -> str:
        """Its place, for messages."""

    @property
    def is_there(self) -> bool:
        """Whether there is one, of whatever run."""

    @property
    def is_begun(self) -> bool:
        """Whether it has any text."""

    def take(self) -> None:
        """Have it alone; `BindError` where another run has it."""

    def read(self) -> bytes: ...

    def append(self, text: bytes) -> None: ...

    def clear(self) -> None: ...

    def remove(self) -> None:
        """Remove the text with all that was kept for it."""

    def let_go(self) -> None:
        """Let others take it."""


class FileLog:
    """A file; while a run has it, no other process can take it."""

    times = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def is_there(self) -> bool:
        return self.path.exists()

    @property
    def is_begun(self) -> bool:
        return bool(os.fstat(self._file.fileno()).st_size)

    def take(self) -> None:
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
            raise BindError(f"{self.where!r} is no journal of this library. Choose another target, or move it.")

    def read(self) -> bytes:
        self._file.seek(0)
        return bytes(self._file.read())

    def append(self, text: bytes) -> None:
        os.lseek(self._file.fileno(), 0, os.SEEK_END)
        while text:
            text = text[os.write(self._file.fileno(), text) :]
        os.fsync(self._file.fileno())

    def clear(self) -> None:
        self._file.truncate(0)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def let_go(self) -> None:
        self._file.close()


def _lock(file: Any) -> None:
    if fcntl is not None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


CLOCK = 5.0  # seconds that the clock of a machine may be set by while a process goes on
RUNS: set[str] = set()  # of this process, that have a log in a store


class StoreLog:
    """Objects of a store, one for each time that something was appended, and one that says which run has them.

    No lock of a store ends with its process. A run that was stopped on this machine is known by its process; one that
    was stopped elsewhere cannot be told from one that goes on, and the object that names it is to be removed by hand.
    """

    times = 8  # so that there are few objects

    def __init__(self, at: Any, target: str) -> None:
        self._at, self._target = at, target
        self._lines, self._owner = at / "lines", at / "owner"
        self._run = uuid4().hex
        self._next = 0

    @property
    def where(self) -> str:
        return objects.name(self._at)

    @property
    def is_there(self) -> bool:
        return bool(objects.names(self._at))

    @property
    def is_begun(self) -> bool:
        return bool(objects.names(self._lines))

    def take(self) -> None:
        RUNS.add(self._run)  # before others of this process can see it
        try:
            self._take({"run": self._run, **_process()})
        except BaseException:
            with suppress(Exception):  # of a store that errs: what it said is to be heard of
                self.let_go()
            RUNS.discard(self._run)
            raise

    def _take(self, own: dict[str, Any]) -> None:
        said = json.dumps(own).encode()
        objects.write(self._owner, said, new=True)
        if (found := self._found()) != own and _is_gone(found):
            objects.write(self._owner, said)
            found = self._found()
        if found != own:
            raise BindError(
                f"Another run is writing to {self._target}: process {found.get('process')} on {found.get('host')}. "
                f"Wait for it, or stop it; if it was stopped already, remove {objects.name(self._owner)}."
            )
        numbers = [int(name) for name in objects.names(self._lines) if name.isdigit()]
        self._next = max(numbers, default=-1) + 1

    def _found(self) -> dict[str, Any]:
        """The run that has the objects."""
        try:
            found = json.loads(objects.read(self._owner) or b"")
        except ValueError:  # removed meanwhile, or not whole
            return {}
        return found if isinstance(found, dict) else {}

    def read(self) -> bytes:
        return objects.read_all(self._lines)

    def append(self, text: bytes) -> None:
        objects.write(self._lines / f"{self._next:012d}", text)
        self._next += 1

    def clear(self) -> None:
        objects.remove(self._lines)
        self._next = 0

    def remove(self) -> None:
        self.clear()
        self.let_go()

    def let_go(self) -> None:
        if self._run in RUNS:
            RUNS.discard(self._run)
            if self._found().get("run") == self._run:  # and not that of a run which was told that this one is gone
                objects.remove(self._owner)


def _process() -> dict[str, Any]:
    """What tells this process from others."""
    spaces = Path("/proc/self/ns/pid")  # two containers may have one host name, and processes of one number
    space = os.readlink(spaces) if spaces.exists() else ""
    return {"host": gethostname(), "space": space, "process": os.getpid(), "began": _began(os.getpid())}


def _began(process: int) -> float | None:
    """When a process of this machine was begun; None where there is none. A later one may have the same number."""
    import psutil

    try:
        return float(psutil.Process(process).create_time())
    except psutil.NoSuchProcess:
        return None


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether a run is known to have ended: one of this machine, or one that has not said whole what it is."""
    here, process, before = _process(), owner.get("process"), owner.get("began")
    if not isinstance(process, int) or not isinstance(before, float):
        return True
    if (owner.get("host"), owner.get("space")) != (here["host"], here["space"]):
        return False
    began = _began(process)
    if began is None or abs(began - before) > CLOCK:
        return True
    return process == here["process"] and owner.get("run") not in RUNS
