"""Targets and data in stores of zarr that are no folder: in memory, at URLs, under other stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore, StorePath, ZipStore

import tensordsl as td
from tensordsl.chunked import objects
from tensordsl.chunked.journal import Journal
from tensordsl.chunked.logs import StoreLog
from tensordsl.chunked.nodes import Node
from tensordsl.command.cli import app

k = td.dim("k")
A, x = td.matrix("A", k, k), td.vector("x", k)
FLAGSHIP = td.jacobian(A * td.outer(x, x), x)
SIZE = 23
RNG = np.random.default_rng(3)
a, v = RNG.normal(size=(SIZE, SIZE)), RNG.normal(size=SIZE)
DATA = {"A": a, "x": v}
WANTED = np.einsum("ij,j,ik->ijk", a, v, np.eye(SIZE)) + np.einsum("ij,i,jk->ijk", a, v, np.eye(SIZE))
MEMORY = 5_000  # of which there are many tiles


def on_disk(path: Path, name: str = "") -> StorePath:
    """A store that any process reaches by fsspec, and not as a folder."""
    return StorePath(FsspecStore.from_url(f"file://{path}", storage_options={"auto_mkdir": True}), name)


STORES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda _: MemoryStore(),
    "below": lambda _: StorePath(MemoryStore(), "some/where"),
    "group": lambda _: zarr.create_group(MemoryStore()).create_group("inner"),
    "url": lambda path: f"memory://{path.name}/J.zarr",
    "fsspec": on_disk,
    "named": lambda path: on_disk(path, "g/J"),
    "logging": lambda _: LoggingStore(MemoryStore(), log_level="ERROR"),
    "logging files": lambda path: LoggingStore(LocalStore(path / "J"), log_level="ERROR"),
}


def keys(target: Any) -> set[str]:
    """All that is in a store."""

    async def listed() -> set[str]:
        return {key async for key in Node.of(target).at.store.list()}

    return objects.run(listed())


def value(target: Any, layout: str) -> np.ndarray:
    return td.open(target).todense() if layout == "structured" else Node.of(target).opened("r")[...]


def cut_off_after(tasks: int) -> Callable[[int, int], None]:
    def stop(done: int, total: int) -> None:
        if done >= tasks:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("layout", ["structured", "dense"])
@pytest.mark.parametrize("kind", STORES)
def test_any_store_is_a_target(kind: str, layout: str, tmp_path: Path) -> None:
    """Nothing but the value is left in it, and what is complete is not done again."""
    target = STORES[kind](tmp_path)
    with pytest.raises(td.BindError, match="no structured store" if kind == "group" else "no store at"):
        td.open(target)
    report = td.store(FLAGSHIP, DATA, target, layout=layout, memory=MEMORY)
    assert report.tasks > 10
    np.testing.assert_allclose(value(target, layout), WANTED)
    assert not [key for key in keys(target) if ".tensordsl" in key]
    again = td.store(FLAGSHIP, DATA, target, layout=layout, memory=MEMORY)
    assert again.tasks == 0
    assert str(again).startswith(str(Node.of(target)))


@pytest.mark.parametrize("layout", ["structured", "dense"])
@pytest.mark.parametrize("kind", STORES)
def test_a_run_is_taken_up(kind: str, layout: str, tmp_path: Path) -> None:
    target = STORES[kind](tmp_path)
    options: dict[str, Any] = {"layout": layout, "memory": MEMORY}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            td.store(FLAGSHIP, DATA, target, progress=cut_off_after(6), resume=False, **options)
    with pytest.raises(td.BindError, match="begun by another run: expression"):
        td.store(2 * FLAGSHIP, DATA, target, **options)
    with pytest.raises(td.BindError, match="begun by another run: inputs differ"):
        td.store(FLAGSHIP, {"A": a + 1, "x": v}, target, **options)
    if layout == "structured":
        with pytest.raises(td.BindError, match="is not complete"):
            td.open(target)
    report = td.store(FLAGSHIP, DATA, target, **options)
    assert report.kept >= 5
    np.testing.assert_array_equal(value(target, layout), np.asarray(FLAGSHIP.evaluate(DATA)))
    with pytest.raises(td.BindError, match="holds the result of another run: expression"):
        td.store(2 * FLAGSHIP, DATA, target, **options)
    td.store(2 * FLAGSHIP, DATA, target, resume=False, **options)
    np.testing.assert_allclose(value(target, layout), 2 * WANTED)


def test_what_somebody_else_has_written_is_left_alone() -> None:
    target = MemoryStore()
    zarr.create_array(target, name="mine", data=np.arange(3.0))
    for resume in (True, False):
        with pytest.raises(td.BindError, match="has not written"):
            td.store(FLAGSHIP, DATA, target, resume=resume)
    assert all(key.startswith(("mine/", "zarr.json")) for key in keys(target))
    td.store(FLAGSHIP, DATA, StorePath(target, "ours"))  # beside it
    np.testing.assert_array_equal(zarr.open_array(target, path="mine", mode="r")[...], np.arange(3.0))


def test_a_run_that_has_the_store_keeps_others_out() -> None:
    target = MemoryStore()
    seen = []

    def other(done: int, total: int) -> None:
        with pytest.raises(td.BindError, match=r"Another run is writing to memory:.*: process") as told:
            td.store(FLAGSHIP, DATA, target)
        seen.append(str(told.value))

    td.store(FLAGSHIP, DATA, target, memory=MEMORY, progress=other)
    assert seen
    assert f"process {os.getpid()}" in seen[0]
    np.testing.assert_allclose(value(target, "structured"), WANTED)


def test_a_run_that_was_stopped_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    """By its process where it was on this machine; elsewhere it is said which object keeps others out."""
    target = on_disk(tmp_path)
    owner = target / ".tensordsl/journal/owner"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    log = StoreLog(target / ".tensordsl/journal", "J")
    log.take()
    here = json.loads(objects.read(owner))
    log.let_go()
    assert objects.read(owner) is None
    try:
        import psutil

        theirs = {**here, "process": process.pid, "began": psutil.Process(process.pid).create_time()}
        objects.write(owner, json.dumps(theirs).encode())
        with pytest.raises(td.BindError, match=f"process {process.pid} on"):
            td.store(FLAGSHIP, DATA, target)
    finally:
        process.communicate(b"\n")
    for gone in (theirs, {**here, "run": "of this process, long ago"}, {**here, "began": 1.0}):
        objects.write(owner, json.dumps(gone).encode())
        td.store(FLAGSHIP, DATA, target, resume=False)
    objects.write(owner, json.dumps({**theirs, "host": "elsewhere"}).encode())
    with pytest.raises(td.BindError, match=r"process .* on elsewhere.*remove file://.*/journal/owner") as told:
        td.store(FLAGSHIP, DATA, target)
    place = str(told.value).rpartition("remove file://")[2].rstrip(".")
    Path(place).unlink()
    td.store(FLAGSHIP, DATA, target)


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"{}", b'{"process": null}', b'{"process": 1, "began": null}'])
def test_an_owner_that_is_not_whole_keeps_nobody_out(said: bytes) -> None:
    target = MemoryStore()
    objects.write(StorePath(target, ".tensordsl/journal/owner"), said)
    td.store(FLAGSHIP, DATA, target)
    assert not [key for key in keys(target) if ".tensordsl" in key]


def test_one_of_two_threads_has_the_journal() -> None:
    for _ in range(40):
        at, taken, start = StorePath(MemoryStore(), "J"), [], Barrier(2)

        def take(at: StorePath = at, taken: list[Any] = taken, start: Barrier = start) -> None:
            log = StoreLog(at, "J")
            start.wait()
            with suppress(td.BindError):
                log.take()
                taken.append(log)

        threads = [Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        taken[0].let_go()
        assert not objects.names(at)


def test_a_run_lets_go_of_nothing_that_is_not_its_own() -> None:
    at = StorePath(MemoryStore(), "J")
    one, two = StoreLog(at, "J"), StoreLog(at, "J")
    one.take()
    objects.remove(at / "owner")  # by hand
    two.take()
    one.let_go()
    with pytest.raises(td.BindError, match="Another run is writing"):
        StoreLog(at, "J").take()
    two.let_go()
    StoreLog(at, "J").take()


class Erring(MemoryStore):
    """A store that does one thing no more from some time on."""

    fails, left = "", 0

    def _count(self, what: str) -> None:
        self.left -= what == self.fails
        if what == self.fails and self.left < 0:
            raise OSError("the store errs")

    async def get(self, *given: Any, **named: Any) -> Any:
        self._count("get")
        return await super().get(*given, **named)

    async def set(self, *given: Any, **named: Any) -> None:
        self._count("set")
        await super().set(*given, **named)

    async def delete(self, *given: Any, **named: Any) -> None:
        self._count("delete")
        await super().delete(*given, **named)


@pytest.mark.parametrize("fails", ["get", "set", "delete"])
def test_a_store_that_errs(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it does, that is said, and the store is taken up when it is mended."""
    monkeypatch.setattr("tensordsl.chunked.sources.PAUSE", 0.0)
    for left in (0, 1, 2, 3, 5, 9, 17):
        target = Erring()
        target.fails, target.left = fails, left
        with suppress(td.BindError):
            td.store(FLAGSHIP, DATA, target, memory=MEMORY)
        target.fails = ""
        td.store(FLAGSHIP, DATA, target, memory=MEMORY)
        np.testing.assert_allclose(value(target, "structured"), WANTED)
        assert not [key for key in keys(target) if ".tensordsl" in key]


