"""Stores that are cut off in every way that there is, for as long as one has time: the bits stay the same.

    python tests/chaos.py --minutes 5 --seed 1

Each round draws an expression, chunks, a layout and a budget, stores the value once in peace, and then again while
workers and drivers are killed, reads and writes fail, and journals are torn. At the end it prints what was done and
survived.
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

DRIVER = """
import sys, random, numpy as np, tensordsl as td
from tensordsl.chunked import sources
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
    folder, target, name, layout, memory, workers, errs = sys.argv[1:]
    e = EXPRESSIONS[name]
    data = {s.name: f"{folder}/{s.name}.zarr" for s in e.symbols}
    options = dict(memory=int(memory), layout=None if layout == "none" else layout)
    if float(errs):
        sources.PAUSE, chance = 0.001, random.Random(int(float(errs) * 1e6))
        whole = sources.Source.opened
        def erring(self):
            if chance.random() < 0.1:
                raise OSError("not there for a moment")
            return whole(self)
        sources.Source.opened = erring
    if int(workers):
        from distributed import Client, LocalCluster
        with LocalCluster(n_workers=int(workers), threads_per_worker=1, dashboard_address=":0") as cluster:
            with Client(cluster) as client:
                print("pids", *client.run(lambda: __import__("os").getpid()).values(), flush=True)
                report = td.store(e, data, target, client=client, **options)
    else:
        print("pids", flush=True)
        report = td.store(e, data, target, **options)
    print("done", report.tasks, report.kept, flush=True)
"""


def content(store: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*") if f.is_file() and f.name != "zarr.json"
    }


class Chaos:
    """Rounds of faults, and the count of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.driver = folder / "driver.py"
        self.driver.write_text(DRIVER)

    def command(self, target: str, case: tuple[str, ...], workers: int, errs: float = 0.0) -> list[str]:
        return [
            sys.executable,
            str(self.driver),
            str(self.folder),
            str(self.folder / target),
            *case,
            str(workers),
            str(errs),
        ]

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
            self.command("whole.zarr", case, 2), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(draw.randint(1, 4)):
            self.fault(case)
        done = subprocess.run(self.command("J.zarr", case, 2), check=False, capture_output=True, text=True)
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

    def fault(self, case: tuple[str, ...]) -> None:
        """Start the run, and harm it."""
        kind = self.random.choice(
            ["driver killed", "worker killed", "driver interrupted", "store errs", "journal torn"]
        )
        errs = self.random.random() if kind == "store errs" else 0.0
        process = subprocess.Popen(
            self.command("J.zarr", case, 2, errs), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()[1:]]
        time.sleep(self.random.uniform(0.0, 0.8))
        if process.poll() is None:
            self.counts[kind] += 1
            if kind == "worker killed":
                os.kill(self.random.choice(pids), signal.SIGKILL)
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
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
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
