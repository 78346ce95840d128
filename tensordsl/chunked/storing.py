"""`td.store`: the value of an expression written to a zarr store, tile by tile, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from math import ceil, prod
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np

from tensordsl.chunked import engine, objects
from tensordsl.chunked.binding import bind_sources, declared_sources
from tensordsl.chunked.computing import budget_of
from tensordsl.chunked.journal import Journal, differences
from tensordsl.chunked.nodes import Node
from tensordsl.chunked.plan import ChunkedPlan, Term
from tensordsl.chunked.planning import MEMORY, Asked, Budget, plain, plan_chunked
from tensordsl.chunked.progress import shown
from tensordsl.chunked.runs import Held, Run, Tile, places_of
from tensordsl.chunked.sources import Source, array_of, node_of, using_stores
from tensordsl.errors import BindError, TensorDSLError, UnsupportedError, amount, words
from tensordsl.expr import Pattern, Select, brief, operation
from tensordsl.functions import routines
from tensordsl.functions.convert import as_expr

FORMAT = 1  # of a structured store
HELD_SHARE = 0.2  # of the memory that arrays between the stages may take
LARGE = 1 << 23  # bytes of an array in memory that is not sent along with every job
SCRATCH_CHUNK = 1 << 20  # bytes of a chunk of what is in memory and goes to scratch
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
        moved = self.plan.bytes_moved * self.tasks // max(1, self.plan.tasks)
        kept = f" ({self.kept} more were finished before)" if self.kept else ""
        times = self.plan.bytes_moved / max(1, self.plan.bound_bytes)
        return (
            f"{self.tasks} tasks{kept} in {self.seconds:.2f} s, {amount(moved)} read and written, "
            f"{moved / max(self.seconds, 1e-9) / 1e6:.0f} MB/s, {times:.2f} x the least, by the plan; "
            f"{amount(self.plan.peak_bytes)} at the peak of a task, of {amount(self.plan.memory)}; to {self.target}"
        )


@using_stores()
def store(
    e: Any,
    data: Mapping[Any, Any],
    target: Any,
    *,
    memory: int | str = MEMORY,
    layout: str | None = None,
    chunks: int | Sequence[int] | None = None,
    client: Any = None,
    resume: bool = True,
    progress: bool | Callable[[int, int], None] = False,
    threads: int | None = None,
) -> Report:
    """Write the value of an expression to a zarr store, tile by tile, within a memory budget.

    `data` maps symbols or names to arrays: paths of .zarr, .npy and .h5 files (`"file.h5::dataset"`), open arrays of
    zarr and h5py, memory maps, NumPy's, xarray's and dask's arrays, in any mix, and sizes that no array shows to whole
    numbers. `target` is a path, a URL such as "s3://bucket/J.zarr", or a store or an empty group of zarr. With
    `layout="structured"`, the default where output labels repeat, it becomes a group with an array for each core, and
    `td.open` gives the value back; with `"dense"` one array that anyone can read, of which blocks that are zero by
    structure are not written. `client` is a client of `distributed` or the address of a scheduler; without one the
    tasks are done in this process, `threads` of them at a time, or as many as the plan says. `memory`, bytes or a text
    such as "2GiB", is what the tasks hold that go on at one time on one worker. `chunks` are the lengths of the chunks
    of a dense result along its axes, one for all or one for each. `progress` is true for a bar, or a function of the
    tasks done and of all.

    A run that was cut off is taken up again, tile by tile, by the same call (`resume=False` begins anew). Raises
    `PlanError` where no task keeps within the memory, before anything runs, and `BindError` for data that is missing,
    ill-shaped or cannot be read, for a target that another run writes to or that holds something else.

    >>> import tempfile, numpy as np, tensordsl as td
    >>> k = td.dim("k")
    >>> A, x = td.matrix("A", k, k), td.vector("x", k)
    >>> target = tempfile.mkdtemp() + "/J.zarr"
    >>> report = td.store(td.jacobian(A * td.outer(x, x), x), {"A": np.ones((4, 4)), "x": np.arange(4.0)}, target)
    >>> td.open(target)[:, 1, :].sum()
    np.float64(10.0)
    """
    node = as_expr(e)
    sources, sizes = bind_sources([node], data)
    place = Node.of(target)
    _check_target(place, sources.values())
    if threads is not None and threads < 1:
        raise UnsupportedError(f"threads={threads}: expected a whole number from 1 on.")
    with nullcontext() if client is None else engine.reached(client) as cluster, _opened(place) as journal:
        given = budget_of(memory)
        budget = Budget.here(given, threads) if cluster is None else Budget(given, *engine.slots_of(cluster))

        def planned(lengths: Mapping[int, int] | None = None) -> ChunkedPlan:
            return plan_chunked(node, sources, sizes, budget, Asked(layout, chunks, lengths=lengths))

        plan = planned()
        fingerprint = fingerprint_of(plan, chunks)
        with _told(place):
            before, _ = journal.begun()
        if resume and before is not None and differences(before, fingerprint) == ["tiling"]:
            plan = planned({label: length for label, length, _ in before["tiling"]})  # of other workers, or memory
            fingerprint["tiling"] = tiling_of(plan)
        return _store(plan, fingerprint, place, journal, cluster, resume, progress)


def _check_target(place: Node, sources: Iterable[Source]) -> None:
    """`BindError` for a target that cannot be, or that is one of the arrays that are read."""
    place.check()
    for source in sources:
        read = node_of(source)
        if read is not None and place.overlaps(read):
            raise BindError(f"The target {str(place)!r} holds the data for {source.name}. Choose another name.")


@contextmanager
def _opened(place: Node) -> Iterator[Journal]:
    """The journal of a target, which one run at a time has; `BindError` where nothing can be written there."""
    with ExitStack() as stack:
        with _told(place):
            journal = stack.enter_context(Journal(place.log))
        yield journal


@contextmanager
def _told(place: Node) -> Iterator[None]:
    """Errors of the system, or of a store, as `BindError`."""
    try:
        yield
    except TensorDSLError:
        raise
    except Exception as error:
        if place.folder is not None and not isinstance(error, OSError):
            raise
        said = (isinstance(error, OSError) and error.strerror) or words(error)
        raise BindError(f"The target {str(place)!r} cannot be written: {said}.") from None


def _store(
    plan: ChunkedPlan,
    fingerprint: dict[str, Any],
    place: Node,
    journal: Journal,
    cluster: Any,
    resume: bool,
    progress: bool | Callable[[int, int], None],
) -> Report:
    """Do what is left of a plan, and say in the store that it is done; without a cluster by threads of this process."""
    begun = perf_counter()
    with _told(place):
        if cluster is not None:  # before anything is removed
            _check_reach(place, plan.sources, cluster)
        noted = take_up(journal, fingerprint, place, resume)
    if noted is None:
        journal.remove()
        return Report(plan, str(place), 0, plan.tasks, 0.0)
    here = cluster is None
    engaged = engine.here(plan.slots, plan.blas) if here else nullcontext(cluster)
    with Held(str(place)) as held, engaged as client:
        with _told(place):
            places = made(plan, place, held if here else None)
            places = {name: held.take(p) for name, p in places.items()} if here else places
            read = {name: held.take(s) if here else _on_disk(s, place) for name, s in plan.sources.items()}
        # What is in memory is gone with the run that made it, and never noted.
        finished = {tile for tile in noted if places[tile[0]].kind != "held"}
        with Notes(journal) as notes, shown(progress, plan.tasks, len(finished)) as show:

            def note(tile: Tile) -> None:
                if places[tile[0]].kind != "held":
                    notes.add(tile)
                show()

            run = Run(replace(plan, sources=read), places, client, plan.slots, finished, note)
            run.all()
    _check_inputs(plan.sources, fingerprint)
    with _told(place):
        complete(place, fingerprint)
        journal.remove()
    return Report(plan, str(place), run.done, len(finished), perf_counter() - begun)


def _check_inputs(sources: Mapping[str, Source], fingerprint: Mapping[str, Any]) -> None:
    """`BindError` where stored data were changed, or lost, while they were read."""
    for name, source in sources.items():
        if source.is_stored and source.fingerprint() != fingerprint["inputs"][name]:
            raise BindError(
                f"The data for {name}, {source.where!r}, were changed while they were read: some of the result may be "
                "made of what was there before. Begin anew with resume=False."
            )


def _check_reach(place: Node, sources: Mapping[str, Source], cluster: Any) -> None:
    """`BindError` for data, or a store, in the memory of this process, where workers do not reach them."""
    for source in sources.values():
        if source.kind == "hdf5" and source.place is None:
            raise BindError(
                f"The data for {source.name} are in a file of HDF5 that this process alone has open. Give its path."
            )
    if place.folder is not None:
        return
    marks = place.scratch / "reached"
    there = engine.on_each(cluster, _mark, marks.at)
    lost = {
        worker: f"cannot write to {str(place)!r}: {error}"
        if error
        else f"does not reach {str(place)!r}: the store is in the memory of one process"
        for worker, (name, error) in there.items()
        if error or objects.read((marks / name).at) is None
    }
    marks.remove()
    for worker, what in lost.items():
        raise BindError(f"The worker {worker} {what}. Leave client out, or give a store that every worker reaches.")


def _mark(at: Any) -> tuple[str, str]:
    """Write an object: which, and what was wrong."""
    name = uuid4().hex
    try:
        objects.write(at / name, b"reached")
    except Exception as error:  # noqa: BLE001 - a store errs in any way it likes
        return name, words(error)
    return name, ""


def _on_disk(source: Source, place: Node) -> Source:
    """A source that workers elsewhere can read: a large array in memory goes to the store of the target."""
    if source.kind != "memory" or source.nbytes < LARGE:
        return source
    chunks = list(source.shape)
    while prod(chunks) * source.dtype.itemsize > SCRATCH_CHUNK:
        axis = chunks.index(max(chunks))
        chunks[axis] = ceil(chunks[axis] / 2)
    found = array_of(place.scratch / source.name, source.name, source.shape, chunks, source.dtype)
    found.write(tuple(slice(0, size) for size in source.shape), source.array)
    return found


@operation("plan_chunked")
@using_stores()
def plan_for(
    e: Any,
    data: Mapping[Any, Any] | None,
    *,
    memory: int | str | None,
    chunks: Any,
    layout: str | None,
    sizes: Mapping[str, int],
) -> ChunkedPlan:
    """The plan of `store`, of data that are there, or of the sizes and chunks that they would have."""
    node = as_expr(e)
    if data is None:
        sources, known = declared_sources([node], sizes, chunks)
        chunks = None
    else:
        sources, known = bind_sources([node], data, sizes)
    return plan_chunked(node, sources, known, Budget.here(budget_of(memory)), Asked(layout, chunks))


class Notes:
    """What is finished, noted in a journal now and then, and at the end whatever comes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[Tile] = []
        self._written = perf_counter()

    def add(self, tile: Tile) -> None:
        self._waiting.append(tile)
        if perf_counter() - self._written > PAUSE * self._journal.times:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            self._journal.finished(self._waiting)
        self._waiting, self._written = [], perf_counter()

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with nullcontext() if kind is None else suppress(BindError):  # what has gone wrong already is to be heard of
            self._write()