def test_a_journal_of_objects() -> None:
    """Each is whole or counts for nothing; one that is lost takes no other with it."""
    at = StorePath(MemoryStore(), "J")
    with Journal(StoreLog(at, "J")) as journal:
        journal.begin({"expression": "e"})
        journal.finished([("C0", (0, 0)), ("C0", (0, 1))])
    lines = objects.names(at / "lines")
    assert len(lines) == 2
    with Journal(StoreLog(at, "J")) as journal:
        assert journal.begun() == ({"expression": "e"}, {("C0", (0, 0)), ("C0", (0, 1))})
        journal.finished([("C0", (1, 0))])
        assert len(journal.begun()[1]) == 3
    torn = objects.read(at / "lines" / lines[1])
    objects.write(at / "lines" / lines[1], torn[:-9])
    with Journal(StoreLog(at, "J")) as journal:
        assert ("C0", (0, 0)) in journal.begun()[1]
        assert ("C0", (0, 1)) not in journal.begun()[1]
    objects.remove(at / "lines" / lines[0])
    with Journal(StoreLog(at, "J")) as journal:
        assert journal.begun() == (None, set())
        journal.remove()
    assert not objects.names(at)


@pytest.mark.parametrize("kind", ["memory", "url", "fsspec"])
def test_data_that_have_changed(kind: str, tmp_path: Path) -> None:
    """In a store, too: they are found, by a run that is taken up and by one that goes on."""
    held = STORES[kind](tmp_path)
    stored = Node.of(held)
    written = zarr.create_array(stored.at, data=a, chunks=(9, 9))
    data = {"A": held if isinstance(held, str) else written, "x": v}
    target = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        td.store(FLAGSHIP, data, target, memory=MEMORY, progress=cut_off_after(5))
    assert td.store(FLAGSHIP, data, target, memory=MEMORY).kept
    np.testing.assert_allclose(value(target, "structured"), WANTED)

    def change(done: int, total: int) -> None:
        if done == 5:
            written[0, 0] = 7.0

    with pytest.raises(td.BindError, match="were changed while they were read"):
        td.store(FLAGSHIP, data, target, memory=MEMORY, resume=False, progress=change)
    with pytest.raises(td.BindError, match="begun by another run: inputs differ"):
        td.store(FLAGSHIP, data, target, memory=MEMORY)


