"""What a workload is: a formula in the names of NumPy, that every framework differentiates and runs, and its sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Sizes = Mapping[str, int]
Arrays = Mapping[str, np.ndarray]
Call = Callable[[], Any]

EVERY_FRAMEWORK = ("jax", "torch", "torch.compile", "autograd", "tensorgrad")
EINSUM = ("np.einsum", "opt_einsum", "cotengra", "jax", "torch", "torch.compile")


@dataclass(frozen=True)
class Workload:
    """A line of the table of results, at every size in `sizes`.

    `compute(framework, data)` says what is computed: `framework` has the operators of calculus, `framework.np` the
    functions of NumPy; `data` are its arrays, or symbols. `by_hand(**data)` is the same by one who knows the structure.
    """

    name: str
    title: str
    compute: Callable[[Any, Mapping[str, Any]], Any]
    shapes: Mapping[str, str]
    sizes: tuple[Sizes, ...]
    by_hand: Callable[..., Any] | None = None
    target: float | None = 1.2  # times the reference, at most
    ahead: float = 1.0  # times faster than the best peer, at least
    memory: float | None = None  # bytes resident at the peak, at most
    prepare: Callable[[dict[str, np.ndarray]], None] | None = None  # changes the random data in place
    output: str = "dense"
    finish: Callable[..., Any] | None = None  # what the user asks of the library's value: `finish(value, data)`
    expand: Callable[..., Any] | None = None  # the reference's value as the others have it, to compare them
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    peers: tuple[str, ...] = EVERY_FRAMEWORK
    equation: str | None = None  # of a workload that is one einsum, for tools that know nothing else
    symbolic: bool = False  # what is timed is the derivation, and nothing runs

    def data(self, sizes: Sizes) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        arrays = {
            name: np.asarray(rng.normal(size=[sizes[dim] for dim in shape.split()]))
            for name, shape in self.shapes.items()
        }
        if self.prepare is not None:
            self.prepare(arrays)
        return {name: np.array(array, dtype=float, order="C") for name, array in arrays.items()}


def label(sizes: Sizes) -> str:
    """Sizes as a reader writes them, those that are equal together; networks have too many to be told."""
    if len(sizes) > 10:
        return f"{len(sizes)} axes"
    alike: dict[int, list[str]] = {}
    for dim, size in sizes.items():
        alike.setdefault(size, []).append(dim)
    return ", ".join(f"{' = '.join(dims)} = {size}" for size, dims in alike.items())
