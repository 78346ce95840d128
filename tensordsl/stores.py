"""The command's stores: results that are written tile by tile, with a bar, a report, and a way to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from tensordsl.chunked.plan import ChunkedPlan
from tensordsl.chunked.planning import MEMORY
from tensordsl.chunked.sources import SUFFIXES, source_of
from tensordsl.chunked.storing import store
from tensordsl.expr import Expr
from tensordsl.files import UsageError, load
from tensordsl.program.plan import plan
from tensordsl.terminal import Page


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
    path = Path(text.partition("::")[0]).expanduser()
    stored = path.suffix.lower() in SUFFIXES and path.exists()
    return source_of(name, text) if stored else load(name, text)


def lengths(text: str | None) -> int | tuple[int, ...] | None:
    """The lengths of chunks, as in 250 or 100,100,20."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--chunks {text}: expected a length, or one for each axis, as in 100,100,20.")
    found = tuple(map(int, parts))
    return found[0] if len(found) == 1 else found


def write_store(page: Page, result: Expr, data: Mapping[str, Any], out: Path, wishes: Wishes) -> None:
    """Write a result to a store, or show what would be done."""
    memory, chunks = wishes.memory or MEMORY, lengths(wishes.chunks)
    if wishes.dry_run:
        show_plan(page, plan(result, data, memory=memory, layout=wishes.layout, chunks=chunks))
        return
    journal = out.with_name(out.name + ".journal")
    if (out.exists() or journal.exists()) and not (wishes.resume or wishes.force):
        raise UsageError(
            f"--out {out} exists; nothing was computed. Take up a run that was cut off with --resume, begin anew with "
            "--force, or choose another name."
        )
    done = [0, 0]
    try:
        with shown(page) as show:

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


@contextmanager
def shown(page: Page) -> Iterator[Callable[[int, int], None]]:
    """What is told how many tasks are done, of how many: a bar on a terminal, nothing in a pipe."""
    if not page.console.is_terminal:
        yield lambda finished, total: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), "tasks", TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=page.console) as bar:
        task = bar.add_task("", total=None)
        yield lambda finished, total: bar.update(task, completed=finished, total=total)


def show_plan(page: Page, found: ChunkedPlan) -> None:
    """A plan of a store as a table."""
    for line in str(found).splitlines():
        page.raw(line)