def test_what_is_read_is_known_by_whatever_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, through fsspec, through another store, by a relative name, or a link: nothing is removed."""
    td.store(A @ A, {"A": a}, tmp_path / "P.zarr")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.zarr").symlink_to(tmp_path / "P.zarr")
    names: list[Any] = [
        on_disk(tmp_path / "P.zarr"),
        on_disk(tmp_path, "P.zarr"),
        LoggingStore(LocalStore(tmp_path / "P.zarr"), log_level="ERROR"),
        "P.zarr",
        tmp_path / "link.zarr",
        f"file://{tmp_path}/P.zarr",
    ]
    readers = [
        Path("P.zarr"),
        zarr.open_array("P.zarr", mode="r"),
        zarr.open_array(on_disk(tmp_path, "P.zarr"), mode="r"),
    ]
    for target in names:
        for read in readers:
            with pytest.raises(td.BindError, match="holds the data for A"):
                td.store(FLAGSHIP, {"A": read, "x": v}, target, resume=False)
    np.testing.assert_allclose(zarr.open_array("P.zarr", mode="r")[...], a @ a)


@pytest.mark.parametrize("kind", STORES)
def test_what_is_made_on_the_way_is_in_the_store(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below an array, too, where zarr itself makes nothing."""
    monkeypatch.setattr("tensordsl.chunked.storing.HELD_SHARE", 0)
    target = STORES[kind](tmp_path)
    options: dict[str, Any] = {"memory": 20_000, "layout": "dense"}
    with pytest.raises(KeyboardInterrupt):
        td.store(A @ A @ A, DATA, target, progress=cut_off_after(3), **options)
    assert any("scratch" in key for key in keys(target))
    assert td.store(A @ A @ A, DATA, target, **options).kept
    np.testing.assert_allclose(value(target, "dense"), a @ a @ a)
    assert not [key for key in keys(target) if ".tensordsl" in key]


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    store, like = MemoryStore(), MemoryStore()
    inside = zarr.create_array(store, name="data/A", data=a)
    zarr.create_array(like, name="data/A", data=a)
    for target in (store, StorePath(store, "data"), StorePath(store, "data/A"), StorePath(store, "data/A/J")):
        with pytest.raises(td.BindError, match="holds the data for A"):
            td.store(FLAGSHIP, {"A": inside, "x": v}, target)
    for target in (StorePath(store, "data/AJ"), StorePath(like, "data/J"), tmp_path / "J.zarr"):
        td.store(FLAGSHIP, {"A": inside, "x": v}, target)
        np.testing.assert_allclose(value(target, "structured"), WANTED)
    zarr.create_array(on_disk(tmp_path, "A"), data=a)
    reader = FsspecStore.from_url(f"file://{tmp_path}", storage_options={"auto_mkdir": True}, read_only=True)
    for target in (on_disk(tmp_path, "A"), on_disk(tmp_path / "A")):
        with pytest.raises(td.BindError, match="holds the data for A"):
            td.store(FLAGSHIP, {"A": zarr.open_array(reader, path="A", mode="r"), "x": v}, target)