def fingerprint_of(plan: ChunkedPlan, chunks: int | Sequence[int] | None) -> dict[str, Any]:
    """What has to be the same for a run to be taken up."""
    return {
        "version": FORMAT,
        "expression": plan.expression.digest,
        "dtype": str(plan.dtype),
        "layout": plan.layout,
        "chunks": chunks if chunks is None or isinstance(chunks, int) else list(chunks),
        "tiling": tiling_of(plan),
        "inputs": {name: source.fingerprint() for name, source in sorted(plan.sources.items())},
    }


def tiling_of(plan: ChunkedPlan) -> list[list[int]]:
    """Each label with the length of its tiles, and its size."""
    return sorted([label, plan.tiling.lengths[label], size] for label, size in plan.tiling.sizes.items())


def take_up(journal: Journal, fingerprint: dict[str, Any], place: Node, resume: bool) -> set[tuple[Any, ...]] | None:
    """The tiles that are finished already; None where all are. `BindError` where what is there is something else."""
    before, finished = journal.begun()
    held = place.attributes()
    if place.is_there and before is None and held is None and not place.is_empty:
        journal.remove()
        raise BindError(
            f"{str(place)!r} exists, and this library has not written it. Choose another name, or remove it."
        )
    torn = before is None and journal.is_begun  # before anything was finished
    if resume and before is None and held is not None and not (torn and not held.get("complete")):
        journal.remove()
        if not held.get("complete"):
            raise BindError(
                f"{str(place)!r} is not complete, and its journal is lost. Begin anew with resume=False, or choose "
                "another name."
            )
        unlike = differences(held["run"], fingerprint)
        if set(unlike) <= {"tiling"}:  # the value is there, whatever the tiles were that it was made by
            return None
        raise BindError(
            f"{str(place)!r} holds the result of another run: {', '.join(unlike)} differ. Choose another name, or "
            "begin anew with resume=False."
        )
    if resume and before is not None:
        unlike = differences(before, fingerprint)
        if unlike:
            raise BindError(
                f"{str(place)!r} was begun by another run: {', '.join(unlike)} differ. Choose another name, or begin "
                "anew with resume=False."
            )
        if finished and place.is_there:
            journal.mend()
            return finished
    journal.begin(fingerprint)  # before anything is removed, so that nothing that was finished counts any more
    place.remove()
    place.scratch.remove()
    return set()


