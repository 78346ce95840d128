"""Stores that are cut off in every way that there is, for as long as one has time: the bits stay the same.

    python tests/chaos.py --minutes 5 --seed 1

Each round draws an expression, chunks, a layout and a budget, stores the value once in peace, and then again while
workers and drivers are killed, workers stand still, reads and writes fail, the disk is full, and journals are torn. At
the end it prints what was done and survived.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import zarr

# What goes wrong inside of a worker: one read or write of ten fails, or all writes do after a few, as on a full disk.
HARM = """
import errno, os, random
from tensordsl.chunked import sources
def harm(kind, seed):
    chance, left = random.Random(seed), [3]
    sources.PAUSE = 0.001
    def erring(function, *given):
        if kind == "errs" and chance.random() < 0.1:
            raise OSError("not there for a moment")
        return function(*given)
    def full(function, *given):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*given)
    tables = [sources.WRITERS] if kind == "full" else [sources.WRITERS, sources.OPENERS]
    for table in tables:
        function = table["zarr"]
        table["zarr"] = lambda *given, function=function: (full if kind == "full" else erring)(function, *given)
harm(kind, seed)
"""

DRIVER = """
import sys, numpy as np, tensordsl as td
k, m = td.dims("k m")
A, B, x = td.matrix("A", k, k), td.matrix("B", k, m), td.vector("x", k)
EXPRESSIONS = {
    "flagship": td.jacobian(A * td.outer(x, x), x),
    "product": A @ B,
    "chain": A @ (A @ B),
    "weights": td.exp(A @ B) * x[:, None],
    "hessian": td.hessian(td.sum(td.log(1 + td.exp(A @ x))), x),
    "scattered": td.jacobian(A[[3, 0, 3]] @ x, A),
}
if __name__ == "__main__":
    folder, target, name, layout, memory, harm, kind, seed = sys.argv[1:]
    e = EXPRESSIONS[name]
    data = {s.name: f"{folder}/{s.name}.zarr" for s in e.symbols}
    options = dict(memory=int(memory), layout=None if layout == "none" else layout)
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        with Client(cluster) as client:
            if kind != "none":
                client.run(exec, open(harm).read(), {"kind": kind, "seed": int(seed)})
            print("pids", *client.run(lambda: __import__("os").getpid()).values(), flush=True)
            report = td.store(e, data, target, client=client, **options)
    print("done", report.tasks, report.kept, flush=True)
"""

FAULTS = (
    "driver killed",
    "worker killed",
    "worker stands still",
    "driver interrupted",
    "store errs",
    "disk full",
    "journal torn",
)


def content(store: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*") if f.is_file() and f.name != "zarr.json"
    }


def tell(pid: int, what: signal.Signals) -> None:
    """A signal to a process that may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, what)


class Chaos:
    """Rounds of faults, and the count of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.driver = folder / "driver.py"
        self.driver.write_text(DRIVER)
        self.harm = folder / "harm.py"
        self.harm.write_text(HARM)

    def command(self, target: str, case: tuple[str, ...], harm: str = "none") -> list[str]:
        given = [str(self.folder), str(self.folder / target), *case, str(self.harm), harm]
        return [sys.executable, str(self.driver), *given, str(self.random.randrange(10**6))]

    def round(self) -> None:
        draw = self.random
        size, width = draw.randint(100, 200), draw.randint(40, 120)
        rng = np.random.default_rng(draw.randrange(10**6))
        for name, shape in (("A", (size, size)), ("B", (size, width)), ("x", (size,))):
            shutil.rmtree(self.folder / f"{name}.zarr", ignore_errors=True)
            chunks = tuple(draw.randint(4, 8) for _ in shape)
            zarr.create_array(str(self.folder / f"{name}.zarr"), data=rng.normal(size=shape) / size, chunks=chunks)
        name = draw.choice(["flagship", "product", "chain", "weights", "hessian", "scattered"])
        case = (name, draw.choice(["none", "structured", "dense"]), str(draw.choice([10_000, 20_000, 40_000])))
        for target in ("whole.zarr", "J.zarr"):
            for left in self.folder.glob(f"{target}*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        subprocess.run(
            self.command("whole.zarr", case), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(draw.randint(1, 4)):
            before = self.written()
            self.fault(case)
            self.counts["tiles redone"] += self.again(before)
        before = self.written()
        done = subprocess.run(self.command("J.zarr", case), check=False, capture_output=True, text=True)
        self.counts["tiles redone"] += self.again(before)
        if done.returncode:
            raise SystemExit(f"{case}, size {size} x {width}, was not taken up:\n{done.stderr[-2000:]}")
        words = done.stdout.split("done")[1].split()
        self.counts["tiles kept"] += int(words[1])
        self.counts["tiles done at the end"] += int(words[0])
        same = content(self.folder / "J.zarr") == content(self.folder / "whole.zarr")
        self.counts["bit-identical results"] += same
        self.counts["rounds"] += 1
        if not same:
            print(f"DIFFERENT: {case}, size {size} x {width}")

    def written(self) -> dict[str, int]:
        """The chunks that are there, each with when it was written."""
        found = {}
        for file in (self.folder / "J.zarr").rglob("c/**/*"):
            with suppress(FileNotFoundError):
                if file.is_file() and file.suffix != ".partial":
                    found[str(file)] = file.stat().st_mtime_ns
        return found

    def again(self, before: dict[str, int]) -> int:
        """How many of these chunks have been written once more since."""
        now = self.written()
        return sum(now.get(name, written) != written for name, written in before.items())

    def fault(self, case: tuple[str, ...]) -> None:
        """Start the run, and harm it."""
        kind = self.random.choice(FAULTS)
        harm = {"store errs": "errs", "disk full": "full"}.get(kind, "none")
        command = self.command("J.zarr", case, harm)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()[1:]]
        time.sleep(self.random.uniform(0.0, 0.8))
        if process.poll() is None:
            self.counts[kind] += 1
            if kind == "worker killed":
                tell(self.random.choice(pids), signal.SIGKILL)
            elif kind == "worker stands still":
                still = self.random.choice(pids)
                tell(still, signal.SIGSTOP)
                time.sleep(self.random.uniform(0.0, 1.0))
                tell(still, signal.SIGCONT)
            elif kind == "driver interrupted":
                process.send_signal(signal.SIGINT)
            elif kind in ("driver killed", "journal torn"):
                process.kill()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            self.counts["HUNG"] += 1
            process.kill()
            process.wait()
        for pid in pids:  # workers whose driver was killed end by themselves, sooner so
            tell(pid, signal.SIGKILL)
        journal = self.folder / "J.zarr.journal"
        if kind == "journal torn" and journal.exists() and journal.stat().st_size > 40:
            text = journal.read_bytes()
            cut = self.random.choice([len(text) - self.random.randint(1, 30), len(text)])
            lines = text[:cut] + (text.splitlines(keepends=True)[-1] if cut == len(text) else b"")  # torn, or doubled
            journal.write_bytes(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), given.seed)
        end = time.monotonic() + 60 * given.minutes
        while time.monotonic() < end:
            chaos.round()
    counts = chaos.counts
    for name in sorted(set(counts) - {"rounds", "bit-identical results"}):
        print(f"{name:24s} {counts[name]:6,}")
    print(f"{'bit-identical results':24s} {counts['bit-identical results']:6,} of {counts['rounds']:,}")
    sys.exit(counts["bit-identical results"] != counts["rounds"] or counts["HUNG"] > 0)


if __name__ == "__main__":
    main()
