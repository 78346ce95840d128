"""Progress of a run: a bar in the terminal, or whatever a caller makes of the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Step = Callable[[], None]


@contextmanager
def shown(progress: bool | Callable[[int, int], None], total: int, finished: int) -> Iterator[Step]:
    """A function to call for each task that has ended, of `total`, of which some were `finished` before."""
    done = [finished]
    if progress is True:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        with Progress(BarColumn(), MofNCompleteColumn(), "tasks", TimeRemainingColumn(), transient=True) as bar:
            task = bar.add_task("", total=total, completed=finished)
            yield lambda: bar.advance(task)
        return

    def step() -> None:
        done[0] += 1
        if progress:
            progress(done[0], total)

    yield step
