"""The workloads: formulas, sizes and targets. Their references are in `by_hand`, the networks in `networks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import by_hand
import networks
import numpy as np
from workload import EINSUM, EVERY_FRAMEWORK, Sizes, Workload

Values = dict[str, np.ndarray]

# ------------------------------------------------------------------------------------------------ formulas
# In NumPy's names, for every framework. What a framework knows better (logsumexp) it has to find itself.


def flagship(np: Any, A: Any, x: Any) -> Any:
    return A * np.outer(x, x)


def flagship_columns(np: Any, A: Any, x: Any) -> Any:
    return (A * np.outer(x, x)).T.reshape((-1,))


def logistic(np: Any, X: Any, y: Any, w: Any) -> Any:
    return np.sum(np.log1p(np.exp(-y * (X @ w))))


def ridge_logistic(np: Any, X: Any, y: Any, w: Any) -> Any:
    return np.sum(np.log1p(np.exp(-y * (X @ w)))) + w @ w / 2


def factorisation(np: Any, T: Any, U: Any, V: Any) -> Any:
    return np.sum((T - U @ V.T) ** 2)


def network(np: Any, W: Any, V: Any, x: Any, t: Any) -> Any:
    logits = V @ np.tanh(W @ x)
    return np.log(np.sum(np.exp(logits))) - t @ logits


def quadratic(np: Any, A: Any, x: Any) -> Any:
    return x @ A @ x


def logdet(np: Any, X: Any) -> Any:
    return np.linalg.slogdet(X)[1]


def inverse_trace(np: Any, X: Any) -> Any:
    return np.trace(np.linalg.inv(X))


def logsumexp(np: Any, x: Any) -> Any:
    return np.log(np.sum(np.exp(x)))


def distances(np: Any, X: Any) -> Any:
    apart = X[:, None, :] - X[None, :, :]
    # A point's distance to itself is written as the constant 1: the derivative of sqrt at 0 is infinite.
    return np.sum(np.sqrt(np.sum(apart**2, axis=-1) + np.eye(X.shape[0])))


def cp_error(np: Any, T: Any, A: Any, B: Any, C: Any) -> Any:
    return np.sum((T - np.einsum("ar,br,cr->abc", A, B, C)) ** 2) / 2


def gaussian_process(np: Any, D: Any, y: Any, l: Any, s: Any, v: Any) -> Any:
    covariance = s * np.exp(-D / (2 * l**2)) + v * np.eye(y.shape[0])
    return y @ np.linalg.solve(covariance, y) / 2 + np.linalg.slogdet(covariance)[1] / 2


# ---------------------------------------------------------------------------------------------------- data


def signs(data: Values) -> None:
    data["y"] = np.sign(data["y"])
    data["w"] /= np.sqrt(len(data["w"]))


def one_label(data: Values) -> None:
    n = len(data["x"])
    data["W"] /= np.sqrt(n)
    data["V"] /= np.sqrt(n)
    data["t"] = np.eye(n)[0]


def well_conditioned(data: Values) -> None:
    X = data["X"]
    data["X"] = X @ X.T / len(X) + np.eye(len(X))


def kernel(data: Values) -> None:
    places = data["D"][:, :3]
    data["D"] = np.sum((places[:, None] - places) ** 2, axis=-1)
    data["l"], data["s"], data["v"] = (np.array(value) for value in (1.5, 0.8, 0.1))


# ------------------------------------------------------------------------------------------------- the table


def sizes(names: str, *rows: Any) -> tuple[Sizes, ...]:
    return tuple(dict(zip(names.split(), np.atleast_1d(row).tolist(), strict=True)) for row in rows)


SQUARE = {"A": "k k", "x": "k"}

FLAGSHIP = [
    Workload(
        "flagship-dense",
        "∂(A∘xxᵀ)/∂x, dense",
        lambda d, a: d.jacobian(flagship, a, "x"),
        SQUARE,
        sizes("k", 32, 128, 400, 800),
        by_hand.flagship_jacobian,
        peers=(*EVERY_FRAMEWORK, "einsum with eye"),
    ),
    Workload(
        "flagship-out",
        "∂(A∘xxᵀ)/∂x, dense, `out=` reused",
        lambda d, a: d.jacobian(flagship, a, "x"),
        SQUARE,
        sizes("k", 800),
        by_hand.flagship_jacobian_reused,
        ahead=10,
        output="out",
        peers=("jax", "torch", "torch.compile"),
    ),
    Workload(
        "flagship-jvp",
        "jvp of A∘xxᵀ",
        lambda d, a: d.jvp(flagship, a, "x", "v"),
        SQUARE | {"v": "k"},
        sizes("k", 1000, 4000),
        by_hand.flagship_jvp,
    ),
    Workload(
        "flagship-vjp",
        "vjp of A∘xxᵀ",
        lambda d, a: d.vjp(flagship, a, "x", "W"),
        SQUARE | {"W": "k k"},
        sizes("k", 1000, 4000),
        by_hand.flagship_vjp,
    ),
    Workload(
        "flagship-coo",
        "∂(A∘xxᵀ)/∂x, sparse, n-D COO",
        lambda d, a: d.jacobian(flagship, a, "x"),
        SQUARE,
        sizes("k", 1000, 4000),
        by_hand.flagship_coo,
        target=1.3,
        output="sparse",
        peers=("scipy.sparse.kron", "asdex", "sparsejac"),
    ),
    Workload(
        "flagship-csr",
        "∂vec(A∘xxᵀ)/∂xᵀ, sparse, canonical CSR",
        lambda d, a: d.jacobian_matrix(flagship, a, "x"),
        SQUARE,
        sizes("k", 1000, 4000),
        by_hand.flagship_csr,
        target=1.3,
        output="factored",
        finish=lambda value, data: value.tocsr(),
        peers=("scipy COO→CSR", "scipy.sparse.kron", "asdex", "asdex, pattern kept", "sparsejac"),
    ),
]

FACTORISATION = {"T": "n m", "U": "n r", "V": "m r"}
FACTORISATION_SIZES = sizes("n m r", (100, 100, 5), (100, 100, 10), (400, 400, 10))
NETWORK = {"W": "n n", "V": "n n", "x": "n", "t": "n"}


def hessian(name: str, title: str, formula: Any, by: str, shapes: dict[str, str], *rest: Any, **more: Any) -> Workload:
    return Workload(
        f"hessian-{name}", f"Hessian of {title}", lambda d, a: d.hessian(formula, a, by), shapes, *rest, **more
    )


def hvp(name: str, title: str, formula: Any, by: str, shapes: dict[str, str], *rest: Any, **more: Any) -> Workload:
    shapes = shapes | {"v": shapes[by]}
    return Workload(f"hvp-{name}", f"hvp of {title}", lambda d, a: d.hvp(formula, a, by, "v"), shapes, *rest, **more)


LOGISTIC = ("logistic", "logistic regression", logistic, "w", {"X": "m n", "y": "m", "w": "n"})
FACTORS = ("factorisation", "‖T−UVᵀ‖² in U", factorisation, "U", FACTORISATION)
SOFTMAX = ("network", "a 2-layer softmax net, first layer", network, "W", NETWORK)
QUADRATIC = ("quadratic", "xᵀAx", quadratic, "x", SQUARE)
LOGDET = ("logdet", "logdet X", logdet, "X", {"X": "n n"})
INVERSE = ("inverse", "tr(X⁻¹)", inverse_trace, "X", {"X": "n n"})
LOGSUMEXP = ("logsumexp", "logsumexp", logsumexp, "x", {"x": "n"})
DISTANCES = ("distances", "Σ‖xᵢ−xⱼ‖ in 3-D", distances, "X", {"X": "n c"})

HESSIANS = [
    hessian(*LOGISTIC, sizes("n m", (100, 200), (500, 1000), (1000, 2000)), by_hand.logistic_hessian, prepare=signs),
    hessian(*FACTORS, FACTORISATION_SIZES, by_hand.factorisation_hessian),
    replace(
        hessian(*FACTORS, FACTORISATION_SIZES, by_hand.factorisation_block, ahead=50, output="factored"),
        name="hessian-factored",
        title="Hessian of ‖T−UVᵀ‖² in U, factored",
        expand=by_hand.identity_kron,
    ),
    Workload(
        "newton-factored",
        "Newton step of ‖T−UVᵀ‖² in U, factored",
        lambda d, a: d.hessian(factorisation, a, "U"),
        FACTORISATION | {"b": "n r"},
        FACTORISATION_SIZES,
        by_hand.factorisation_step,
        ahead=50,
        output="factored",
        finish=lambda value, data: value.solve(data["b"]),
        peers=("jax, Hessian solved", "torch, Hessian solved"),
    ),
    hessian(*SOFTMAX, sizes("n", 10, 30, 50), by_hand.network_hessian, prepare=one_label),
    hessian(*QUADRATIC, sizes("k", 100, 1000), by_hand.quadratic_hessian),
    hessian(*LOGDET, sizes("n", 30, 100), by_hand.logdet_hessian, prepare=well_conditioned),
    hessian(*INVERSE, sizes("n", 30, 100), by_hand.inverse_trace_hessian, prepare=well_conditioned),
    hessian(*LOGSUMEXP, sizes("n", 2000), by_hand.logsumexp_hessian, target=1.3),
    hessian(*DISTANCES, sizes("n c", (2483, 3)), by_hand.distances_hessian, target=1.3, memory=1.5e9),
]

PRODUCTS = [
    hvp(*LOGISTIC, sizes("n m", (1000, 2000)), by_hand.logistic_hvp, prepare=signs),
    hvp(*FACTORS, sizes("n m r", (1000, 1000, 10)), by_hand.factorisation_hvp),
    hvp(*SOFTMAX, sizes("n", 1000), by_hand.network_hvp, prepare=one_label),
    hvp(*QUADRATIC, sizes("k", 1000), by_hand.quadratic_hvp),
    hvp(*LOGDET, sizes("n", 1000), by_hand.logdet_hvp, prepare=well_conditioned),
    hvp(*INVERSE, sizes("n", 1000), by_hand.inverse_trace_hvp, prepare=well_conditioned),
    hvp(*LOGSUMEXP, sizes("n", 1000), by_hand.logsumexp_hvp),
    hvp(*DISTANCES, sizes("n c", (1000, 3)), by_hand.distances_hvp),
]

CP_FACTORS = {"A": "a r", "B": "b r", "C": "c r"}

GRADIENTS = [
    Workload(
        "gradient-cp",
        "CP gradient (MTTKRP)",
        lambda d, a: d.grad(cp_error, a, "A"),
        {"T": "a b c"} | CP_FACTORS,
        sizes("a b c r", (200, 200, 200, 50)),
        by_hand.cp_gradient,
    ),
    Workload(
        "gradient-gp",
        "gradient of a GP's marginal likelihood",
        lambda d, a: d.grads(gaussian_process, a, ("l", "s", "v")),
        {"D": "n n", "y": "n", "l": "", "s": "", "v": ""},
        sizes("n", 500),
        by_hand.gaussian_process_gradient,
        prepare=kernel,
    ),
    Workload(
        "newton-glm",
        "Newton step of a GLM",
        lambda d, a: d.np.linalg.solve(d.hessian(ridge_logistic, a, "w"), -d.grad(ridge_logistic, a, "w")),
        LOGISTIC[-1],
        sizes("m n", (2048, 256)),
        by_hand.newton_step,
        prepare=signs,
    ),
]


def in_order(names: Iterable[str], data: Mapping[str, Any]) -> list[Any]:
    return [data[name] for name in names]  # JAX hands over its data sorted by name


def einsum(name: str, equation: str, operands: str, rows: tuple[Sizes, ...], reference: Any, **more: Any) -> Workload:
    shapes = dict(zip(operands, map(" ".join, equation.split("->")[0].split(",")), strict=True))
    return Workload(
        f"einsum-{name}",
        more.pop("title", f"einsum `{equation}`"),
        lambda d, a: d.np.einsum(equation, *in_order(shapes, a)),
        shapes,
        rows,
        reference,
        peers=EINSUM,
        equation=equation,
        **{"target": 1.15} | more,
    )


def network_workloads() -> Iterator[Workload]:
    for name, equation, shapes in networks.generate():
        inputs = equation.split("->")[0].split(",")
        names = [f"T{position}" for position in range(len(inputs))]
        dims = {label: f"d{ord(label)}" for label in equation if label not in ",->"}
        row = {
            dims[axis]: int(size)
            for term, shape in zip(inputs, shapes, strict=True)
            for axis, size in zip(term, shape, strict=True)
        }
        yield Workload(
            f"network-{name}",
            f"einsum of a network: {name}, {len(inputs)} tensors",
            lambda d, a, equation=equation, names=names: d.np.einsum(equation, *in_order(names, a)),
            {operand: " ".join(dims[axis] for axis in term) for operand, term in zip(names, inputs, strict=True)},
            (row,),
            networks.along_a_searched_path(equation),
            target=1.15,
            peers=(*EINSUM, "sesum"),
            equation=equation,
            prepare=networks.positive,
        )


EINSUMS = [
    einsum(
        "batched",
        "bij,bjk->bik",
        "AB",
        sizes("b i j k", (64, 64, 64, 64), (16, 512, 512, 512)),
        by_hand.batched_product,
    ),
    einsum("hadamard", "ij,ij,jk,jk->ik", "ABCD", sizes("i j k", (500,) * 3, (1000,) * 3), by_hand.hadamard_products),
    einsum("scaled", "ij,i,j->ij", "Avx", sizes("i j", (1000, 1000), (4000, 4000)), by_hand.scaled),
    einsum("trace", "ij,ji->", "AB", sizes("i j", (1000, 1000), (4000, 4000)), by_hand.trace_of_product),
    einsum(
        "chain",
        "ab,bc,cd,de,ef,fg->ag",
        "ABCDEF",
        sizes("a b c d e f g", (600, 700, 300, 100, 200, 400, 500)),
        by_hand.chain,
    ),
    einsum(
        "four-index",
        "pqrs,pi,qj,rk,sl->ijkl",
        "TABCD",
        sizes("p q r s i j k l", (20,) * 8, (48,) * 8),
        by_hand.four_index_transform,
    ),
    einsum("mttkrp", "abc,br,cr->ar", "TBC", sizes("a b c r", (200, 200, 200, 50)), by_hand.mttkrp),
    einsum(
        "tucker",
        "abc,ai,bj,ck->ijk",
        "TABC",
        sizes("a b c i j k", (200,) * 3 + (20,) * 3),
        by_hand.tucker,
        title="Tucker chain",
    ),
]

OVERHEAD = [
    einsum("overhead", "ij,jk,kl->il", "ABC", sizes("i j k l", (8,) * 4), by_hand.product_of_three, target=3),
]


def derivation(workload: Workload) -> Workload:
    """The same formula, derived, simplified and planned, at its smallest size; nothing is run."""
    return replace(
        workload,
        name=f"derive-{workload.name}",
        title=workload.title,
        sizes=workload.sizes[:1],
        by_hand=None,
        target=None,
        ahead=10,
        symbolic=True,
        finish=None,
        output="dense",
        peers=("jax", "tensorgrad"),
    )


MEASURED = [*FLAGSHIP, *HESSIANS, *PRODUCTS, *GRADIENTS, *EINSUMS, *OVERHEAD]
DERIVED = [derivation(workload) for workload in MEASURED if workload.output == "dense" and workload.equation is None]


def everything() -> Iterator[Workload]:
    """Networks come last, and are generated only if they are reached."""
    yield from MEASURED
    yield from DERIVED
    yield from network_workloads()


def find(name: str) -> Workload:
    return next(workload for workload in everything() if workload.name == name)
