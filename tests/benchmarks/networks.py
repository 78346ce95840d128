"""Tensor networks from the generators of the einsum_benchmark package, of two sizes each; without it there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

Network = tuple[str, str, list[tuple[int, ...]]]


def generate() -> Iterator[Network]:
    """Name, equation and shapes of each. The larger ones take from some milliseconds to about a second."""
    if find_spec("einsum_benchmark") is None:
        return
    from einsum_benchmark.generators.quantum_computing import matrix_product_state
    from einsum_benchmark.generators.random import connected_hypernetwork, connected_network, regular
    from einsum_benchmark.generators.structured import lattice, matrix_chain, tree

    sparse = {"number_of_output_indices": 2, "seed": 0}
    hyper = {**sparse, "max_tensor_order": 6, "max_edge_order": 4}
    made = {
        "connected-small": connected_network(12, 3, min_axis_size=4, max_axis_size=8, **sparse),
        "connected-large": connected_network(14, 3, min_axis_size=6, max_axis_size=12, **sparse),
        "hyper-small": connected_hypernetwork(16, 2.5, min_axis_size=4, max_axis_size=10, **hyper),
        "hyper-large": connected_hypernetwork(16, 2.5, min_axis_size=6, max_axis_size=14, **hyper),
        "regular-small": regular(20, 3, 8, 16, seed=0),
        "regular-large": regular(24, 3, 6, 16, seed=0),
        "lattice-small": lattice((5, 5), d_min=6, seed=0),
        "lattice-large": lattice((3, 3, 2), d_min=4, seed=0),
        "tree-small": tree(30, 4, 16, seed=1),
        "tree-large": tree(30, 4, 16, seed=0),
        "chain-small": matrix_chain(10, 10, 1000, seed=0),
        "chain-large": matrix_chain(20, 10, 1000, seed=0),
        "mps-small": matrix_product_state(10, 10, 60, 20, seed=0),
        "mps-large": matrix_product_state(16, 10, 60, 40, seed=0),
    }
    for name, (equation, shapes) in made.items():
        yield name, equation.replace(" ", ""), [tuple(map(int, shape)) for shape in shapes]


def positive(data: dict[str, np.ndarray]) -> None:
    """No cancellation: what a network sums to is then as exact as its terms, and results can be compared."""
    for name, array in data.items():
        data[name] = np.abs(array)


def along_a_searched_path(equation: str) -> Callable[..., Any]:
    """No one contracts a network by hand: its reference is opt_einsum along the path of its thorough search."""

    @cache
    def expression(*shapes: tuple[int, ...]) -> Callable[..., Any]:
        import opt_einsum

        return opt_einsum.contract_expression(equation, *shapes, optimize="auto-hq")

    def run(**data: np.ndarray) -> Any:
        arrays = tuple(data.values())
        return expression(*[array.shape for array in arrays])(*arrays)

    return run
