"""Progress of a run: a bar in the terminal, or whatever a caller makes of the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Told = Callable[[int, int], None]  # how many tasks are done, and how many there are


@contextmanager
def bar(console: Any = None) -> Iterator[Told]:
    """A bar on a console of rich, by default the terminal; nothing where that is a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    console = console or Console()
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), "tasks", TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as shown_bar:
        task = shown_bar.add_task("", total=None)
        yield lambda done, total: shown_bar.update(task, completed=done, total=total)


@contextmanager
def shown(progress: bool | Told, total: int, finished: int) -> Iterator[Callable[[], None]]:
    """A function to call for each task that has ended, of `total`, of which some were `finished` before."""
    done = finished

    def stepping(tell: Told) -> Callable[[], None]:
        def step() -> None:
            nonlocal done
            done += 1
            tell(done, total)

        return step

    if progress is True:
        with bar() as tell:
            yield stepping(tell)
    else:
        yield stepping(progress or (lambda done, total: None))