def complete(place: Node, fingerprint: dict[str, Any]) -> None:
    """Say in the store that all of it is there, and remove what only the run needed, and what was left half written."""
    place.clean()
    found = place.opened("r+")
    found.attrs["tensordsl"] = {**dict(found.attrs)["tensordsl"], "complete": True, "run": fingerprint}


# --- where things lie ---------------------------------------------------------------------------------------------


def made(plan: ChunkedPlan, place: Node, held: Held | None) -> dict[str, Source]:
    """The target, and where each stage is stored: in it, in memory where it is small, or in scratch."""
    import zarr

    stored: dict[str, Node] = {}
    places: dict[str, Source] = {}
    if plan.layout == "structured":
        stored = {stage: place / name for stage, name in plan.cores.items()}
        if place.opened("r") is None:
            zarr.create_group(place.at, attributes={"tensordsl": about(plan)})
        for name, listed in positions(plan).values():
            array_of(place / name, name, listed.shape, listed.shape, "int64").write((slice(None),), listed)
    else:
        places["result"] = array_of(place, "result", plan.shape, plan.chunks, plan.dtype, about(plan), "auto")
    return places | places_of(plan, place.scratch, held, int(HELD_SHARE * plan.memory), stored=stored)


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
        lists = positions(plan)
        found["terms"] = [described(term, plan, lists) for term in plan.terms]
    return found


