"""`td.store`: the value of an expression written to a zarr store, tile by tile, within a memory budget."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tensordsl.chunked import engine
from tensordsl.chunked.binding import bind_sources
from tensordsl.chunked.journal import Journal, differences
from tensordsl.chunked.planning import ChunkedPlan, Term, chunk_of, default_slots, plan_chunked, shape_of
from tensordsl.chunked.runs import Held, Run, Tile
from tensordsl.chunked.sources import Source, stamp_of
from tensordsl.errors import BindError
from tensordsl.expr import brief
from tensordsl.functions.convert import as_expr
from tensordsl.program.plan import byte_count

FORMAT = 1  # of a structured store
MEMORY = "2GiB"
HELD_SHARE = 0.2  # of the memory that arrays between the stages may take
PAUSE = 0.25  # seconds between two lines of the journal


@dataclass(frozen=True)
class Report:
    """What a run did: `print` shows it."""

    plan: ChunkedPlan
    target: str
    tasks: int
    kept: int
    seconds: float

    def __str__(self) -> str:
        if not self.tasks:
            return f"{self.target} was complete already, {self.kept} tasks"
        moved = self.plan.bytes_read + self.plan.bytes_written
        kept = f" ({self.kept} more were finished before)" if self.kept else ""
        return (
            f"{self.tasks} tasks{kept} in {self.seconds:.2f} s, {moved / max(self.seconds, 1e-9) / 1e6:.0f} MB/s, "
            f"{moved / max(1, self.plan.bound_bytes):.2f} x the least that has to be read and written, to {self.target}"
        )


def store(
    e: Any,
    data: Mapping[Any, Any],
    target: str | Path,
    *,
    memory: int | str = MEMORY,
    layout: str | None = None,
    client: Any = None,
    resume: bool = True,
    progress: bool = False,
    threads: int | None = None,
) -> Report:
    """Write the value of an expression to a zarr store, tile by tile, within a memory budget.

    `data` maps symbols or names to arrays: paths of .zarr, .npy and .h5 files (`"file.h5::dataset"`), open arrays of
    zarr and h5py, memory maps, NumPy's, xarray's and dask's arrays, in any mix, and sizes that no array shows to whole
    numbers. With `layout="structured"`, the default where output labels repeat, the store is a group with an array for
    each core, and `td.open` gives the value back; with `"dense"` it is one array that anyone can read, of which blocks
    that are zero by structure are not written. `client` is a client of `distributed` or the address of a scheduler;
    without one the tasks are done by `threads` of this process. `memory`, bytes or a text such as "2GiB", is what the
    tasks hold that go on at one time.

    A run that was cut off is taken up again, tile by tile, by the same call (`resume=False` begins anew). Raises
    `PlanError` where no task keeps within the memory, before anything runs, and `BindError` for data that is missing,
    ill-shaped or cannot be read, for a target that another run writes to or that holds something else.

    >>> import tempfile, numpy as np, tensordsl as td
    >>> k = td.dim("k")
    >>> A, x = td.matrix("A", k, k), td.vector("x", k)
    >>> target = tempfile.mkdtemp() + "/J.zarr"
    >>> report = td.store(td.jacobian(A * td.outer(x, x), x), {"A": np.ones((4, 4)), "x": np.arange(4.0)}, target)
    >>> td.open(target)[:, 1, :].sum()
    np.float64(12.0)
    """
    node = as_expr(e)
    sources, sizes = bind_sources([node], data)
    budget = byte_count(memory)
    assert budget is not None
    path = Path(target).expanduser().resolve()
    if path.suffix == "" and not path.exists():
        raise BindError(f"The target {str(target)!r} has no suffix; expected a name that ends in .zarr.")
    if not path.parent.is_dir():
        raise BindError(f"The target {str(target)!r} cannot be made: there is no directory {str(path.parent)!r}.")
    own = default_slots() if threads is None else threads
    with engine.connected(client, own) as (connection, here):
        slots, at_once = engine.slots_of(connection)
        plan = plan_chunked(node, sources, sizes, budget, slots, layout, at_once)
        fingerprint = fingerprint_of(plan)
        begun = perf_counter()
        with Journal(path.with_name(path.name + ".journal")) as journal:
            finished = take_up(journal, fingerprint, path, resume)
            if finished is None:
                journal.remove()
                return Report(plan, str(path), 0, plan.tasks, 0.0)
            with Held(str(path)) as held, Notes(journal) as notes:
                run = Run(plan, places_of(plan, path, held if here else None), connection, slots, finished, notes.add)
                run.all()
            complete(path, fingerprint)
            shutil.rmtree(scratch_of(path), ignore_errors=True)
            journal.remove()
    return Report(plan, str(path), run.done, len(finished), perf_counter() - begun)


class Notes:
    """What is finished, noted in a journal now and then, and at the end whatever comes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[Tile] = []
        self._written = perf_counter()

    def add(self, tile: Tile) -> None:
        self._waiting.append(tile)
        if perf_counter() - self._written > PAUSE:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            self._journal.finished(self._waiting)
        self._waiting, self._written = [], perf_counter()

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()


def fingerprint_of(plan: ChunkedPlan) -> dict[str, Any]:
    """What has to be the same for a run to be taken up."""
    return {
        "version": FORMAT,
        "expression": plan.expression.digest,
        "dtype": str(plan.dtype),
        "layout": plan.layout,
        "tiling": sorted([label, plan.tiling.lengths[label], size] for label, size in plan.tiling.sizes.items()),
        "inputs": {name: source.fingerprint() for name, source in sorted(plan.sources.items())},
    }


