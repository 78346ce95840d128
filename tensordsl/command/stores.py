"""The command's stores: results that are written tile by tile, with a bar, a report, and a way to go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from tensordsl.chunked.nodes import Node
from tensordsl.chunked.plan import ChunkedPlan
from tensordsl.chunked.planning import MEMORY
from tensordsl.chunked.progress import bar
from tensordsl.chunked.sources import source_of
from tensordsl.chunked.storing import store
from tensordsl.command.files import UsageError, load
from tensordsl.command.terminal import Page
from tensordsl.execution.compiled import is_path
from tensordsl.expr import Expr
from tensordsl.program.plan import plan

Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="BYTES",
        show_default=False,
        help="What the tasks of a run to .zarr hold at one time, as in 2GiB. [dim]2GiB unless told.[/dim]",
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="LAYOUT",
        show_default=False,
        help="How a .zarr is laid out: structured (an array for each core), or dense. "
        "[dim]Structured where the result has a δ.[/dim]",
    ),
]
Chunks = Annotated[
    str | None,
    typer.Option("--chunks", metavar="N,N,..", show_default=False, help="The chunks of a dense .zarr along its axes."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        show_default=False,
        help="Have a cluster of dask do it, as in tcp://10.0.0.1:8786. [dim]Threads of this process unless told.[/dim]",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, show_default=False, help="How many tasks at a time.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Take up a run to .zarr that was cut off.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan of a run to .zarr, no more.")]


class Wishes(NamedTuple):
    """What the command is asked for beside the value."""

    memory: str | None
    layout: str | None
    chunks: str | None
    scheduler: str | None
    threads: int | None
    resume: bool
    force: bool
    dry_run: bool


def opened(name: str, text: str) -> Any:
    """The data of a symbol: a file that is read piece by piece where it can be, else what is in it."""
    there = "://" in text or Path(text.partition("::")[0]).expanduser().exists()
    return source_of(name, text) if is_path(text) and there else load(name, text)


def lengths(text: str | None) -> int | tuple[int, ...] | None:
    """The lengths of chunks, as in 250 or 100,100,20."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--chunks {text}: expected a length, or one for each axis, as in 100,100,20.")
    found = tuple(map(int, parts))
    return found[0] if len(found) == 1 else found


def write_store(page: Page, result: Expr, data: Mapping[str, Any], out: str, wishes: Wishes) -> None:
    """Write a result to a store, or show what would be done."""
    memory, chunks = wishes.memory or MEMORY, lengths(wishes.chunks)
    if wishes.dry_run:
        show_plan(page, plan(result, data, memory=memory, layout=wishes.layout, chunks=chunks))
        return
    if not (wishes.resume or wishes.force) and Node.of(out).is_begun:
        raise UsageError(
            f"--out {out} exists; nothing was computed. Take up a run that was cut off with --resume, begin anew with "
            "--force, or choose another name."
        )
    done = [0, 0]
    try:
        with bar(page.console) as show:

            def step(finished: int, total: int) -> None:
                done[:] = finished, total
                show(finished, total)

            report = store(
                result,
                data,
                out,
                memory=memory,
                layout=wishes.layout,
                chunks=chunks,
                client=wishes.scheduler,
                resume=not wishes.force,
                progress=step,
                threads=wishes.threads,
            )
    except KeyboardInterrupt:
        page.raw(f"interrupted after {done[0]} of {done[1]} tasks; the same command with --resume goes on from there")
        raise typer.Exit(130) from None
    page.raw(str(report))


def show_plan(page: Page, found: ChunkedPlan) -> None:
    """A plan of a store as a table."""
    for line in str(found).splitlines():
        page.raw(line)
