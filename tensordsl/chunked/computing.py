"""Computing: the value of an expression over stored data as arrays in memory, its cores made tile by tile."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from tensordsl.chunked import engine
from tensordsl.chunked.binding import bind_sources
from tensordsl.chunked.nodes import Node
from tensordsl.chunked.plan import ChunkedPlan
from tensordsl.chunked.planning import MEMORY, Asked, Budget, plan_chunked
from tensordsl.chunked.runs import Held, Run, places_of
from tensordsl.chunked.sources import HELD, Source, using_stores
from tensordsl.errors import PlanError, UnsupportedError, amount
from tensordsl.execution.compiled import compile
from tensordsl.execution.factored import Factored
from tensordsl.execution.structure import Structure
from tensordsl.expr import Expr, operation
from tensordsl.program.plan import byte_count

SHARE = 0.3  # of the memory that the cores of the value, and arrays before them, may take together


@operation("evaluate_stored")
@using_stores()
def evaluate_stored(
    expressions: Sequence[Expr], output: str, single: bool, memory: int | None, data: Mapping[Any, Any]
) -> Any:
    """The values of expressions, some of whose data are stored, computed tile by tile within the memory."""
    if output == "operator":
        raise UnsupportedError(
            "output='operator' applies arrays in memory, and some of the data are stored. Store the value with "
            "td.store; td.open(...) @ v applies it."
        )
    found = []
    for node in expressions:
        sources, sizes = bind_sources([node], data)
        value = computed(node, sources, sizes, budget_of(memory), dense=output == "dense")
        found.append(value.todense() if output == "dense" else value.tocoo() if output == "sparse" else value)
    return found[0] if single else tuple(found)


def budget_of(memory: int | str | None) -> int:
    """The bytes that a memory budget is."""
    found = byte_count(MEMORY if memory is None else memory)
    assert found is not None
    return found


def computed(
    node: Expr, sources: Mapping[str, Source], sizes: Mapping[str, int], memory: int, dense: bool = False
) -> Factored:
    """The structured value of an expression, its cores in memory. `PlanError` where they do not fit.

    A value that is to be made `dense` has to fit with all its entries.
    """
    budget = Budget.here(memory)
    plan = plan_chunked(node, sources, sizes, budget, Asked("structured"))
    cores = sum(plan.size_of(stage) for stage in plan.stages if stage.name in plan.cores)
    needed = cores + (plan.dtype.itemsize * prod(plan.shape) if dense else 0)
    if needed > SHARE * memory:
        raise PlanError(
            f"The value takes {amount(needed)} in memory; with {amount(memory)} given it may take "
            f"{amount(int(SHARE * memory))}. Give memory={int(needed / SHARE) + 1} or more, or write it to a store "
            "with td.store" + ("; output='factored' keeps its structure." if needed > cores else ".")
        )
    with Held("computed") as held, tempfile.TemporaryDirectory(prefix="tensordsl-") as scratch:
        places = places_of(plan, Node(Path(scratch)), held, int(SHARE * memory) - cores, results=plan.cores)
        with engine.here(plan.slots, plan.blas) as client:
            taken = replace(plan, sources={name: held.take(source) for name, source in plan.sources.items()})
            Run(taken, places, client, plan.slots).all()
        return factored_of(plan, {name: HELD[str(places[name].place)] for name in plan.cores})


def factored_of(plan: ChunkedPlan, cores: Mapping[str, Any]) -> Factored:
    """The structured value whose cores are there."""
    structure = Structure(plan.shape, [term.layout for term in plan.terms], compile)
    names = {n: name for term in plan.terms for n, name in zip(term.layout.cores, term.cores, strict=True)}
    shapes = [symbol.shape for symbol in structure.cores]
    return Factored(structure, [cores[names[n]].reshape(shape) for n, shape in zip(sorted(names), shapes, strict=True)])
