"""The frameworks that differentiate a formula: each has NumPy's functions as `np`, and the operators of calculus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

Data = Mapping[str, Any]
Formula = Callable[..., Any]


def taken(formula: Formula, data: Data) -> dict[str, Any]:
    """Those of the data that the formula has parameters for; others are directions and right-hand sides."""
    return {name: data[name] for name in signature(formula).parameters if name in data}


class Framework:
    """Operators on a formula as a function of the symbol `by`, at the data."""

    np: Any

    def of(self, formula: Formula, data: Data, by: str) -> Callable[[Any], Any]:
        fixed = taken(formula, data)
        return lambda active: formula(self.np, **{**fixed, by: active})

    def jacobian_matrix(self, formula: Formula, data: Data, by: str) -> Any:
        """Rows are the entries of the value, column by column."""
        return self.jacobian(lambda np, **given: formula(np, **given).T.reshape((-1,)), data, by)

    def grads(self, formula: Formula, data: Data, by: Sequence[str]) -> Any:
        return tuple(self.grad(formula, data, name) for name in by)


class Names:
    """The functions of tensordsl, each by its name in NumPy."""

    def __init__(self, td: Any) -> None:
        self.td, self.eye = td, td.identity

    def __getattr__(self, name: str) -> Any:
        return getattr(self.td, name)


class Tensordsl(Framework):
    """Its data are symbols, and what comes is an expression."""

    def __init__(self) -> None:
        import tensordsl as td

        self.td = td
        self.np = Names(td)

    def value(self, formula: Formula, data: Data) -> Any:
        return formula(self.np, **taken(formula, data))

    def grad(self, formula: Formula, data: Data, by: str) -> Any:
        return self.td.grad(self.value(formula, data), data[by])

    def grads(self, formula: Formula, data: Data, by: Sequence[str]) -> Any:
        return self.td.grad(self.value(formula, data), tuple(data[name] for name in by))

    def jacobian(self, formula: Formula, data: Data, by: str) -> Any:
        return self.td.jacobian(self.value(formula, data), data[by])

    def jacobian_matrix(self, formula: Formula, data: Data, by: str) -> Any:
        return self.td.jacobian_matrix(self.value(formula, data), data[by])

    def hessian(self, formula: Formula, data: Data, by: str) -> Any:
        return self.td.hessian(self.value(formula, data), data[by])

    def jvp(self, formula: Formula, data: Data, by: str, direction: str) -> Any:
        return self.td.jvp(self.value(formula, data), data[by], data[direction])

    def vjp(self, formula: Formula, data: Data, by: str, weights: str) -> Any:
        return self.td.vjp(self.value(formula, data), data[by], data[weights])

    def hvp(self, formula: Formula, data: Data, by: str, direction: str) -> Any:
        return self.td.hvp(self.value(formula, data), data[by], data[direction])


class Functional(Framework):
    """JAX and PyTorch, whose operators on functions have the same names and meanings."""

    def __init__(self, np: Any, transforms: Any) -> None:
        self.np, self.transforms = np, transforms

    def grad(self, formula: Formula, data: Data, by: str) -> Any:
        return self.transforms.grad(self.of(formula, data, by))(data[by])

    def grads(self, formula: Formula, data: Data, by: Sequence[str]) -> Any:
        def value(*active: Any) -> Any:
            return formula(self.np, **{**taken(formula, data), **dict(zip(by, active, strict=True))})

        return self.transforms.grad(value, argnums=tuple(range(len(by))))(*(data[name] for name in by))

    def jacobian(self, formula: Formula, data: Data, by: str) -> Any:
        return self.transforms.jacfwd(self.of(formula, data, by))(data[by])

    def hessian(self, formula: Formula, data: Data, by: str) -> Any:
        return self.transforms.hessian(self.of(formula, data, by))(data[by])

    def jvp(self, formula: Formula, data: Data, by: str, direction: str) -> Any:
        return self.transforms.jvp(self.of(formula, data, by), (data[by],), (data[direction],))[1]

    def vjp(self, formula: Formula, data: Data, by: str, weights: str) -> Any:
        return self.transforms.vjp(self.of(formula, data, by), data[by])[1](data[weights])[0]

    def hvp(self, formula: Formula, data: Data, by: str, direction: str) -> Any:
        gradient = self.transforms.grad(self.of(formula, data, by))
        return self.transforms.jvp(gradient, (data[by],), (data[direction],))[1]


def jax() -> Framework:
    import jax

    return Functional(jax.numpy, jax)


def torch() -> Framework:
    import torch

    torch.set_default_dtype(torch.float64)
    return Functional(torch, torch.func)


class Autograd(Framework):
    """Reverse mode alone, but for `make_jvp`."""

    def __init__(self) -> None:
        import autograd
        import autograd.numpy

        self.autograd, self.np = autograd, autograd.numpy

    def grad(self, formula: Formula, data: Data, by: str) -> Any:
        return self.autograd.grad(self.of(formula, data, by))(data[by])

    def jacobian(self, formula: Formula, data: Data, by: str) -> Any:
        return self.autograd.jacobian(self.of(formula, data, by))(data[by])

    def hessian(self, formula: Formula, data: Data, by: str) -> Any:
        return self.autograd.hessian(self.of(formula, data, by))(data[by])

    def jvp(self, formula: Formula, data: Data, by: str, direction: str) -> Any:
        return self.autograd.make_jvp(self.of(formula, data, by))(data[by])(data[direction])[1]

    def vjp(self, formula: Formula, data: Data, by: str, weights: str) -> Any:
        return self.autograd.make_vjp(self.of(formula, data, by))(data[by])[0](data[weights])

    def hvp(self, formula: Formula, data: Data, by: str, direction: str) -> Any:
        return self.autograd.hessian_vector_product(self.of(formula, data, by))(data[by], data[direction])
