"""What may go wrong with disks, workers and other processes: a clear error, and a store that is taken up again."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tensordsl as td
from tensordsl.chunked import engine, sources

k = td.dim("k")
A, x = td.matrix("A", k, k), td.vector("x", k)
FLAGSHIP = td.jacobian(A * td.outer(x, x), x)
SIZE, CHUNK = 90, 30
RNG = np.random.default_rng(11)
a, v = RNG.normal(size=(SIZE, SIZE)), RNG.normal(size=SIZE)
WANTED = np.einsum("ij,j,ik->ijk", a, v, np.eye(SIZE)) + np.einsum("ij,i,jk->ijk", a, v, np.eye(SIZE))


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    zarr.create_array(str(tmp_path / "A.zarr"), data=a, chunks=(CHUNK, CHUNK), compressors=None)
    np.save(tmp_path / "x.npy", v)
    return {"A": tmp_path / "A.zarr", "x": tmp_path / "x.npy"}


@contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A small disk of its own; the test is left out where none can be made."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    made = subprocess.run(command, check=False, capture_output=True)
    if made.returncode:
        pytest.skip("a disk can be made by root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


@pytest.mark.parametrize(("layout", "memory", "room"), [("structured", 200_000, "100k"), ("dense", 500_000, "160k")])
def test_a_disk_that_is_full(layout: str, memory: int, room: str, data: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with disk(place, room):
        with pytest.raises(td.BindError, match="No space left") as told:
            td.store(FLAGSHIP, data, place / "J.zarr", memory=memory, layout=layout)
        assert "run again with resume" in str(told.value)
        assert str(place) in str(told.value)
        remount(place, "size=20m")
        report = td.store(FLAGSHIP, data, place / "J.zarr", memory=memory, layout=layout)
        assert report.kept
        found = zarr.open_array(place / "J.zarr", mode="r")[...] if layout == "dense" else None
        np.testing.assert_allclose(td.open(place / "J.zarr").todense() if found is None else found, WANTED)


@pytest.mark.parametrize("after", [1, 4])
def test_a_full_disk_wherever_it_is_noticed(
    after: int, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the journal, which stands beside the store: the tiles that it does not name are done again."""
    write, count = os.write, [0]

    def full(place: int, text: Any) -> int:
        if os.readlink(f"/proc/self/fd/{place}").endswith(".journal"):
            count[0] += 1
            if count[0] > after:
                write(place, bytes(text)[:20])  # what there was room for
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(place, text)

    monkeypatch.setattr("tensordsl.chunked.storing.PAUSE", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(td.BindError, match=r"journal .* cannot be written: .*No space left"):
            td.store(FLAGSHIP, data, tmp_path / "J.zarr", memory=200_000)
    td.store(FLAGSHIP, data, tmp_path / "J.zarr", memory=200_000)
    np.testing.assert_allclose(td.open(tmp_path / "J.zarr").todense(), WANTED)


def test_a_target_that_may_not_be_written(data: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with disk(place, "20m"):
        remount(place, "ro")
        with pytest.raises(td.BindError, match=r"The target .*J\.zarr.* cannot be written: Read-only"):
            td.store(FLAGSHIP, data, place / "J.zarr")
        remount(place, "rw")
        td.store(FLAGSHIP, data, place / "J.zarr")
        np.testing.assert_allclose(td.open(place / "J.zarr").todense(), WANTED)


@pytest.mark.parametrize("what", ["removed", "changed"])
def test_data_that_are_lost_or_changed_while_they_are_read(what: str, data: dict[str, Any], tmp_path: Path) -> None:
    """A chunk that is not there is zero to zarr: that it was there when the run began is known."""
    chunk = max((f for f in Path(data["A"]).rglob("*") if f.is_file() and f.name != "zarr.json"), key=str)

    def lose(done: int, _: int) -> None:
        if done == 1:
            if what == "removed":
                chunk.unlink()
            else:
                chunk.write_bytes(bytes(chunk.stat().st_size))

    with pytest.raises(td.BindError, match=r"The data for A, .*A\.zarr.*, were changed while they were read"):
        td.store(FLAGSHIP, data, tmp_path / "J.zarr", memory=200_000, progress=lose)
    with pytest.raises(td.BindError, match="is not complete"):
        td.open(tmp_path / "J.zarr")
    with pytest.raises(td.BindError, match="inputs differ"):
        td.store(FLAGSHIP, data, tmp_path / "J.zarr", memory=200_000)


SLOW = """
import sys, time, tensordsl as td
k = td.dim("k")
A, x = td.matrix("A", k, k), td.vector("x", k)
if __name__ == "__main__":
    td.store(td.jacobian(A * td.outer(x, x), x), {"A": sys.argv[1], "x": sys.argv[2]}, sys.argv[3], memory=200_000,
             progress=lambda done, of: time.sleep(0.3))
"""


@pytest.mark.slow
def test_two_processes_and_one_target(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    target = tmp_path / "J.zarr"
    first = subprocess.Popen([sys.executable, tmp_path / "slow.py", data["A"], data["x"], target])
    try:
        limit = time.monotonic() + 60
        while not target.exists() and first.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        assert first.poll() is None
        for resume in (True, False):
            with pytest.raises(td.BindError, match="Another run is writing"):
                td.store(FLAGSHIP, data, target, memory=200_000, resume=resume)
        assert first.poll() is None
    finally:
        code = first.wait(120)
    assert code == 0
    np.testing.assert_allclose(td.open(target).todense(), WANTED)


SLOWLY = """
import time
from tensordsl.chunked import sources
read = sources.Source.read
sources.Source.read = lambda *given: (time.sleep(0.1), read(*given))[1]
"""


@pytest.mark.slow
def test_a_worker_that_stands_still(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP: it is there, and does nothing. That is told in time; with it killed the run is taken up."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(engine, "STUCK", 3.0)
    monkeypatch.setattr(engine, "ENDING", 0.5)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        processes = client.run(os.getpid)
        client.run(exec, SLOWLY, {})  # so that whoever has several tasks has not begun the last of them
        stopped: list[int] = []

        def stop(done: int, _: int) -> None:
            busy = {worker: len(keys) for worker, keys in client.processing().items()}
            if done >= 2 and not stopped and max(busy.values()) > 1:
                stopped.append(processes[max(busy, key=busy.__getitem__)])
                os.kill(stopped[0], signal.SIGSTOP)

        begun = time.monotonic()
        try:
            with pytest.raises(td.BindError, match="No task has ended in"):
                td.store(FLAGSHIP, data, tmp_path / "J.zarr", memory=100_000, client=client, progress=stop)
            assert time.monotonic() - begun < 60
        finally:
            for process in stopped:
                os.kill(process, signal.SIGKILL)
        report = td.store(FLAGSHIP, data, tmp_path / "J.zarr", memory=100_000, client=client)
    assert report.kept
    np.testing.assert_allclose(td.open(tmp_path / "J.zarr").todense(), WANTED)


@pytest.mark.slow
def test_workers_of_another_version_are_refused(data: dict[str, Any], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(exec, "import tensordsl.chunked.engine as e; e.version = lambda name: '0.0.7'", {})
        with pytest.raises(td.BindError, match=r"The cluster has .*numpy 0\.0\.7 at .*; here are tensordsl"):
            td.store(FLAGSHIP, data, tmp_path / "J.zarr", client=client)
        client.run(exec, "import importlib.metadata as m, tensordsl.chunked.engine as e; e.version = m.version", {})
        client.run(exec, "import tensordsl.chunked.engine as e; del e._versions", {})
        with pytest.raises(td.BindError, match="cannot run this library"):
            td.store(FLAGSHIP, data, tmp_path / "J.zarr", client=client)
    assert not (tmp_path / "J.zarr").exists()


def test_reads_of_the_store_are_tried_again_and_then_told(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that answers with an error each time: the piece and the file are named, and it ends."""
    monkeypatch.setattr(sources, "PAUSE", 0.0)
    tries = []

    def broken(place: str, stamp: Any) -> Any:
        tries.append(place)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setitem(sources.OPENERS, "zarr", broken)  # type: ignore[arg-type]
    given = {"A": sources.Source("A", a.shape, a.dtype, (30, 30), str(data["A"]), "zarr"), "x": data["x"]}
    with pytest.raises(td.BindError, match=r"piece \[0:.*\] of A cannot be read from .*A\.zarr: .*Input/output error"):
        td.store(FLAGSHIP, given, tmp_path / "J.zarr")
    assert len(tries) >= sources.TRIES
