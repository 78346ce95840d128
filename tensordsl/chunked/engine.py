"""The engine: dask's `distributed` does the tasks, a few for each slot at a time, and forgets each that is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from itertools import islice
from queue import Empty, Queue
from threading import Thread
from time import monotonic, sleep
from typing import Any, TypeVar

from tensordsl.errors import BindError, TensorDSLError, words

T = TypeVar("T")

WINDOW = 3  # tasks for each slot that are handed out at a time, so that none waits for the next
CONNECT = 20.0  # seconds for a cluster to answer
STUCK = 600.0  # seconds at the least in which no task ends, after which nothing is waited for any more
ENDING = 30.0  # seconds that tasks which cannot be cancelled are waited for, so that none writes later
ASK = 2.0  # seconds after which it is asked anew which workers there are
RETRIES = 3  # of a task that fails with something that another try may mend

# The memory of a worker is what tasks are planned for: nothing is to be moved to disk behind them.
OWN = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause", "terminate")}


@contextmanager
def here(slots: int, blas: int) -> Iterator[Any]:
    """A client of a cluster whose workers are threads of this process, each with some threads of BLAS."""
    import dask
    from distributed import Client, LocalCluster
    from threadpoolctl import threadpool_limits

    with (
        dask.config.set(OWN),
        threadpool_limits(blas, user_api="blas"),
        LocalCluster(
            n_workers=1,
            threads_per_worker=slots,
            processes=False,
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as found,
    ):
        yield found


@contextmanager
def reached(client: Any) -> Iterator[Any]:
    """A client of `distributed`, or one of the scheduler at an address; of workers that can run this library."""
    from distributed import Client

    if isinstance(client, str):
        try:
            found = Client(client, timeout=CONNECT)
        except (OSError, ValueError) as error:
            raise BindError(
                f"No scheduler answers at {client!r} within {CONNECT:g} s: {words(error)}. Check the address, or "
                "leave client out to work in this process."
            ) from None
        with found:
            _check_versions(found)
            yield found
    else:
        _check_versions(client)
        yield client


def slots_of(client: Any) -> tuple[int, int]:
    """How many tasks a cluster does side by side, and how many one of its workers does at the most."""
    threads = list(client.nthreads().values())
    if not threads:
        raise BindError("The cluster has no workers. Start some, or leave client out to work in this process.")
    return sum(threads), max(threads)


class Workers:
    """How many tasks each worker has been given, so that none waits while another has several in its queue.

    The scheduler of `distributed` would give three tasks of four to one of two workers, before it knows how long they
    take. Those of a worker that is lost go to others by themselves.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._given: Counter[str] = Counter()
        self._threads: dict[str, int] = {}
        self._asked = float("-inf")

    def take(self) -> str | None:
        """The worker that has the fewest tasks for each of its threads, with one more from now on."""
        if monotonic() - self._asked > ASK:
            with suppress(Exception):  # of a scheduler that does not answer: the tasks themselves will show it
                self._threads = _within(CONNECT, self._client.nthreads)
            self._asked = monotonic()
        worker = min(self._threads, key=lambda name: (self._given[name] + 1) / self._threads[name], default=None)
        if worker is not None:
            self._given[worker] += 1
        return worker

    def give(self, worker: str | None) -> None:
        """A task that was given to a worker has ended."""
        if worker is not None:
            self._given[worker] -= 1


