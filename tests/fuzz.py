"""A long run of the random cases: `python tests/fuzz.py --cases 5000 --seed 1`. Exit code 1 where anything differs.

Values, derivatives up to the third order, their products with vectors, texts and simplified forms are compared with
complex steps and central differences, or with JAX (`--oracle jax`). `--seed fresh` draws a seed, and prints it.
"""

from __future__ import annotations

import argparse
import inspect
import secrets
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from strategies import DIMS, Case, central_differences, close, complex_step, random_case

import tensordsl as td

MOST_SECOND = 200  # entries of the value times those of x, squared: what a second derivative is compared for
MOST_THIRD = 5  # entries of x for a third one
FASTEST_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Truth(NamedTuple):
    """Derivatives by one symbol; None where the oracle is not sure of them, with how closely ours have to agree."""

    jacobian: np.ndarray
    hessian: np.ndarray | None  # of the sum of w * F
    third: np.ndarray | None  # its derivative along v, twice
    tolerance: float


def by_complex_steps(case: Case, name: str, w: np.ndarray, v: np.ndarray) -> Truth:
    """First derivatives to the last digit; above them central differences, where two steps give the same."""
    data = case.data

    def gradient(values: dict[str, Any]) -> Any:
        return np.tensordot(w, complex_step(case.oracle, values, name), w.ndim)

    jacobian = complex_step(case.oracle, data, name)
    hessian = third = None
    if v.size**2 * w.size <= MOST_SECOND:
        rough, fine = (central_differences(gradient, data, name, h) for h in (1e-3, 3e-4))
        hessian = fine if close(rough, fine, 1e-6) else None
    if hessian is not None and v.size <= MOST_THIRD:
        rough, fine = (
            second_difference(lambda t: gradient({**data, name: data[name] + t * v}), h) for h in (8e-3, 4e-3)
        )
        third = fine if close(rough, fine, 1e-6) else None
    return Truth(jacobian, hessian, third, 1e-5)


def second_difference(function: Any, h: float) -> Any:
    """The second derivative at 0, by five points."""
    far, near = function(2 * h) + function(-2 * h), function(h) + function(-h)
    return (16 * near - far - 30 * function(0.0)) / (12 * h * h)


def by_jax(case: Case, name: str, w: np.ndarray, v: np.ndarray) -> Truth:
    """All orders by JAX."""
    import jax

    def value(x: Any) -> Any:
        return jax.numpy.asarray(case.oracle({**case.data, name: x}, jax.numpy), float)

    def gradient(x: Any) -> Any:
        return jax.grad(lambda x: (w * value(x)).sum())(x)

    def along(x: Any, order: int) -> Any:
        return gradient(x) if order == 0 else jax.jvp(lambda x: along(x, order - 1), (x,), (v,))[1]

    def every(x: Any) -> Any:
        second = v.size**2 * w.size <= MOST_SECOND
        hessian = jax.jacfwd(gradient)(x) if second else None
        return jax.jacfwd(value)(x), hessian, along(x, 2) if second and v.size <= MOST_THIRD else None

    compiled = jax.jit(every).lower(case.data[name]).compile(FASTEST_TO_COMPILE)
    return Truth(*(None if part is None else np.asarray(part) for part in compiled(case.data[name])), 1e-8)


ORACLES = {"complex": by_complex_steps, "jax": by_jax}


def differences(case: Case, oracle: str = "complex") -> Iterator[str]:
    """What tensordsl and the oracle do not agree on: values, derivatives of three orders, in every output."""
    data = case.data
    given = {name: value.copy() for name, value in data.items()}
    with np.errstate(all="ignore"):
        if not case.well_posed:
            return
        wanted = np.asarray(case.oracle(data))
        if not usable(wanted, 1e6):
            return
        expression = case.expression()
        if not close(expression.evaluate(data, **DIMS), wanted):
            yield "value"
        if not close(run_source(expression, data), wanted):
            yield "to_python"
        yield from misread(expression, data, wanted, "the text")
        if callable(td.simplify) and not close(td.simplify(expression).evaluate(data, **DIMS), wanted):
            yield "value when simplified"
        rng = np.random.default_rng(case.seed + 2)
        for name, symbol in case.variables.items():
            v, w = rng.normal(size=data[name].shape), rng.normal(size=wanted.shape)
            truth = ORACLES[oracle](case, name, w, v)
            if usable(truth.jacobian, 1e7):
                yield from (f"{what} by {name}" for what in by_one_symbol(expression, symbol, data, truth, v, w))
        if any(not np.array_equal(data[name], given[name]) for name in data):
            yield "inputs: they were modified"


