"""What chunked runs cost beside dask's own way and beside loops by hand, in one run, each checked before it is timed.

    python tests/benchmarks/chunked.py                          every row, in a folder that is removed
    python tests/benchmarks/chunked.py --rows flagship matmul   rows whose names begin so
    python tests/benchmarks/chunked.py --quick                  small sizes, to see that it works

Each contender is a process of its own, which imports what any of them needs and then tells its time, by how much its
resident size grew at the peak, and how many tasks it had. Ratios count: seconds are those of one machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
PEAKS: list[int] = []  # KiB resident at the peak of this process, before results are read back
MOVED: list[float] = []  # what the plan of this process reads and writes, in times of the least


def tasks_of(plan: Any) -> int:
    """The tasks of a plan, what it moves noted."""
    MOVED.append(plan.bytes_moved / max(1, plan.bound_bytes))
    return int(plan.tasks)


def sum_of_part(folder: Path, name: str, *part: Any) -> float:
    """What a result is known by; the peak is noted before it is read back."""
    import zarr

    PEAKS.append(peak_memory())
    return float(np.abs(zarr.open_array(str(folder / name), mode="r")[part]).sum())


CORNER = slice(0, 64), slice(0, 64)  # of a matrix

# --- the rows: for each a maker of data, and contenders ------------------------------------------------------------


def matrices(folder: Path, size: int, chunk: int, names: str = "AB") -> None:
    import zarr

    rng = np.random.default_rng(1)
    for name in names:
        stored = zarr.create_array(
            str(folder / f"{name}.zarr"), shape=(size, size), chunks=(chunk, chunk), dtype="f8", compressors=None
        )
        for start in range(0, size, chunk):
            stored[start : start + chunk] = rng.normal(size=(min(chunk, size - start), size)) / np.sqrt(size)
    np.save(folder / "x.npy", rng.normal(size=size))


def flagship(size: int) -> Any:
    import tensordsl as td

    k = td.dim("k")
    A, x = td.matrix("A", k, k), td.vector("x", k)
    return td.jacobian(A * td.outer(x, x), x)


def opened(folder: Path, *names: str) -> list[Any]:
    import zarr

    return [zarr.open_array(str(folder / f"{name}.zarr"), mode="r") for name in names]


def as_dask(folder: Path, *names: str) -> list[Any]:
    import dask.array as da

    return [da.from_zarr(str(folder / f"{name}.zarr")) for name in names]


def store_flagship(folder: Path, size: int, chunk: int, **options: Any) -> tuple[Any, int]:
    import tensordsl as td

    data = {"A": folder / "A.zarr", "x": folder / "x.npy"}
    report = td.store(flagship(size), data, folder / "ours.zarr", memory="2GiB", resume=False, **options)
    return None, tasks_of(report.plan)


def structured_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    return store_flagship(folder, size, chunk)


def dense_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    return store_flagship(folder, size, chunk, layout="dense", chunks=chunk)


def dense_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import zarr

    (a,), x = opened(folder, "A"), np.load(folder / "x.npy")
    out = zarr.create_array(str(folder / "hand.zarr"), shape=(size,) * 3, chunks=(chunk,) * 3, dtype="f8", fill_value=0)
    starts = range(0, size, chunk)
    count = 0
    for i in starts:
        for j in starts:
            rows, columns = slice(i, i + chunk), slice(j, j + chunk)
            part = a[rows, columns]
            for k in dict.fromkeys((i, j)):
                block = np.zeros((*part.shape, min(chunk, size - k)))
                if k == i:
                    np.einsum("iji->ij", block)[...] += part * x[columns]
                if k == j:
                    np.einsum("ijj->ij", block)[...] += part * x[rows, None]
                out[rows, columns, k : k + chunk] = block
                count += 1
    return None, count


def dense_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    (a,), x = as_dask(folder, "A"), da.from_array(np.load(folder / "x.npy"), chunks=chunk)
    a = a.rechunk(chunk)
    eye = da.eye(size, chunks=chunk)
    value = da.einsum("ij,j,ik->ijk", a, x, eye) + da.einsum("ij,i,jk->ijk", a, x, eye)
    value = value.rechunk((chunk,) * 3)
    value.to_zarr(str(folder / "dask.zarr"), compute=True)
    return None, len(value.__dask_graph__())


def norm_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import tensordsl as td

    J = flagship(size)
    data = {"A": folder / "A.zarr", "x": folder / "x.npy"}
    return np.sqrt(td.frobenius(J, J).evaluate(data, memory="2GiB")), 1


def norm_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    (a,), x = opened(folder, "A"), np.load(folder / "x.npy")
    a = a[...]
    total = (a**2 @ x**2).sum() + (x**2 @ a**2).sum() + 2 * (np.diag(a) ** 2 * x**2).sum()
    return np.sqrt(total), 1


def norm_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    (a,), x = as_dask(folder, "A"), da.from_array(np.load(folder / "x.npy"), chunks=chunk)
    a = a.rechunk(chunk)
    eye = da.eye(size, chunks=chunk)
    value = da.einsum("ij,j,ik->ijk", a, x, eye) + da.einsum("ij,i,jk->ijk", a, x, eye)
    found = da.sqrt((value**2).sum())
    return float(found.compute()), len(found.__dask_graph__())


def sum_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import tensordsl as td

    found = td.sum(flagship(size), axis=2).evaluate({"A": folder / "A.zarr", "x": folder / "x.npy"}, memory="2GiB")
    return float(found.sum()), 1


def sum_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    (a,), x = opened(folder, "A"), np.load(folder / "x.npy")
    return float((a[...] * (x + x[:, None])).sum()), 1


def sum_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    (a,), x = as_dask(folder, "A"), da.from_array(np.load(folder / "x.npy"), chunks=chunk)
    a = a.rechunk(chunk)
    eye = da.eye(size, chunks=chunk)
    value = da.einsum("ij,j,ik->ijk", a, x, eye) + da.einsum("ij,i,jk->ijk", a, x, eye)
    found = value.sum(axis=2).sum()
    return float(found.compute()), len(found.__dask_graph__())


def start(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    """A cluster of threads that does one task of no work: what any run in this process begins with."""
    from tensordsl.chunked import engine, memory

    memory.one_arena()
    with engine.here(2, 1) as client:
        return None, client.submit(int, 1).result()


def products(folder: Path, build: Callable[[Any, Any], Any], memory: str) -> tuple[Any, int]:
    import tensordsl as td

    k = td.dim("k")
    A, B = td.matrix("A", k, k), td.matrix("B", k, k)
    data = {"A": folder / "A.zarr", "B": folder / "B.zarr"}
    e = build(A, B)
    data = {symbol.name: data[symbol.name] for symbol in e.symbols}
    report = td.store(e, data, folder / "ours.zarr", memory=memory, resume=False)
    return sum_of_part(folder, "ours.zarr", *CORNER), tasks_of(report.plan)


def matmul_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    return products(folder, lambda A, B: A @ B, "2GiB")


def matmul_by_hand(folder: Path, size: int, chunk: int, tile: int = 4000) -> tuple[Any, int]:
    import zarr

    a, b = opened(folder, "A", "B")
    out = zarr.create_array(
        str(folder / "hand.zarr"), shape=(size, size), chunks=(chunk, chunk), dtype="f8", compressors=None
    )
    tile = min(tile, size)
    for i in range(0, size, tile):
        for j in range(0, size, tile):
            total = np.zeros((min(tile, size - i), min(tile, size - j)))
            for k in range(0, size, tile):
                total += a[i : i + tile, k : k + tile] @ b[k : k + tile, j : j + tile]
            out[i : i + tile, j : j + tile] = total
    return sum_of_part(folder, "hand.zarr", *CORNER), (size // tile) ** 2


def matmul_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    a, b = as_dask(folder, "A", "B")
    value = a @ b
    value.to_zarr(str(folder / "dask.zarr"))
    return sum_of_part(folder, "dask.zarr", *CORNER), len(value.__dask_graph__())


def three_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    return products(folder, lambda A, B: A @ B @ A, "512MB")


def twice_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    return products(folder, lambda A, B: A @ B @ A, "40MB")


def three_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    a, b = as_dask(folder, "A", "B")
    value = da.einsum("ij,jk,kl->il", a, b, a)
    value.to_zarr(str(folder / "dask.zarr"))
    return sum_of_part(folder, "dask.zarr", *CORNER), len(value.__dask_graph__())


def twice_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    a, b = as_dask(folder, "A", "B")
    value = (a @ b) @ a
    value.to_zarr(str(folder / "dask.zarr"))
    return sum_of_part(folder, "dask.zarr", *CORNER), len(value.__dask_graph__())


def three_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    a, b = (found[...] for found in opened(folder, "A", "B"))
    return float(np.abs((a[:64] @ b @ a)[:, :64]).sum()), 1


# --- tensors ------------------------------------------------------------------------------------------------------


def tensors(folder: Path, **arrays: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Arrays of zarr of the shapes and chunks given, written chunk by chunk along the first axis."""
    import zarr

    rng = np.random.default_rng(2)
    for name, (shape, chunks) in arrays.items():
        place = str(folder / f"{name}.zarr")
        stored = zarr.create_array(place, shape=shape, chunks=chunks, dtype="f8", compressors=None)
        for start in range(0, shape[0], chunks[0]):
            stop = min(start + chunks[0], shape[0])
            stored[start:stop] = rng.normal(size=(stop - start, *shape[1:]))


