"""What every workload costs: the library, NumPy by hand, and each peer that is installed, in one run.

    python tests/benchmarks/peers.py                                 every row; about two hours
    python tests/benchmarks/peers.py --quick                         the smallest sizes, in few rounds
    python tests/benchmarks/peers.py --rows hessian einsum-chain     rows whose names begin so
    python tests/benchmarks/peers.py --write                         and docs/performance.md anew, with JSON and chart
    python tests/benchmarks/peers.py --render docs/performance/latest.json     the page, from a run that is kept

Each contender is a process of its own, with the same threads, float64, and data that are written once. All results are
compared with the reference before anything is timed; then the contenders take turns, round by round. Results of 100 MB
and more are measured under both settings of the pages of memory: NumPy asks for huge ones, others do when told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import report
from contenders import CONTENDERS
from digest import difference
from workload import Workload, label
from workloads import everything

HERE = Path(__file__).resolve().parent
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
LARGE = 100_000_000  # bytes of a result that is measured under both settings of pages
PACKAGES = (
    "numpy",
    "scipy",
    "opt_einsum",
    "jax",
    "torch",
    "tensorgrad",
    "autograd",
    "cotengra",
    "asdex",
    "sparsejac",
    "sesum",
)


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # for one call, a third of those for a first result; and for all rounds of a contender
    memory: float  # bytes resident of one contender
    threads: int


class Stopped(Exception):
    """A contender that gives no result: why."""


@dataclass
class Process:
    """A worker. It is asked for one thing at a time, and stopped where it takes too long or too much memory."""

    name: str
    effort: Effort
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, workload: Workload, row: int, folder: Path, pages: str, effort: Effort) -> Process:
        command = [sys.executable, str(HERE / "worker.py"), name, workload.name, str(row), str(folder)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(pages, effort.threads),
            start_new_session=True,  # with its compilers, to stop them all
        )
        return cls(name, effort, process)

    def answer(self, seconds: float) -> dict[str, Any]:
        limit = time.monotonic() + seconds
        while not select.select([self.process.stdout], [], [], 0.05)[0]:
            if time.monotonic() > limit:
                raise Stopped(f"more than {seconds:g} s")
            if resident(self.process.pid) > self.effort.memory:
                raise Stopped(f"more than {self.effort.memory / 1e9:.3g} GB of memory")
        line = self.process.stdout.readline()
        if not line:
            raise Stopped(f"its process ended ({self.process.wait()})")
        answer = json.loads(line)
        if "error" in answer:
            raise Stopped(answer["error"])
        return answer

    def ask(self, *command: Any) -> dict[str, Any]:
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            return self.answer(self.effort.seconds * (3 if command[0] == "first" else 1))
        except BrokenPipeError:
            raise Stopped("its process ended") from None
        finally:  # threads of BLAS and OpenMP wait for more work by spinning, on the cores of the next in turn
            self.signal(signal.SIGSTOP)

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def environment(pages: str, threads: int) -> dict[str, str]:
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "BLIS", "VECLIB")
    return {
        **{name: value for name, value in os.environ.items() if name not in HUGE_PAGES},
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}",
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",  # a first result is not one of an earlier run
        **(HUGE_PAGES if pages == "huge" else {}),
    }


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, IndexError):  # it has just ended
        return 0


# ------------------------------------------------------------------------------------------------ one row


@dataclass
class Runner:
    """A contender of one row, and what is known of it so far."""

    process: Process
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return "error" not in self.figures

    def attempt(self, *command: Any) -> dict[str, Any] | None:
        """The answer, or none and the process ended."""
        if not self.running:
            return None
        try:
            return self.process.ask(*command)
        except Stopped as reason:
            self.fail(str(reason))
            return None

    def fail(self, reason: str) -> None:
        self.figures["error"] = reason
        self.process.stop()


def contenders_of(workload: Workload, wanted: Sequence[str]) -> list[str]:
    reference = ["by hand"] if workload.by_hand is not None else []
    names = [*reference, "tensordsl", *workload.peers]
    return [name for name in names if not wanted or name in wanted]


def start_all(
    workload: Workload, row: int, folder: Path, pages: str, effort: Effort, wanted: Sequence[str]
) -> dict[str, Runner]:
    runners = {}
    for name in contenders_of(workload, wanted):
        if not CONTENDERS[name].installed:
            continue
        runner = runners[name] = Runner(Process.start(name, workload, row, folder, pages, effort))
        try:
            runner.process.answer(120)  # it imports
        except Stopped as reason:
            runner.fail(str(reason))
    return runners


def first_results(runners: dict[str, Runner]) -> int:
    """Of all, compared with the reference; the bytes of the reference's."""
    reference: dict[str, Any] | None = None
    size = 0
    for runner in runners.values():
        answer = runner.attempt("first")
        if answer is None:
            continue
        runner.figures |= {"first": answer["first"], "peak": answer["peak"]}
        size = max(size, answer["bytes"])
        found = answer.get("digest")
        if reference is None:
            reference = found
        elif found is not None and (unlike := difference(found, reference)) is not None:
            runner.fail(unlike)
    return size