def take_up(journal: Journal, fingerprint: dict[str, Any], path: Path, resume: bool) -> set[tuple[Any, ...]] | None:
    """The tiles that are finished already; None where all are. `BindError` where what is there is something else."""
    before, finished = journal.begun()
    held = _attributes(path)
    ours = before is not None or "run" in held
    if path.exists() and not ours:
        journal.remove()
        raise BindError(
            f"{str(path)!r} exists, and this library has not written it. Choose another name, or remove it."
        )
    if resume and before is None and held.get("run") == fingerprint:
        return None
    if resume and before is not None and path.exists():
        unlike = differences(before, fingerprint)
        if unlike:
            raise BindError(
                f"{str(path)!r} was begun by another run: {', '.join(unlike)} differ. Choose another name, or begin "
                "anew with resume=False."
            )
        journal.mend()
        return finished
    if resume and path.exists():
        unlike = differences(held["run"], fingerprint)
        journal.remove()
        raise BindError(
            f"{str(path)!r} holds the result of another run: {', '.join(unlike)} differ. Choose another name, or begin "
            "anew with resume=False."
        )
    for place in (path, scratch_of(path)):
        if place.exists():
            shutil.rmtree(place)
    journal.begin(fingerprint)
    return set()


def scratch_of(path: Path) -> Path:
    """Where arrays that only the run needs are kept."""
    return path.with_name(path.name + ".scratch")


def _attributes(path: Path) -> dict[str, Any]:
    import zarr

    if not (path / "zarr.json").exists():
        return {}
    found: Any = zarr.open(str(path), mode="r")
    held = dict(found.attrs).get("tensordsl", {})
    return held if isinstance(held, dict) else {}


def complete(path: Path, fingerprint: dict[str, Any]) -> None:
    """Say in the store that all of it is there."""
    import zarr

    found: Any = zarr.open(str(path), mode="r+")
    found.attrs["tensordsl"] = {**dict(found.attrs)["tensordsl"], "complete": True, "run": fingerprint}


# --- where things lie ---------------------------------------------------------------------------------------------


def places_of(plan: ChunkedPlan, path: Path, held: Held | None) -> dict[str, Source]:
    """Where each stage is stored: in the target, in memory where it is small, or in a store beside the target."""
    import zarr

    cores = plan.cores if plan.layout == "structured" else {}
    room = int(HELD_SHARE * plan.memory)
    places: dict[str, Source] = {}
    if plan.layout == "structured" and not (path / "zarr.json").exists():
        zarr.create_group(str(path), attributes={"tensordsl": about(plan)})
    for stage in plan.stages:
        shape, dtype = shape_of(stage, plan.tiling), plan.dtypes[stage.name]
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if stage.name not in cores and held is not None and size <= room:
            room -= size
            places[stage.name] = held.place(stage.name, shape, dtype)
        else:
            place = path / cores[stage.name] if stage.name in cores else scratch_of(path) / stage.name
            places[stage.name] = array_of(place, stage.name, shape, chunk_of(stage, plan.tiling), dtype)
    if plan.layout == "dense":
        places["result"] = array_of(path, "result", plan.shape, plan.block_shape, plan.dtype, about(plan), "auto")
    return places


def array_of(
    place: Path,
    name: str,
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: Any,
    said: Any = None,
    compressors: Any = None,
) -> Source:
    """An array of zeros of zarr, made where it is not there yet."""
    import zarr

    if not (place / "zarr.json").exists():
        zarr.create_array(
            str(place),
            shape=tuple(shape),
            chunks=tuple(max(1, chunk) for chunk in chunks),
            dtype=dtype,
            fill_value=0,
            compressors=compressors,
            attributes={} if said is None else {"tensordsl": said},
        )
    return Source(name, tuple(shape), np.dtype(dtype), tuple(chunks), str(place), "zarr", None, stamp_of(place))


def about(plan: ChunkedPlan) -> dict[str, Any]:
    """What the attributes of a store say of the value in it."""
    found: dict[str, Any] = {
        "version": FORMAT,
        "expression": brief(plan.expression, 500),
        "shape": list(plan.shape),
        "dtype": str(plan.dtype),
        "layout": plan.layout,
        "complete": False,
    }
    if plan.layout == "structured":
        found["terms"] = [described(term, plan) for term in plan.terms]
    return found


def described(term: Term, plan: ChunkedPlan) -> dict[str, Any]:
    """A term in words of JSON: its coefficient, its cores, the labels of their axes, and those of each axis."""
    names: dict[int, str] = {}

    def name(label: int) -> str:
        return names.setdefault(label, f"i{len(names)}")

    layout = term.layout
    output = [[name(label) for label in group] for group in term.output]
    cores = [
        {"array": plan.cores[core], "labels": [name(la) for la in own]}
        for core, own in zip(term.cores, term.slots, strict=True)
    ]
    coefficient = layout.coefficient
    number = [coefficient.real, coefficient.imag] if isinstance(coefficient, complex) else float(coefficient)
    return {
        "coefficient": number,
        "cores": cores,
        "output": output,
        "sizes": {text: plan.tiling.sizes[label] for label, text in names.items()},
    }