def test_targets_that_are_refused(tmp_path: Path) -> None:
    for target in (3, None):
        with pytest.raises(td.BindError, match="expected a path, a URL, or a store or a group of zarr"):
            td.store(FLAGSHIP, DATA, target)
    with pytest.raises(td.BindError, match="not support deletes"):
        td.store(FLAGSHIP, DATA, ZipStore(tmp_path / "J.zip", mode="w"))
    with pytest.raises(td.BindError, match="opened to be read"):
        td.store(FLAGSHIP, DATA, MemoryStore(read_only=True))
    for url in ("nowhere://J.zarr", "nowhere://A.zarr"):
        with pytest.raises(td.BindError, match=r"nowhere://.* cannot be reached: Protocol not known"):
            td.store(FLAGSHIP, DATA if "J" in url else {"A": url, "x": v}, url)
    with pytest.raises(td.BindError, match=r"memory://none.zarr.* cannot be read as an array of zarr"):
        td.store(FLAGSHIP, {"A": "memory://none.zarr", "x": v}, tmp_path / "J.zarr")


def test_stores_in_folders_are_folders(tmp_path: Path) -> None:
    for name, target in (
        ("one.zarr", LocalStore(tmp_path / "one.zarr")),
        ("two.zarr", f"file://{tmp_path}/two.zarr"),
        ("three.zarr", StorePath(LocalStore(tmp_path), "three.zarr")),
    ):
        with pytest.raises(KeyboardInterrupt):
            td.store(FLAGSHIP, DATA, target, memory=MEMORY, progress=cut_off_after(5))
        assert (tmp_path / f"{name}.journal").exists()
        assert td.store(FLAGSHIP, DATA, tmp_path / name, memory=MEMORY).kept
        np.testing.assert_allclose(td.open(target).todense(), WANTED)
    for name, attributes in (("four.zarr", {}), ("five.zarr", {"mine": 1})):
        group = zarr.create_group(tmp_path / name, attributes=attributes)
        if attributes:
            with pytest.raises(td.BindError, match="has not written"):
                td.store(FLAGSHIP, DATA, group)
        else:
            td.store(FLAGSHIP, DATA, group)
            np.testing.assert_allclose(td.open(group).todense(), WANTED)
    with pytest.raises(td.BindError, match="opened to be read"):
        td.store(FLAGSHIP, DATA, zarr.open_group(tmp_path / "four.zarr", mode="r"))
    (tmp_path / "file.zarr").write_text("mine")
    with pytest.raises(td.BindError, match="has not written"):
        td.store(FLAGSHIP, DATA, tmp_path / "file.zarr")
    assert (tmp_path / "file.zarr").read_text() == "mine"
    td.store(FLAGSHIP, DATA, f"file://localhost{tmp_path}/with%20space.zarr")
    assert (tmp_path / "with space.zarr").is_dir()


