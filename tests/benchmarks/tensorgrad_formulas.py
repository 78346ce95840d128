"""The formulas of `workloads` in the notation of tensorgrad, whose axes are named edges.

An axis is named after its size; the second axis of a square matrix has a 1 behind it: the edges of `A` are k and k1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Data = Mapping[str, Any]


def edges(shape: str) -> list[str]:
    dims = shape.split()
    return [dim + str(dims[:position].count(dim) or "") for position, dim in enumerate(dims)]


def variables(shapes: Mapping[str, str], suffix: str = "") -> dict[str, Any]:
    import sympy
    import tensorgrad as tg

    return {
        name: tg.Variable(
            name + suffix, **{edge: sympy.Symbol(dim) for edge, dim in zip(edges(shape), shape.split(), strict=True)}
        )
        for name, shape in shapes.items()
    }


class Formulas:
    """One method for each formula that tensorgrad can say."""

    def __init__(self) -> None:
        import tensorgrad.functions as F

        self.F = F

    def flagship(self, A: Any, x: Any) -> Any:
        return A * x * x.rename(k="k1")

    def logistic(self, X: Any, y: Any, w: Any) -> Any:
        return self.F.sum(self.F.log(1 + self.F.exp(-y * (X @ w))))

    def ridge_logistic(self, X: Any, y: Any, w: Any) -> Any:
        return self.logistic(X, y, w) + self.F.frobenius2(w) * (1 / 2)

    def factorisation(self, T: Any, U: Any, V: Any) -> Any:
        return self.F.frobenius2(T - U @ V)

    def network(self, W: Any, V: Any, x: Any, t: Any) -> Any:
        hidden = self.F.tanh(W.rename(n="h", n1="i") @ x.rename(n="i"))
        logits = V.rename(n="o", n1="h") @ hidden
        return self.F.log(self.F.sum(self.F.exp(logits))) - t.rename(n="o") @ logits

    def quadratic(self, A: Any, x: Any) -> Any:
        return x @ A @ x.rename(k="k1")

    def logdet(self, X: Any) -> Any:
        return self.F.log(self.F.det(X))

    def inverse_trace(self, X: Any) -> Any:
        return self.F.trace(self.F.inverse(X))

    def logsumexp(self, x: Any) -> Any:
        return self.F.log(self.F.sum(self.F.exp(x)))

    def distances(self, X: Any) -> Any:
        from tensorgrad import Delta

        n = X.shape["n"]
        apart = X - X.rename(n="n1")
        return self.F.sum(self.F.sqrt(self.F.sum(apart * apart, "c") + Delta(n, "n", "n1")))

    def cp_error(self, T: Any, A: Any, B: Any, C: Any) -> Any:
        from tensorgrad import Delta

        r = A.shape["r"]
        joined = Delta(r, "r", "r1", "r2") @ A @ B.rename(r="r1") @ C.rename(r="r2")
        return self.F.frobenius2(T - joined) * (1 / 2)


ORDER = {"flagship": ["k", "k1"]}  # the axes of the values that have some


class Tensorgrad:
    """The operators of calculus of `frameworks`, on variables. They give an expression and the order of its edges."""

    @property
    def np(self) -> Any:
        raise NotImplementedError("tensorgrad has no functions of NumPy's names, and no linear solver")

    def __init__(self) -> None:
        self.formulas = Formulas()

    def value(self, formula: Callable[..., Any], data: Data) -> tuple[Any, list[str]]:
        written = getattr(self.formulas, formula.__name__, None)
        if written is None:
            raise NotImplementedError(f"tensorgrad cannot say {formula.__name__}")
        names = formula.__code__.co_varnames[1 : formula.__code__.co_argcount]
        return written(*(data[name] for name in names)), ORDER.get(formula.__name__, [])

    def derivative(self, value: tuple[Any, Sequence[str]], by: Any, mark: str) -> tuple[Any, list[str]]:
        expression, order = value
        return expression.grad(by, {edge: edge + mark for edge in by.edges}), [
            *order,
            *(edge + mark for edge in by.edges),
        ]

    def grad(self, formula: Callable[..., Any], data: Data, by: str) -> Any:
        return self.derivative(self.value(formula, data), data[by], "_a")

    def grads(self, formula: Callable[..., Any], data: Data, by: Sequence[str]) -> Any:
        return [self.grad(formula, data, name) for name in by]

    def jacobian(self, formula: Callable[..., Any], data: Data, by: str) -> Any:
        return self.derivative(self.value(formula, data), data[by], "_a")

    def hessian(self, formula: Callable[..., Any], data: Data, by: str) -> Any:
        return self.derivative(self.grad(formula, data, by), data[by], "_b")

    def jvp(self, formula: Callable[..., Any], data: Data, by: str, direction: str) -> Any:
        jacobian, order = self.jacobian(formula, data, by)
        vector = data[direction]
        marked = vector.rename(**{edge: edge + "_a" for edge in vector.edges})
        return jacobian @ marked, order[: len(order) - len(marked.edges)]

    def vjp(self, formula: Callable[..., Any], data: Data, by: str, weights: str) -> Any:
        jacobian, order = self.jacobian(formula, data, by)
        return jacobian @ data[weights], order[len(data[weights].edges) :]

    def hvp(self, formula: Callable[..., Any], data: Data, by: str, direction: str) -> Any:
        hessian, order = self.hessian(formula, data, by)
        vector = data[direction]
        return hessian @ vector.rename(**{edge: edge + "_b" for edge in vector.edges}), order[: len(order) // 2]