def positions(plan: ChunkedPlan) -> dict[Select, tuple[str, Any]]:
    """The lists of places that entries go to, each once, with the name that its array has in a store."""
    found: dict[Select, tuple[str, Any]] = {}
    for select in (select for term in plan.terms for select, _ in term.scatter.values()):
        taken = select.positions
        if taken is not None and select not in found:
            listed = getattr(routines, taken.name)(taken.size) if isinstance(taken, Pattern) else taken
            found[select] = (f"P{len(found)}", np.asarray(listed, np.int64))
    return found


def described(term: Term, plan: ChunkedPlan, lists: Mapping[Select, tuple[str, Any]]) -> dict[str, Any]:
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
    coefficient = plain(layout.coefficient)
    number = [coefficient.real, coefficient.imag] if isinstance(coefficient, complex) else coefficient
    scatter = {}
    for column, (select, row) in term.scatter.items():
        way: dict[str, Any] = {"row": None if row is None else name(row)}
        if select in lists:
            way["positions"] = lists[select][0]
        else:
            way |= {"start": int(select.start), "step": select.step}  # type: ignore[arg-type]
        scatter[name(column)] = way
    return {
        "coefficient": number,
        "cores": cores,
        "output": output,
        "scatter": scatter,
        "sizes": {text: plan.tiling.sizes[label] for label, text in names.items()},
    }