@pytest.mark.parametrize("kind", ["memory", "object", "written"])
def test_data_in_files_of_hdf5_that_are_open(kind: str, tmp_path: Path) -> None:
    """Also such as no path leads to, and such as are being written."""
    h5py = pytest.importorskip("h5py")
    options = {"driver": "core", "backing_store": False} if kind == "memory" else {}
    with h5py.File(BytesIO() if kind == "object" else tmp_path / "A.h5", "w", **options) as file:
        file["A"] = a
        td.store(FLAGSHIP, {"A": file["A"], "x": v}, tmp_path / "J.zarr", memory=MEMORY)
        np.testing.assert_allclose(td.open(tmp_path / "J.zarr").todense(), WANTED)
        np.testing.assert_allclose((A @ x).evaluate({"A": file["A"], "x": v}), a @ v)
        if kind == "written":
            assert td.store(FLAGSHIP, {"A": file["A"], "x": v}, tmp_path / "J.zarr", memory=MEMORY).tasks == 0


def test_the_command_writes_to_urls(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", v)
    zarr.create_array(FsspecStore.from_url("memory://command/A.zarr"), data=a)
    given = ["--wrt", "x", "--data", "A=memory://command/A.zarr", "--data", f"x=file://{tmp_path}/x.npy"]
    command = ["eval", "A * outer(x, x)", *given, "--out", "memory://command/J.zarr", "--memory", "1MiB"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "memory:///command/J.zarr" in done.output
    np.testing.assert_allclose(td.open("memory://command/J.zarr").todense(), WANTED)
    done = CliRunner().invoke(app, command)
    assert done.exit_code != 0
    assert "exists; nothing was computed" in done.output
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0


@pytest.mark.slow
def test_workers_write_to_a_store_that_they_reach(tmp_path: Path) -> None:
    """Data of that store, and in memory, large ones too; a store in the memory of one process is refused."""
    distributed = pytest.importorskip("distributed")
    size = 1_100
    large, w = RNG.normal(size=(size, size)), RNG.normal(size=size)
    zarr.create_array(on_disk(tmp_path, "A"), data=large, chunks=(300, 300))
    reader = zarr.open_array(on_disk(tmp_path, "A"), mode="r")
    wanted = FLAGSHIP[:, 7, :].evaluate({"A": large, "x": w})
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        for place, given in enumerate((reader, large)):
            target = on_disk(tmp_path, f"J{place}")
            td.store(FLAGSHIP, {"A": given, "x": w}, target, client=client, memory="8MB")
            np.testing.assert_allclose(td.open(target)[:, 7, :], wanted)
            left = {path.name for path in (tmp_path / f"J{place}").rglob("*") if path.is_file()}
            assert "owner" not in left
            assert not list((tmp_path / f"J{place}").glob(".tensordsl/**/zarr.json"))
        td.store(A @ A, {"A": large}, on_disk(tmp_path, "D"), client=client, memory="8MB")
        np.testing.assert_allclose(zarr.open_array(on_disk(tmp_path, "D"), mode="r")[...], large @ large)
        h5py = pytest.importorskip("h5py")
        with h5py.File(BytesIO(), "w") as file:
            file["A"] = large
            with pytest.raises(td.BindError, match="this process alone has open"):
                td.store(FLAGSHIP, {"A": file["A"], "x": w}, on_disk(tmp_path, "J0"), client=client, resume=False)
        np.testing.assert_allclose(td.open(on_disk(tmp_path, "J0"))[:, 7, :], wanted)  # it is there yet
        for target in (MemoryStore(), "memory://workers/J.zarr"):
            with pytest.raises(td.BindError, match="the store is in the memory of one process"):
                td.store(FLAGSHIP, {"A": reader, "x": w}, target, client=client)


PROGRAM = """
import sys
import numpy as np, tensordsl as td
from zarr.storage import FsspecStore
folder, name = sys.argv[1:]
k = td.dim("k")
A, x = td.matrix("A", k, k), td.vector("x", k)
data = {"A": np.load(f"{folder}/A.npy"), "x": np.load(f"{folder}/x.npy")}
target = FsspecStore.from_url(f"file://{folder}/{name}", storage_options={"auto_mkdir": True})
report = td.store(td.jacobian(A * td.outer(x, x), x), data, target, layout="dense", memory=200_000)
print(report.kept)
"""


@pytest.mark.slow
def test_a_driver_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL, again and again: the store is taken up by the next one, and the result has the same bits."""
    size = 90
    np.save(tmp_path / "A.npy", RNG.normal(size=(size, size)))
    np.save(tmp_path / "x.npy", RNG.normal(size=size))
    (tmp_path / "program.py").write_text(PROGRAM)

    def command(name: str) -> list[str]:
        return [sys.executable, str(tmp_path / "program.py"), str(tmp_path), name]

    subprocess.run(command("whole"), check=True)
    lines = tmp_path / "J" / ".tensordsl" / "journal" / "lines"
    kills = 0
    for wanted in (2, 3, 4):  # objects of the journal, the first of which says what the run is
        process = subprocess.Popen(command("J"))
        while process.poll() is None and len(list(lines.glob("*"))) < wanted:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    done = subprocess.run(command("J"), check=True, capture_output=True, text=True)
    assert kills
    assert int(done.stdout) > 0
    one, two = (zarr.open_array(on_disk(tmp_path, name), mode="r")[...] for name in ("whole", "J"))
    np.testing.assert_array_equal(one, two)
    assert not list((tmp_path / "J").rglob("owner"))