def run(
    client: Any,
    function: Callable[..., Any],
    job: Any,
    calls: Iterator[Any],
    slots: int,
    done: Callable[[Any, Any], None],
    patience: float,
) -> None:
    """Call `function(job, *call)` for all calls, and `done(call, result)` for each as it ends.

    A call is handed out when another one is done, and its result is forgotten then: neither the calls nor the results
    are ever all there, and a worker that is lost takes with it no more than what it was doing. Where no call ends
    within `patience`, in seconds, that is an error.
    """
    calls = iter(calls)
    shared: Any = None
    ended: Queue[Any] = Queue()
    given: dict[Any, Any] = {}
    workers = Workers(client)

    def submit(call: Any) -> None:
        nonlocal shared
        if shared is None:
            shared = client.submit(_same, job, pure=False)  # unlike scattered data, it is there again after any loss
        worker = workers.take()
        preferred = {} if worker is None else {"workers": worker, "allow_other_workers": True}
        future = client.submit(function, shared, *call, pure=False, retries=RETRIES, **preferred)
        given[future] = call, worker
        future.add_done_callback(ended.put)

    try:
        for call in islice(calls, WINDOW * slots):
            submit(call)
        while given:
            try:
                future = ended.get(timeout=patience)
                result = _result(future, patience)
            except (Empty, TimeoutError):
                raise BindError(
                    f"No task has ended in {patience:.0f} s: a worker is stuck, or lost. What was finished is kept: "
                    "mend the cluster and run again with resume."
                ) from None
            call, worker = given.pop(future)
            workers.give(worker)
            done(call, result)
            future.release()
            following = next(calls, None)
            if following is not None:
                submit(following)
    finally:
        if given:
            _stop(client, list(given))


def _same(job: Any) -> Any:
    return job


def _stop(client: Any, futures: Sequence[Any]) -> None:
    """Cancel what is left, and wait for what is running: it would go on to write."""
    limit = monotonic() + ENDING
    with suppress(Exception):  # a cluster that is lost runs nothing more
        _within(CONNECT, partial(client.cancel, futures, force=True))
        while any(_within(CONNECT, client.processing).values()) and monotonic() < limit:
            sleep(0.02)


def _result(future: Any, patience: float) -> Any:
    """What a task gives. That it has ended does not mean that its worker hands it over."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result(timeout=patience)
    except (TensorDSLError, TimeoutError):
        raise
    except KilledWorker as error:
        raise BindError(
            f"A task has lost its worker several times, most likely for memory: {words(error)}. What was finished is "
            "kept: give the workers more memory, or the plan less, and run again with resume."
        ) from None
    except MemoryError as error:
        raise BindError(
            f"A task has run out of memory: {words(error)}. What was finished is kept: give memory= less than the "
            "workers have, and run again with resume."
        ) from None
    except (CancelledError, OSError) as error:
        raise BindError(
            f"The cluster is lost: {words(error)}. What was finished is kept: run again with resume."
        ) from None


def _within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives; `TimeoutError` where it takes longer, as where a worker does not answer."""
    found: Queue[Any] = Queue()

    def work() -> None:
        try:
            found.put((function(*arguments), None))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            found.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        value, error = found.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value


def on_each(client: Any, function: Callable[..., T], *arguments: Any) -> dict[str, T]:
    """What a function gives on each worker; `BindError` where one does not answer, or fails."""
    limit = monotonic() + CONNECT
    while True:
        try:
            found: dict[str, T] = _within(CONNECT, client.run, function, *arguments)
            return found
        except OSError as error:  # a worker that is lost, which another one takes the place of
            if monotonic() > limit:
                raise BindError(f"A worker of the cluster does not answer: {words(error)}. Mend the cluster.") from None
            sleep(0.1)
        except Exception as error:  # noqa: BLE001 - whatever keeps the library from being imported there
            what = f"A worker of the cluster cannot run this library: {words(error)}"
            raise BindError(f"{what}. Install it there.") from None


def _check_versions(client: Any) -> None:
    """`BindError` where a worker has another version of the library, or none."""
    found = on_each(client, _versions)
    here = _versions()
    unlike = {
        f"{name} {there[name]} at {address}"
        for address, there in found.items()
        for name in here
        if there[name] != here[name]
    }
    if unlike:
        ours = ", ".join(f"{name} {number}" for name, number in here.items())
        raise BindError(f"The cluster has {'; '.join(sorted(unlike))}; here are {ours}. Install the same versions.")


def _versions() -> dict[str, str]:
    """Of what has to be the same for tasks to be understood, and to give the same bits."""
    return {name: version(name) for name in ("tensordsl", "numpy", "dask", "zarr")}
