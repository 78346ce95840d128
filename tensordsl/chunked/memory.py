"""The memory of a process beside its arrays: what the allocator keeps."""

from __future__ import annotations

import sys
from ctypes import CDLL
from functools import cache

M_ARENA_MAX = -8  # glibc's number for the parameter


@cache
def one_arena() -> None:
    """Have no more arenas begin in this process, so that threads share what memory is freed.

    glibc gives most threads an arena of their own, each with what was freed there, which no plan knows of; and zarr
    reads with many threads. Arenas that are there already go on, and once there are more than eight glibc keeps to a
    limit of its own. With another allocator it changes nothing.
    """
    mallopt = getattr(CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
