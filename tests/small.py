"""Programs of small arrays made as those of large ones are: in blocks, by threads, in a workspace that is kept."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tensordsl.program.build as building
from tensordsl.execution.running import loaded
from tensordsl.program import products, rank, source
from tensordsl.program.blocks import Blocks, Limits
from tensordsl.program.instructions import Instruction, Program
from tensordsl.program.threads import in_blocks

# Blocks of one row and of several, that end evenly and not; one thread and more; sums and products of matrices too.
WAYS = {
    "one row": Limits(block=1, least=0, threads=1),
    "two threads": Limits(block=5, least=0, threads=2),
    "three threads": Limits(block=7, least=0, threads=3),
    "products too": Limits(block=1, least=0, threads=2, products=True),
    "whole": Limits(block=1 << 20, least=0, threads=3, products=True),
}


def meeting(function: Callable[..., None], extent: int, chunks: int, *arguments: Any) -> None:
    """The blocks, of which two are done at the same time: small ones would all be done before a thread comes along."""
    met = threading.Barrier(2)

    def work(start: int, stop: int, chunk: int, *arguments: Any) -> None:
        if chunks > 1 and chunk < 2:
            met.wait(20)
        function(start, stop, chunk, *arguments)

    in_blocks(work, extent, chunks, *arguments)


@contextmanager
def small(limits: Limits) -> Iterator[None]:
    """What is planned within goes by these limits, however small its arrays are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "Limits", lambda *_, **__: limits)
        patch.setattr(building, "in_blocks", meeting)
        patch.setattr(source, "KEPT", 0)
        patch.setattr(products, "LARGE", 0)
        for least in ("LARGE", "SHORT", "MATRIX"):
            patch.setattr(rank, least, 0)
        yield


def blocks_of(program: Program) -> list[Instruction]:
    return [step for step in program.instructions if isinstance(step.kernel, Blocks)]


def function_of(program: Program, data: dict[str, Any], sizes: dict[str, int], dtype: str | None) -> Callable[[], Any]:
    """The program as a function of nothing, of one workspace."""
    fixed = [sizes[name] for name in program.parameters]
    return functools.partial(loaded(program, dtype), *[np.asarray(data[name]) for name in program.arguments], *fixed)


def unfused(expressions: Sequence[Any], data: dict[str, Any], sizes: dict[str, int]) -> tuple[Any, ...]:
    """The values by a program that writes over nothing, keeps nothing, and does step after step."""
    found = function_of(building.build(list(expressions), sizes), data, sizes, None)()
    return found if isinstance(found, tuple) else (found,)
