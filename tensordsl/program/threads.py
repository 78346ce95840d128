"""Threads that share the blocks of a program."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any

if hasattr(os, "register_at_fork"):  # the threads of a parent are not in its child
    os.register_at_fork(after_in_child=lambda: pool.cache_clear())  # noqa: PLW0108 - it is defined below


@cache
def thread_count() -> int:
    """How many threads a program uses: the cores that this process may use, or fewer by OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(cores, int(asked))) if asked.isdigit() else cores


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, thread_count() - 1), thread_name_prefix="tensordsl")


def in_blocks(function: Callable[..., None], extent: int, chunks: int, *arguments: Any) -> None:
    """Call `function(start, stop, chunk, *arguments)` for each of the chunks of an axis, side by side.

    The chunks are the same each time, so that sums over them have the same bits.
    """
    bounds = [extent * chunk // chunks for chunk in range(chunks + 1)]
    # NumPy's error state belongs to the context of the caller.
    futures: list[Future[None]] = [
        pool().submit(copy_context().run, function, bounds[chunk], bounds[chunk + 1], chunk, *arguments)
        for chunk in range(1, chunks)
    ]
    try:
        function(bounds[0], bounds[1], 0, *arguments)
    finally:
        errors = [future.exception() for future in futures]  # waits: the arguments are in use until then
    for error in errors:
        if error is not None:
            raise error
