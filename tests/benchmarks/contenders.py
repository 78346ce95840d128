"""Who runs a workload: the reference, the library and its peers. Each is a function that makes a call of no arguments.

What a function does before the call, and the first call itself, are the cost of a first result. Arrays are handed over
before, in the framework's own type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import count
from typing import Any, NamedTuple

import frameworks
import numpy as np
import sparse_peers
import tensorgrad_formulas
from workload import Call, Sizes, Workload

Data = dict[str, np.ndarray]


class Contender(NamedTuple):
    package: str
    make: Callable[[Workload, Sizes, Mapping[str, Any]], Call]
    adopt: Callable[[Data], Mapping[str, Any]] = dict  # NumPy arrays as the framework's own, uncounted

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


# ------------------------------------------------------------------------------- the reference and the library


def by_hand(workload: Workload, sizes: Sizes, data: Data) -> Call:
    assert workload.by_hand is not None
    return partial(workload.by_hand, **data)


def declare(workload: Workload, suffix: str = "") -> dict[str, Any]:
    import tensordsl as td

    dims = {name: td.dim(name) for name in " ".join(workload.shapes.values()).split()}
    return {
        name: td.tensor(name + suffix, *[dims[dim] for dim in shape.split()], **workload.facts.get(name, {}))
        for name, shape in workload.shapes.items()
    }


fresh = count()


def derive(workload: Workload, sizes: Sizes, data: Data) -> Call:
    """Of symbols that no expression has held: nothing of an earlier call is found again."""
    import tensordsl as td

    framework = frameworks.Tensordsl()
    return lambda: td.plan(workload.compute(framework, declare(workload, f"_{next(fresh)}")), **sizes)


def library(workload: Workload, sizes: Sizes, data: Data) -> Call:
    import tensordsl as td

    if workload.symbolic:
        return derive(workload, sizes, data)
    expressions = workload.compute(frameworks.Tensordsl(), declare(workload))
    single = expressions if isinstance(expressions, tuple) else (expressions,)
    run = td.compile(expressions, output="dense" if workload.output == "out" else workload.output)
    used = {symbol.name for e in single for symbol in e.symbols}
    shown = {dim for name in used for dim in workload.shapes[name].split()}
    needed = {str(dim) for e in single for dim in e.dims}
    given: dict[str, Any] = {name: array for name, array in data.items() if name in used}
    given |= {dim: size for dim, size in sizes.items() if dim in needed - shown}
    if workload.output == "out":
        buffer = run(**given)
        return lambda: run(**given, out=buffer)
    if workload.finish is not None:
        return lambda: workload.finish(run(**given), data)
    return lambda: run(**given)


# ------------------------------------------------------------------------------------------------ frameworks


def jax_arrays(data: Data) -> Mapping[str, Any]:
    import jax.numpy as jnp

    return {name: jnp.asarray(array) for name, array in data.items()}


def jax(workload: Workload, sizes: Sizes, data: Mapping[str, Any]) -> Call:
    """Everything is an argument of the compiled function, for what is not would be computed while it compiles."""
    import jax

    framework = frameworks.jax()
    if workload.symbolic:

        def trace_and_compile() -> None:
            jax.clear_caches()
            jax.jit(lambda data: workload.compute(framework, data)).lower(data).compile()

        return trace_and_compile
    run = jax.jit(lambda data: workload.compute(framework, data))
    return lambda: jax.block_until_ready(run(data))


def solved(np: Any, hessian: Any, b: Any) -> Any:
    """The Newton step of those who have no structure to use: one system of as many equations as there are entries."""
    right = b.reshape((-1,))
    return np.linalg.solve(hessian.reshape((right.shape[0], -1)), right).reshape(b.shape)


def jax_solving(workload: Workload, sizes: Sizes, data: Mapping[str, Any]) -> Call:
    import jax

    framework = frameworks.jax()
    run = jax.jit(lambda data: solved(framework.np, workload.compute(framework, data), data["b"]))
    return lambda: jax.block_until_ready(run(data))


def torch_solving(workload: Workload, sizes: Sizes, data: Mapping[str, Any]) -> Call:
    framework = frameworks.torch()
    return lambda: solved(framework.np, workload.compute(framework, data), data["b"])


def torch_tensors(data: Data) -> Mapping[str, Any]:
    import torch

    torch.set_default_dtype(torch.float64)
    return {name: torch.from_numpy(array) for name, array in data.items()}


def torch(workload: Workload, sizes: Sizes, data: Mapping[str, Any]) -> Call:
    return partial(workload.compute, frameworks.torch(), data)


def torch_compiled(workload: Workload, sizes: Sizes, data: Mapping[str, Any]) -> Call:
    import torch

    framework = frameworks.torch()
    run = torch.compile(lambda data: workload.compute(framework, data))
    return lambda: run(data)


def autograd(workload: Workload, sizes: Sizes, data: Data) -> Call:
    return partial(workload.compute, frameworks.Autograd(), data)


def tensorgrad(workload: Workload, sizes: Sizes, data: Mapping[str, Any]) -> Call:
    framework = tensorgrad_formulas.Tensorgrad()
    if workload.symbolic:

        def simplify() -> None:
            variables = tensorgrad_formulas.variables(workload.shapes, f"_{next(fresh)}")
            workload.compute(framework, variables)[0].full_simplify()

        return simplify
    import sympy
    import torch
    from tensorgrad.compiler import compile_to_callable

    variables = tensorgrad_formulas.variables(workload.shapes)
    expression, order = workload.compute(framework, variables)
    program = compile_to_callable(expression)
    # What its callable runs, without the named tensors that newer releases of PyTorch lack.
    dims = {sympy.Symbol(name): size for name, size in sizes.items()}
    run = program.codegen.specialize(dims, dtype=torch.float64)
    arguments = [data[variable.name] for variable in program.vars]
    ((_, made),) = program.outputs
    places = [list(made).index(edge) for edge in order]

    def call() -> Any:
        with torch.no_grad():
            return run(*arguments)[0].permute(places)

    return call


# -------------------------------------------------------------------------------------------------- einsums


def equation_of(workload: Workload) -> str:
    assert workload.equation is not None
    return workload.equation


def numpy_einsum(workload: Workload, sizes: Sizes, data: Data) -> Call:
    """The path is found once: it is no part of a later call."""
    operands = tuple(data.values())
    path, _ = np.einsum_path(equation_of(workload), *operands, optimize=True)
    return lambda: np.einsum(equation_of(workload), *operands, optimize=path)


def opt_einsum(workload: Workload, sizes: Sizes, data: Data) -> Call:
    import opt_einsum

    run = opt_einsum.contract_expression(equation_of(workload), *[array.shape for array in data.values()])
    return lambda: run(*data.values())


def cotengra(workload: Workload, sizes: Sizes, data: Data) -> Call:
    import cotengra

    run = cotengra.einsum_expression(equation_of(workload), *[array.shape for array in data.values()])
    return lambda: run(*data.values())


def sesum(workload: Workload, sizes: Sizes, data: Data) -> Call:
    import sesum

    operands = tuple(data.values())
    path = sesum.compute_path(equation_of(workload), *operands)[0]
    return lambda: sesum.sesum(equation_of(workload), *operands, path=path)


def einsum_with_eye(workload: Workload, sizes: Sizes, data: Data) -> Call:
    """The derivative as einsum can say it, with an identity matrix for each delta."""
    A, x, eye = data["A"], data["x"], np.eye(sizes["k"])

    def run() -> np.ndarray:
        result = np.einsum("ij,j,il->ijl", A, x, eye, optimize=True)
        result += np.einsum("ij,i,jl->ijl", A, x, eye, optimize=True)
        return result

    return run


CONTENDERS = {
    "by hand": Contender("scipy", by_hand),
    "tensordsl": Contender("tensordsl", library),
    "jax": Contender("jax", jax, jax_arrays),
    "jax, Hessian solved": Contender("jax", jax_solving, jax_arrays),
    "torch": Contender("torch", torch, torch_tensors),
    "torch, Hessian solved": Contender("torch", torch_solving, torch_tensors),
    "torch.compile": Contender("torch", torch_compiled, torch_tensors),
    "autograd": Contender("autograd", autograd),
    "tensorgrad": Contender("tensorgrad", tensorgrad, torch_tensors),
    "np.einsum": Contender("numpy", numpy_einsum),
    "opt_einsum": Contender("opt_einsum", opt_einsum),
    "cotengra": Contender("cotengra", cotengra),
    "sesum": Contender("sesum", sesum),
    "einsum with eye": Contender("numpy", einsum_with_eye),
    "scipy COO→CSR": Contender("scipy", sparse_peers.from_coo),
    "scipy.sparse.kron": Contender("scipy", sparse_peers.from_kronecker_products),
    "asdex": Contender("asdex", sparse_peers.asdex, jax_arrays),
    "asdex, pattern kept": Contender("asdex", sparse_peers.asdex_kept, jax_arrays),
    "sparsejac": Contender("sparsejac", sparse_peers.sparsejac, jax_arrays),
}