def forget_files() -> None:
    """Files are read from the disk again, where that can be asked for."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        print("  (files may be read from memory: only root can have them forgotten)", file=sys.stderr)


def einsum(text: str, folder: Path, *names: str) -> tuple[Any, dict[str, Path]]:
    import tensordsl as td

    stored = opened(folder, *names)
    return td.einsum(text, *(td.tensor(n, *a.shape) for n, a in zip(names, stored, strict=True))), {
        name: folder / f"{name}.zarr" for name in names
    }


RANK = 16


def mttkrp_data(folder: Path, size: int, chunk: int) -> None:
    tensors(folder, T=((size,) * 3, (chunk,) * 3), B=((size, RANK), (size, RANK)), C=((size, RANK), (size, RANK)))


def mttkrp_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int, float]:
    forget_files()
    begun = time.perf_counter()
    e, data = einsum("ijk,jr,kr->ir", folder, "T", "B", "C")
    found = e.evaluate(data, memory="2GiB")
    return float(np.abs(found).sum()), 1, time.perf_counter() - begun


def mttkrp_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int, float]:
    """A loop over the chunks, which reads each and multiplies it: its time is mostly that of the disk."""
    forget_files()
    begun = time.perf_counter()
    tensor, *factors = opened(folder, "T", "B", "C")
    b, c = (factor[...] for factor in factors)
    found = np.zeros((size, RANK))
    starts = range(0, size, chunk)
    for i in starts:
        for j in starts:
            for k in starts:
                part = tensor[i : i + chunk, j : j + chunk, k : k + chunk]
                found[i : i + chunk] += np.einsum("ijr,jr->ir", part @ c[k : k + chunk], b[j : j + chunk])
    return float(np.abs(found).sum()), len(starts) ** 3, time.perf_counter() - begun


def mttkrp_disk(folder: Path, size: int, chunk: int) -> tuple[Any, int, float]:
    """The files of the tensor, read one after the other, and nothing done with them: the rate of the disk."""
    forget_files()
    begun = time.perf_counter()
    buffer = bytearray(chunk**3 * 8 + (1 << 20))
    files = [file for file in (folder / "T.zarr").rglob("*") if file.is_file() and file.name != "zarr.json"]
    for name in files:
        with open(name, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return None, len(files), time.perf_counter() - begun


def six_data(folder: Path, size: int, chunk: int) -> None:
    shape, chunks = (size, size, *(4,) * 6), (size, size, *(chunk,) * 6)
    tensors(folder, X=(shape, chunks), Y=(shape, chunks))


SIX = "ijabcdef,klabcdef->ijkl"


def six_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import tensordsl as td

    e, data = einsum(SIX, folder, "X", "Y")
    report = td.store(e, data, folder / "ours.zarr", memory="40MB", resume=False)
    return sum_of_part(folder, "ours.zarr", 0, 0), tasks_of(report.plan)


def six_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import zarr

    first, second = (found[...].reshape(size**2, -1) for found in opened(folder, "X", "Y"))
    zarr.create_array(str(folder / "hand.zarr"), data=(first @ second.T).reshape((size,) * 4), chunks=(size,) * 4)
    return sum_of_part(folder, "hand.zarr", 0, 0), 1


def six_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    value = da.einsum(SIX, *as_dask(folder, "X", "Y"))
    value.to_zarr(str(folder / "dask.zarr"))
    return sum_of_part(folder, "dask.zarr", 0, 0), len(value.__dask_graph__())


def eight_data(folder: Path, size: int, chunk: int) -> None:
    shape, chunks = (64 * size, *(size,) * 4), (64 * size, size, size, chunk, chunk)
    tensors(folder, X=(shape, chunks), Y=(shape, chunks))


EIGHT = "aijkl,amnop->ijklmnop"


def eight_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import tensordsl as td

    e, data = einsum(EIGHT, folder, "X", "Y")
    report = td.store(e, data, folder / "ours.zarr", memory="1GB", resume=False)
    return sum_of_part(folder, "ours.zarr", 0, 0), tasks_of(report.plan)


def eight_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import zarr

    first, second = (found[...].reshape(64 * size, -1) for found in opened(folder, "X", "Y"))
    out = zarr.create_array(
        str(folder / "hand.zarr"), shape=(size,) * 8, chunks=(1, 1, *(size,) * 6), dtype="f8", compressors=None
    )
    rows = size**3
    for i in range(size):
        out[i] = (first[:, i * rows : (i + 1) * rows].T @ second).reshape((size,) * 7)
    return sum_of_part(folder, "hand.zarr", 0, 0), size


def eight_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    value = da.einsum(EIGHT, *as_dask(folder, "X", "Y"))
    value.to_zarr(str(folder / "dask.zarr"))
    return sum_of_part(folder, "dask.zarr", 0, 0), len(value.__dask_graph__())


def no_data(folder: Path, size: int, chunk: int) -> None:
    """For what is planned alone."""


def outer_ours(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import tensordsl as td

    i, j = td.dims("i j")
    plan = td.plan(td.outer(td.vector("u", i), td.vector("v", j)), chunks=chunk, memory="2GiB", i=size, j=size)
    return None, tasks_of(plan)


def outer_by_hand(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    return None, (-(-size // 4000)) ** 2  # blocks of 128 MB


def outer_dask(folder: Path, size: int, chunk: int) -> tuple[Any, int]:
    import dask.array as da

    u = da.ones(size, chunks=chunk)
    return None, da.einsum("i,j->ij", u, u).npartitions


def row(
    sizes: tuple[int, int], quick: tuple[int, int], ours: Any, by_hand: Any, dask: Any = None, data: Any = matrices,
    **more: Any,
) -> Row:  # fmt: skip
    contenders = {"ours": ours, "by hand": by_hand} | ({} if dask is None else {"dask": dask})
    return {"sizes": sizes, "quick": quick, "data": data, **contenders, **more}


ROWS: dict[str, Row] = {
    "flagship-structured": row((1500, 250), (120, 40), structured_ours, dense_by_hand),
    "flagship-dense": row((1500, 250), (120, 40), dense_ours, dense_by_hand, dense_dask),
    "flagship-sum": row((1500, 250), (120, 40), sum_ours, sum_by_hand, sum_dask, start=start),
    "flagship-norm": row((1500, 250), (120, 40), norm_ours, norm_by_hand, norm_dask, start=start),
    "small-blocks": row((512, 64), (128, 32), dense_ours, dense_by_hand, dense_dask),
    "matmul": row((12_000, 1000), (400, 100), matmul_ours, matmul_by_hand, matmul_dask),
    "three-matrices": row((8_000, 500), (400, 100), three_ours, three_by_hand, three_dask),
    "product-twice": row((2_048, 128), (400, 100), twice_ours, three_by_hand, twice_dask, start=start),
    "six-axes": row((32, 2), (6, 2), six_ours, six_by_hand, six_dask, six_data, start=start),
    "outer": row((100_000, 10_000), (1_000, 100), outer_ours, outer_by_hand, outer_dask, no_data),
    "mttkrp": row((1_260, 210), (40, 10), mttkrp_ours, mttkrp_by_hand, None, mttkrp_data, disk=mttkrp_disk),
    "eight-axes": row((16, 8), (4, 2), eight_ours, eight_by_hand, eight_dask, eight_data),
}
CONTENDERS = ("by hand", "ours", "start", "dask", "disk")


def peak_memory() -> int:
    """KiB resident at the peak. Of this process alone: `getrusage` begins with what its parent had."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])