def by_one_symbol(
    expression: Any, symbol: Any, data: dict[str, Any], truth: Truth, v: np.ndarray, w: np.ndarray
) -> Iterator[str]:
    """Which derivatives by a symbol differ."""
    jacobian = truth.jacobian
    direction, adjoint = td.tensor("v_", *symbol.shape), td.tensor("w_", *expression.shape)

    def value(e: Any) -> Any:
        return e.evaluate({**data, "v_": v, "w_": w}, **DIMS)

    found = td.jacobian(expression, symbol)
    if not close(value(found), jacobian):
        yield "jacobian"
    if found.ndim and not close(dense_of(td.compile(found, output="sparse")(data, **DIMS)), jacobian):
        yield "sparse jacobian"
    yield from misread(found, data, jacobian, "the text of the jacobian")
    if not close(value(td.jvp(expression, symbol, direction)), np.tensordot(jacobian, v, v.ndim)):
        yield "jvp"
    if not close(value(td.vjp(expression, symbol, adjoint)), np.tensordot(w, jacobian, w.ndim)):
        yield "vjp"
    matrix = jacobian.transpose(*range(w.ndim)[::-1], *range(w.ndim, jacobian.ndim)[::-1])
    operator = td.compile(td.jacobian_matrix(expression, symbol), output="operator")(data, **DIMS)
    if not close(operator @ v.T.reshape(-1), matrix.reshape(w.size, v.size) @ v.T.reshape(-1)):
        yield "operator of the jacobian"
    total = td.sum(expression * adjoint)
    if truth.hessian is not None and usable(truth.hessian, 1e7):
        if not close(value(td.hessian(total, symbol)), truth.hessian, truth.tolerance):
            yield "hessian"
        if not close(
            value(td.hvp(total, symbol, direction)), np.tensordot(truth.hessian, v, v.ndim), 10 * truth.tolerance
        ):
            yield "hvp"
    if truth.third is not None and usable(truth.third, 1e7):
        third = value(td.derivative(total, symbol, order=3))
        if not close(np.tensordot(np.tensordot(third, v, v.ndim), v, v.ndim), truth.third, 10 * truth.tolerance):
            yield "third derivative"


def misread(e: Any, data: dict[str, Any], wanted: np.ndarray, what: str) -> Iterator[str]:
    """Whether the text of an expression is another one, or none, when it is read."""
    text = str(e)
    if not readable(text):
        return
    try:
        back = td.parse(text, **{symbol.name: symbol for symbol in e.symbols})
    except td.TensorDSLError as error:
        yield f"{what}, which does not read back ({type(error).__name__}: {str(error).splitlines()[0]}): {text}\n "
        return
    # Whether two rounded numbers are equal depends on the order in which their factors are multiplied.
    if " == " not in text and not close(back.evaluate(data, **DIMS), wanted):
        yield f"{what}, which reads back as another value: {text}\n "


def usable(array: np.ndarray, most: float) -> bool:
    return bool(np.all(np.isfinite(array)) and np.max(np.abs(array), initial=0) <= most)


def readable(text: str) -> bool:
    """Whether a text shows all that it needs: the data of large constants are not written out."""
    return "constant_" not in text and len(text) < 5000


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


def available(oracle: str) -> str:
    """The oracle asked for, or what there is, with words."""
    if oracle == "jax":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import jax
        except ImportError:
            print("JAX is not installed here (pip install jax): complex steps are the oracle instead.")
            return "complex"
        jax.config.update("jax_enable_x64", True)
    return oracle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", default="0", help="a whole number, or 'fresh'")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--stop", type=int, default=20, help="stop after so many mismatches")
    parser.add_argument("--oracle", choices=ORACLES, default="complex")
    options = parser.parse_args()
    oracle = available(options.oracle)
    seed = secrets.randbelow(1_000_000) if options.seed == "fresh" else int(options.seed)
    print(f"{options.cases} cases of the seed {seed}, depth {options.depth}, by {oracle}", flush=True)
    mismatches = done = posed = 0
    for number in range(options.cases):
        case = random_case(1_000_003 * seed + number, options.depth)
        try:
            found = list(differences(case, oracle))
        except Exception:  # noqa: BLE001 - whatever goes wrong is a mismatch, and shown
            found = [traceback.format_exc(limit=-3)]
        done += 1
        posed += case.well_posed
        if found:
            mismatches += 1
            print(
                f"case {number} (seed {1_000_003 * seed + number}){case!r}  differs in {'; '.join(found)}\n", flush=True
            )
            if mismatches >= options.stop:
                break
    print(f"{done} cases ({done - posed} on a kink, and left out), {mismatches} mismatches")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
