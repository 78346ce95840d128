"""How chunked runs would go on 16 to 1,024 workers: a simulation from the planner's own costs, checked here.

    python tests/benchmarks/scale.py            the table
    python tests/benchmarks/scale.py --write    and docs/scale.md anew

Tasks are handed out one by one to the worker that is free first. A task takes what the planner says it computes and
moves, on a worker with the flops and the bandwidth that were measured here; all workers share the bandwidth of the
store, and the scheduler hands out so many tasks a second.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tensordsl as td
from tensordsl.chunked.binding import declared_sources
from tensordsl.chunked.plan import ChunkedPlan
from tensordsl.chunked.planning import Budget, plan_chunked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
WORKERS = (1, 2, 16, 64, 256, 1024)
DISPATCH = 1e-3  # seconds of the scheduler for one task, which dask's own documentation puts at 0.2 to 1 ms

k, m = td.dims("k m")
A, B, x = td.matrix("A", k, k), td.matrix("B", k, k), td.vector("x", k)
WORK: dict[str, tuple[Any, dict[str, int], int]] = {
    "∂(A∘xxᵀ)/∂x, structured": (td.jacobian(A * td.outer(x, x), x), {"k": 200_000}, 10_000),
    "A @ B": (A @ B, {"k": 100_000}, 5_000),
    "(A @ B) @ A": (A @ B @ A, {"k": 100_000}, 5_000),
}


class Machine(NamedTuple):
    """A worker of one slot, and the store that all of them share."""

    flops: float
    bandwidth: float  # bytes a second of one worker
    store: float  # of all workers together
    overhead: float  # seconds of a task beside its work


class Run(NamedTuple):
    seconds: float
    tasks: int
    limited_by: str


def simulate(plan: ChunkedPlan, machine: Machine, workers: int) -> Run:
    """How long the tasks of a plan take, handed out one after the other to the worker that is free first."""
    moved = plan.bytes_moved / plan.tasks
    bandwidth = min(machine.bandwidth, machine.store / min(workers, plan.tasks))
    computing, moving = plan.flops / plan.tasks / machine.flops, moved / bandwidth
    each = max(computing, moving) + machine.overhead
    free = [0.0] * workers
    handed = 0.0
    for _ in range(plan.tasks):
        handed = max(handed + DISPATCH, free[0])
        heapq.heapreplace(free, handed + each)
    seconds = max(free)
    ideal = plan.tasks * each / workers
    if plan.tasks * DISPATCH > 0.7 * seconds:
        reason = "the scheduler"
    elif seconds > 1.3 * ideal:
        reason = "too few tasks"
    else:
        reason = (
            "flops" if computing > moving else "the store" if bandwidth < machine.bandwidth else "its own bandwidth"
        )
    return Run(seconds, plan.tasks, reason)


def planned(e: Any, sizes: dict[str, int], chunk: int, workers: int, memory: int) -> ChunkedPlan:
    sources, known = declared_sources([e], sizes, chunk)
    return plan_chunked(e, sources, known, Budget(memory, workers, 1))


def measured() -> tuple[Machine, list[tuple[str, float, float]]]:
    """What one worker does here, and how long runs on one and two took beside what is simulated for them."""
    from distributed import Client, LocalCluster

    size, chunk = 4000, 500
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        import zarr

        for name in "AB":
            data = rng.normal(size=(size, size))
            zarr.create_array(f"{folder}/{name}.zarr", data=data, chunks=(chunk, chunk), compressors=None)
        given = {"A": f"{folder}/A.zarr", "B": f"{folder}/B.zarr"}
        times = {}
        for workers in (1, 2):
            with (
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
                Client(cluster) as client,
            ):
                client.run(one_thread)
                for part in ("warm", "timed"):
                    begun = time.perf_counter()
                    report = td.store(
                        A @ B, given, f"{folder}/{part}{workers}.zarr", memory="200MB", client=client, resume=False
                    )
                    times[workers] = time.perf_counter() - begun
                plan = report.plan
        # The flops are those that make one worker come out right; two are then a test of the model.
        overhead = 5e-3
        flops = plan.flops / max(1e-9, times[1] - plan.tasks * (overhead + DISPATCH))
        machine = Machine(flops, 1e9, 20e9, overhead)
        for workers in (1, 2):
            model = simulate(plan, machine, workers).seconds
            rows.append((f"{workers} worker{'s' * (workers > 1)}", times[workers], model))
    return machine, rows


def one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def page(machine: Machine, rows: list[tuple[str, float, float]]) -> str:
    lines = [
        "# Beyond one machine: a simulation",
        "",
        "How runs would go on 16 to 1,024 workers, simulated from the planner's own costs by",
        "`tests/benchmarks/scale.py`, which writes this page. Nothing here but the first table was measured.",
        "",
        f"A worker has one slot and 16 GiB, computes {machine.flops / 1e9:.0f} Gflop/s, as one did here, and moves",
        f"{machine.bandwidth / 1e9:.0f} GB/s; all together move {machine.store / 1e9:.0f} GB/s to and from the store.",
        f"The scheduler takes {1e3 * DISPATCH:g} ms for a task; a task {1e3 * machine.overhead:g} ms beside its work.",
        "",
        "The model beside runs here, `A @ B` of 4,000² in chunks of 500 within 200 MB:",
        "",
        "| | measured | simulated | ratio |",
        "| --- | --: | --: | --: |",
        *(f"| {name} | {real:.2f} s | {model:.2f} s | {model / real:.2f} |" for name, real, model in rows),
        "",
        "The flops are chosen so that one worker comes out right; two are the test.",
        "",
        "| work | workers | tasks | seconds | speed-up | of ideal | limited by |",
        "| --- | --: | --: | --: | --: | --: | --- |",
    ]
    for name, (e, sizes, chunk) in WORK.items():
        one = None
        for workers in WORKERS:
            plan = planned(e, sizes, chunk, workers, 16 << 30)
            found = simulate(plan, machine, workers)
            one = one or found.seconds
            speed = one / found.seconds
            title = f"{name}, k = {sizes['k']:,}"
            lines.append(
                f"| {title} | {workers:,} | {found.tasks:,} | {found.seconds:,.0f} | {speed:,.1f} | "
                f"{speed / workers:.0%} | {found.limited_by} |"
            )
    lines += [
        "",
        "What is read and written once is limited by the store from a few tens of workers on, whatever their number;",
        "a matrix product goes on to gain as long as there are tiles for all. Where workers would wait the planner",
        "makes tiles shorter than the chunks that are stored, unless what is read again for that takes longer.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    text = page(*measured())
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