def measure(name: str, contender: str, folder: Path, size: int, chunk: int) -> dict[str, Any]:
    """One contender, in this process."""
    for package in ("dask.array", "distributed", "scipy.optimize", "scipy.sparse", "tensordsl.chunked.storing", "zarr"):
        import_module(package)
    before = peak_memory()
    begun = time.perf_counter()
    value, tasks, *own = ROWS[name][contender](folder, size, chunk)
    seconds = own[0] if own else time.perf_counter() - begun
    peak = min([*PEAKS, peak_memory()]) - before
    return {"seconds": seconds, "peak": peak / 1024, "tasks": tasks, "value": value, "moved": max(MOVED, default=None)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[""])
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="the most that a contender may take")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, contender, folder, size, chunk = given.one
        print(json.dumps(measure(name, contender, Path(folder), int(size), int(chunk))))
        return
    results = []
    for name, about in ROWS.items():
        if not any(name.startswith(prefix) for prefix in given.rows):
            continue
        size, chunk = about["quick" if given.quick else "sizes"]
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            about["data"](folder, size, chunk)
            print(f"\n{name}: {size}, chunks of {chunk}")
            found: dict[str, list[dict[str, Any]]] = {}
            contenders = [c for c in CONTENDERS if c in about and c in given.contenders]
            for _ in range(1 if given.quick else given.rounds):
                for contender in contenders:
                    command = [sys.executable, __file__, "--one", name, contender, str(folder), str(size), str(chunk)]
                    try:
                        limit = given.seconds
                        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
                        if done.returncode:
                            raise ValueError(done.stderr.strip().splitlines()[-1][:100])
                        found.setdefault(contender, []).append(json.loads(done.stdout))
                    except (subprocess.TimeoutExpired, ValueError) as error:
                        reason = (
                            f"more than {given.seconds:g} s" if isinstance(error, subprocess.TimeoutExpired) else error
                        )
                        print(f"  {contender:8s} {reason}")
                    for result in ("ours.zarr", "hand.zarr", "dask.zarr"):
                        shutil.rmtree(folder / result, ignore_errors=True)
            values = [runs[0]["value"] for runs in found.values() if runs[0]["value"] is not None]
            assert not values or np.allclose(values, values[0], rtol=1e-6), (name, values)
            hand = np.median([run["seconds"] for run in found.get("by hand", found.get("ours", []))])
            for contender, runs in found.items():
                seconds = float(np.median([run["seconds"] for run in runs]))
                peak, tasks = max(run["peak"] for run in runs), runs[0]["tasks"]
                words = f"{seconds:8.2f} s  {seconds / hand:6.2f} x by hand  {peak:7.0f} MiB  {tasks:7,} tasks"
                moved = runs[0]["moved"]
                print(f"  {contender:8s} {words}{'' if moved is None else f'  {moved:.2f} x the least moved'}")
                about_it = {"row": name, "contender": contender, "seconds": seconds, "peak": peak, "tasks": tasks}
                results.append({**about_it, "moved": moved})
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
