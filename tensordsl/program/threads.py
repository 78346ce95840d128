"""Threads that share the blocks of a program."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from typing import Any


@cache
def thread_count() -> int:
    """How many threads a program uses: the cores that this process may use, or fewer by OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(cores, int(asked))) if asked.isdigit() else cores


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, thread_count() - 1), thread_name_prefix="tensordsl")


if hasattr(os, "register_at_fork"):  # the threads of a parent are not in its child
    os.register_at_fork(after_in_child=pool.cache_clear)


def in_blocks(function: Callable[..., None], extent: int, chunks: int, *arguments: Any) -> None:
    """Call `function(start, stop, chunk, *arguments)` for each of the chunks of an axis, side by side.

    The chunks are the same each time, so that sums over them have the same bits, whichever thread does them.
    """
    bounds = [extent * chunk // chunks for chunk in range(chunks + 1)]
    left = list(reversed(range(chunks)))
    called = [(function, arguments)]  # emptied at the end: a thread that is late to go on would keep the arrays alive

    def work() -> None:
        while left:
            try:
                chunk = left.pop()  # a whole step, whatever other threads do
            except IndexError:
                return
            do, given = called[0]
            do(bounds[chunk], bounds[chunk + 1], chunk, *given)
            del do, given

    futures: list[Future[None]] = []
    with suppress(RuntimeError):  # where no thread can be had, as when the interpreter ends, this one does all
        for _ in range(1, chunks):
            # NumPy's error state belongs to the context of the caller.
            futures.append(pool().submit(copy_context().run, work))
    try:
        work()
    finally:
        left.clear()
        # Those that have not begun find nothing to do. The others are waited for: the arrays are in use until then.
        errors = [future.exception() for future in futures if not future.cancel()]
        called.clear()
    for error in errors:
        if error is not None:
            raise error
