"""A long run of the random cases: `python tests/fuzz.py --cases 5000 --seed 1`. Exit code 1 where anything differs."""

from __future__ import annotations

import argparse
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from strategies import DIMS, Case, central_differences, close, complex_step, random_case

import tensordsl as td


def differences(case: Case) -> Iterator[str]:
    """What tensordsl and the oracle do not agree on: values, first and second derivatives, in every output."""
    data = case.data
    given = {name: value.copy() for name, value in data.items()}
    with np.errstate(all="ignore"):
        wanted = np.asarray(case.oracle(data))
        if not np.all(np.isfinite(wanted)) or np.max(np.abs(wanted), initial=0) > 1e6:
            return
        expression = case.expression()
        if not close(expression.evaluate(data, **DIMS), wanted):
            yield "value"
        if not close(run_source(expression, data), wanted):
            yield "to_python"
        rng = np.random.default_rng(case.seed + 2)
        for name, symbol in case.variables.items():
            jacobian = complex_step(case.oracle, data, name)
            if not np.all(np.isfinite(jacobian)) or np.max(np.abs(jacobian), initial=0) > 1e7:
                continue
            v, w = rng.normal(size=data[name].shape), rng.normal(size=wanted.shape)
            found = td.jacobian(expression, symbol)
            if not close(found.evaluate(data, **DIMS), jacobian):
                yield f"jacobian by {name}"
            if found.ndim and not close(dense_of(td.compile(found, output="sparse")(data, **DIMS)), jacobian):
                yield f"sparse jacobian by {name}"
            direction, adjoint = td.tensor("v_", *symbol.shape), td.tensor("w_", *expression.shape)
            found = td.jvp(expression, symbol, direction).evaluate({**data, "v_": v}, **DIMS)
            if not close(found, np.tensordot(jacobian, v, v.ndim)):
                yield f"jvp by {name}"
            found = td.vjp(expression, symbol, adjoint).evaluate({**data, "w_": w}, **DIMS)
            if not close(found, np.tensordot(w, jacobian, w.ndim)):
                yield f"vjp by {name}"
            matrix = jacobian.transpose(*range(wanted.ndim)[::-1], *range(wanted.ndim, jacobian.ndim)[::-1])
            operator = td.compile(td.jacobian_matrix(expression, symbol), output="operator")(data, **DIMS)
            if not close(operator @ v.T.reshape(-1), matrix.reshape(wanted.size, v.size) @ v.T.reshape(-1)):
                yield f"operator of the jacobian by {name}"
            if v.size**2 * wanted.size <= 200:
                total = td.sum(expression * adjoint)
                hessian = td.hessian(total, symbol).evaluate({**data, "w_": w}, **DIMS)

                def gradient(values: dict[str, Any], name: str = name, w: Any = w) -> Any:
                    return np.tensordot(w, complex_step(case.oracle, values, name), w.ndim)

                rough, fine = (central_differences(gradient, data, name, h) for h in (1e-3, 3e-4))
                if close(rough, fine, 1e-6) and not close(hessian, fine, 1e-5):
                    yield f"hessian by {name}"
        if any(not np.array_equal(data[name], given[name]) for name in data):
            yield "inputs: they were modified"


def run_source(expression: Any, data: dict[str, Any]) -> Any:
    """The value by `to_python`, in a namespace that holds nothing."""
    space: dict[str, Any] = {}
    exec(expression.to_python(), space)
    wanted = inspect.signature(space["f"]).parameters
    return space["f"](**{name: value for name, value in {**DIMS, **data}.items() if name in wanted})


def dense_of(array: Any) -> Any:
    """A `coo_array` as a dense one, entries that fall together added."""
    found = np.zeros(array.shape, array.dtype)
    np.add.at(found, array.coords, array.data)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--stop", type=int, default=20, help="stop after so many mismatches")
    options = parser.parse_args()
    mismatches = done = 0
    for number in range(options.cases):
        case = random_case(1_000_003 * options.seed + number, options.depth)
        try:
            found = list(differences(case))
        except Exception:  # noqa: BLE001 - whatever goes wrong is a mismatch, and shown
            found = [traceback.format_exc(limit=-3)]
        done += 1
        if found:
            mismatches += 1
            print(f"case {number} (seed {1_000_003 * options.seed + number}){case!r}  differs in {'; '.join(found)}\n")
            if mismatches >= options.stop:
                break
    print(f"{done} cases, {mismatches} mismatches")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
