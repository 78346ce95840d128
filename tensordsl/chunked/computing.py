"""Computing: the value of an expression over stored data as arrays in memory, its cores made tile by tile."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tensordsl.chunked import engine
from tensordsl.chunked.planning import ChunkedPlan, chunk_of, default_slots, plan_chunked, shape_of
from tensordsl.chunked.runs import Held, Run
from tensordsl.chunked.sources import HELD, Source
from tensordsl.errors import PlanError, amount
from tensordsl.execution.compiled import compile
from tensordsl.execution.factored import Factored
from tensordsl.execution.structure import Structure
from tensordsl.expr import Expr

SHARE = 0.3  # of the memory that the cores of the value, and arrays before them, may take together


def computed(node: Expr, sources: Mapping[str, Source], sizes: Mapping[str, int], memory: int) -> Factored:
    """The structured value of an expression, its cores in memory. `PlanError` where they do not fit."""
    slots = default_slots()
    plan = plan_chunked(node, sources, sizes, memory, slots, "structured")
    held_bytes = sum(_size(plan, name) for name in plan.cores)
    if held_bytes > SHARE * memory:
        raise PlanError(
            f"The value takes {amount(held_bytes)} in memory; with {amount(memory)} given it may take "
            f"{amount(int(SHARE * memory))}. Give memory={int(held_bytes / SHARE) + 1} or more, or write it to a store "
            "with td.store."
        )
    with Held("computed") as held, tempfile.TemporaryDirectory(prefix="tensordsl-") as scratch:
        places = _places(plan, held, Path(scratch), int(SHARE * memory) - held_bytes)
        with engine.connected(None, slots) as (client, _):
            Run(plan, places, client, slots).all()
        cores = {name: HELD[place.place] for name in plan.cores if (place := places[name]).place is not None}
    return factored_of(plan, cores)


def factored_of(plan: ChunkedPlan, cores: Mapping[str, Any]) -> Factored:
    """The structured value whose cores are there."""
    structure = Structure(plan.shape, [term.layout for term in plan.terms], compile)
    names = {n: name for term in plan.terms for n, name in zip(term.layout.cores, term.cores, strict=True)}
    shapes = [symbol.shape for symbol in structure.cores]
    return Factored(structure, [cores[names[n]].reshape(shape) for n, shape in zip(sorted(names), shapes, strict=True)])


def _size(plan: ChunkedPlan, name: str) -> int:
    stage = next(stage for stage in plan.stages if stage.name == name)
    return plan.dtypes[name].itemsize * int(np.prod(shape_of(stage, plan.tiling), dtype=np.int64))


def _places(plan: ChunkedPlan, held: Held, scratch: Path, room: int) -> dict[str, Source]:
    from tensordsl.chunked.storing import array_of  # noqa: PLC0415

    places: dict[str, Any] = {}
    for stage in plan.stages:
        shape, dtype, size = shape_of(stage, plan.tiling), plan.dtypes[stage.name], _size(plan, stage.name)
        if stage.name in plan.cores:
            places[stage.name] = held.place(stage.name, shape, dtype)
        elif size <= room:
            room -= size
            places[stage.name] = held.place(stage.name, shape, dtype)
        else:
            places[stage.name] = array_of(scratch / stage.name, stage.name, shape, chunk_of(stage, plan.tiling), dtype)
    return places