def take_turns(runners: dict[str, Runner], effort: Effort, least: float = 0.005) -> None:
    """Round by round, each its turn, in one order and then in the other: a drift of the machine hits all."""
    repeats = {}
    for name, runner in runners.items():
        if (answer := runner.attempt("time", 1)) is not None:
            repeats[name] = max(1, round(least / max(answer["seconds"], 1e-7)))
    for turn in range(effort.rounds):
        for name, runner in sorted(runners.items(), reverse=turn % 2 == 1):
            if sum(runner.seconds) * repeats.get(name, 0) > effort.seconds and len(runner.seconds) >= 3:
                continue
            if (answer := runner.attempt("time", repeats.get(name, 1))) is not None:
                runner.seconds.append(answer["seconds"])


def measure(workload: Workload, row: int, pages: str, effort: Effort, wanted: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for name, array in workload.data(workload.sizes[row]).items():
            np.save(Path(folder) / f"{name}.npy", array)
        runners = start_all(workload, row, Path(folder), pages, effort, wanted)
        try:
            size = first_results(runners)
            take_turns(runners, effort)
        finally:
            for runner in runners.values():
                runner.process.stop()
    for runner in runners.values():
        if runner.running and runner.seconds:
            runner.figures |= {"median": median(runner.seconds), "seconds": runner.seconds}
    return {
        "workload": workload.name,
        "title": workload.title,
        "sizes": label(workload.sizes[row]),
        "pages": pages,
        "bytes": size,
        "target": workload.target,
        "ahead": workload.ahead,
        "memory": workload.memory,
        "symbolic": workload.symbolic,
        "results": {name: runner.figures for name, runner in runners.items()},
    }


# ------------------------------------------------------------------------------------------------ all rows


def measure_all(arguments: argparse.Namespace, effort: Effort) -> Iterator[dict[str, Any]]:
    for workload in everything():
        if arguments.rows and not workload.name.startswith(tuple(arguments.rows)):
            continue
        for row in range(1 if arguments.quick else len(workload.sizes)):
            found = measure(workload, row, "default", effort, arguments.contenders)
            yield found
            if found["bytes"] >= LARGE:
                yield measure(workload, row, "huge", effort, arguments.contenders)


def machine(threads: int) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    found = {}
    for package in ("tensordsl", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="PREFIX", help="only rows whose names begin so")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", default=(), help="only these")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, in few rounds")
    parser.add_argument("--list", action="store_true", help="the names of the rows, and nothing more")
    parser.add_argument("--rounds", type=int, help="how often each contender is timed")
    parser.add_argument("--seconds", type=float, help="the most that one call may take")
    parser.add_argument("--memory", type=float, help="the most GB that one contender may take")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurement here")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, its JSON and its chart")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write docs/performance.md from this measurement")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse()
    if arguments.list:
        print("\n".join(f"{workload.name:24} {workload.title}" for workload in everything()))
        return
    if arguments.render is not None:
        report.write(json.loads(arguments.render.read_text(encoding="utf-8")))
        return
    memory = 0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    effort = Effort(
        rounds=arguments.rounds or (3 if arguments.quick else 9),
        seconds=arguments.seconds or (10 if arguments.quick else 30),
        memory=arguments.memory * 1e9 if arguments.memory else memory,
        threads=arguments.threads,
    )
    run: dict[str, Any] = {
        "date": date.today().isoformat(),
        "quick": arguments.quick,
        "machine": machine(effort.threads),
        "versions": versions(),
        "rows": [],
    }
    for row in measure_all(arguments, effort):
        report.show(row)
        run["rows"].append(row)
        if arguments.json is not None:  # after each row: a long run that is interrupted has not been for nothing
            arguments.json.write_text(json.dumps(run, indent=1, ensure_ascii=False), encoding="utf-8")
    if arguments.write:
        report.write(run)


if __name__ == "__main__":
    main()
