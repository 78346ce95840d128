"""Random well-typed expressions, each as two texts of one formula that share no code.

A `Case` holds the text of an expression in tensordsl, the text of the same formula in NumPy, and data. The texts are
drawn together, so a failing case is shown as two lines that can be run. `Generator` draws from any source of whole
numbers: a `random.Random` (`tests/fuzz.py`), or hypothesis (`cases()`), where it shrinks.

Sizes are pairwise different, so that an answer that is transposed is an answer that fails.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from hypothesis import assume
from hypothesis import strategies as st

import tensordsl as td

DIMS = {"k": 2, "m": 3}  # symbolic sizes, and the numbers behind them; beside them the plain sizes 4 and 5
MOST_ENTRIES = 600
MOST_AXES = 4
CLEAR = 1e-6  # nearer than this to a kink, or to where a function ends, rounding decides which side data are on


class Size(NamedTuple):
    """A size in both worlds."""

    text: str
    number: int

    def __mul__(self, other: Size) -> Size:  # type: ignore[override]
        if self == ONE:
            return other
        if other == ONE:
            return self
        if self.text.isdigit() and other.text.isdigit():
            return Size(str(self.number * other.number), self.number * other.number)
        return Size("*".join(sorted([*self.text.split("*"), *other.text.split("*")])), self.number * other.number)


ONE = Size("1", 1)
SIZES = (Size("k", 2), Size("m", 3), Size("4", 4), Size("5", 5))
Shape = tuple[Size, ...]


class Node(NamedTuple):
    """One formula in two notations."""

    dsl: str
    numpy: str
    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Case(NamedTuple):
    """An expression, the same formula in NumPy, the shapes of its symbols, and the seed of their data."""

    dsl: str
    numpy: str
    symbols: tuple[tuple[str, Shape, bool], ...]  # name, shape, whether the data make an invertible matrix
    constants: tuple[tuple[str, tuple[int, ...]], ...]
    seed: int

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: ({', '.join(s.text for s in shape)})" for name, shape, _ in self.symbols)
        return (
            f"\n  tensordsl  {self.dsl}\n  numpy      {self.numpy}\n  symbols    {shapes}\n  seed       {self.seed}\n"
        )

    @property
    def data(self) -> dict[str, np.ndarray]:
        """An array for each symbol."""
        rng = np.random.default_rng(self.seed)
        found = {}
        for name, shape, regular in self.symbols:
            numbers = tuple(size.number for size in shape)
            values = rng.uniform(0.3, 1.3, numbers) * rng.choice([-1.0, 1.0], numbers)
            found[name] = values + 3 * np.eye(*numbers) if regular else np.asarray(values)
        return found

    def _arrays(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed + 1)
        return {name: rng.integers(-3, 4, shape) / 2 for name, shape in self.constants}

    @property
    def variables(self) -> dict[str, Any]:
        """The symbols of tensordsl, by name."""
        sizes = {name: td.dim(name) for name in DIMS}
        return {name: td.tensor(name, *[eval(s.text, {}, sizes) for s in shape]) for name, shape, _ in self.symbols}

    def expression(self) -> Any:
        """The expression in tensordsl."""
        indices = dict(zip("abcdefgh", td.indices("a b c d e f g h"), strict=True))
        names = {name: td.dim(name) for name in DIMS}
        # An index is called `i_`, so that no symbol is hidden by it.
        names.update({f"{letter}_": index for letter, index in indices.items()})
        return eval(self.dsl, {"td": td, "inf": np.inf, **names, **self._arrays(), **self.variables})

    def oracle(self, data: dict[str, Any], xp: Any = np, distances: list[float] | None = None) -> Any:
        """The formula in NumPy, or in `jax.numpy`; holds for complex numbers as well, analytically.

        `distances` collects how far the data are from each kink and end of a function.
        """
        arrays = {name: xp.asarray(value) for name, value in self._arrays().items()}
        return eval(self.numpy, {"np": xp, **helpers(xp, distances), **DIMS, **arrays, **data})

    @property
    def well_posed(self) -> bool:
        """Whether the data are clear of kinks, where a derivative is a matter of rounding."""
        distances: list[float] = []
        with np.errstate(all="ignore"):
            try:
                self.oracle(self.data, np, distances)
            except np.linalg.LinAlgError:  # what is not finite, or singular to the last digit
                return False
        return all(distance > CLEAR for distance in distances)  # no NaN is


def helpers(xp: Any, distances: list[float] | None = None) -> dict[str, Callable[..., Any]]:
    """What NumPy has no one word for, written out; analytic, so that complex steps go through."""

    def note(*gaps: Any) -> None:
        """Take down how far from zero these are."""
        if distances is not None:
            distances.extend(float(np.min(np.abs(np.real(gap)))) for gap in gaps if np.size(gap))

    def note_apart(gaps: Any) -> None:
        """The same, but what is exactly zero is so by its structure and stays so: both sides are one."""
        if distances is not None:
            note(np.real(gaps)[np.real(gaps) != 0])

    def vec(a: Any) -> Any:
        return xp.transpose(a).reshape(-1)

    def unvec(v: Any, shape: Sequence[int]) -> Any:
        return xp.transpose(v.reshape(tuple(shape)[::-1]))

    def khatri_rao(a: Any, b: Any) -> Any:
        return xp.stack([xp.kron(a[:, j], b[:, j]) for j in range(a.shape[1])], axis=1)

    def absolute(a: Any) -> Any:
        note_apart(a)
        return a * xp.sign(xp.real(a))

    def relu(a: Any) -> Any:
        note_apart(a)
        return xp.where(xp.real(a) > 0, a, 0)

    def choose(name: str, a: Any, b: Any, taken: Any, other: Any) -> Any:
        """where(a > b, taken, other), for a comparison of that name."""
        note_apart(a - b)
        return xp.where(getattr(xp, name)(xp.real(a), xp.real(b)), taken, other)

    def maximum(a: Any, b: Any) -> Any:
        return choose("greater", a, b, a, xp.where(xp.real(a) == xp.real(b), (a + b) / 2, b))

    def minimum(a: Any, b: Any) -> Any:
        return -maximum(-a, -b)

    def largest(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The mean of the largest entries: each has an equal part."""
        for place in sorted(range(a.ndim) if axis is None else [axis], reverse=True):
            gaps = xp.max(xp.real(a), axis=place, keepdims=True) - xp.real(a)
            note_apart(gaps)
            a = xp.sum(xp.where(gaps == 0, a, 0), axis=place, keepdims=True) / xp.sum(
                gaps == 0, axis=place, keepdims=True
            )
        return a if keepdims else a.reshape(()) if axis is None else xp.squeeze(a, axis=axis)

    def smallest(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return -largest(-a, axis, keepdims)

    def var(a: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
        apart = a - xp.mean(a, axis=axis, keepdims=True)
        count = (a.size if axis is None else a.shape[axis]) - ddof
        return xp.sum(apart * apart, axis=axis, keepdims=keepdims) / count

    def root(a: Any) -> Any:
        note(a)
        return xp.sqrt(a)

    def std(a: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
        return root(var(a, axis, ddof, keepdims))

    def logsumexp(a: Any, axis: Any = -1, keepdims: bool = False) -> Any:
        top = xp.max(xp.real(a), axis=axis, keepdims=True)
        found = xp.log(xp.sum(xp.exp(a - top), axis=axis, keepdims=True)) + top
        return found if keepdims else found.reshape(()) if axis is None else xp.squeeze(found, axis=axis)

    def softmax(a: Any, axis: Any = -1) -> Any:
        return xp.exp(a - logsumexp(a, axis, keepdims=True))

    def softplus(a: Any) -> Any:
        return xp.where(xp.real(a) > 0, a + xp.log1p(xp.exp(-a)), xp.log1p(xp.exp(a)))

    def norm_of(a: Any, ord: Any = 2, axis: Any = None, keepdims: bool = False) -> Any:
        if ord == 2:
            return root(xp.sum(a * a, axis=axis, keepdims=keepdims))
        if ord == 1:
            return xp.sum(absolute(a), axis=axis, keepdims=keepdims)
        if ord == 3:
            return root(xp.sum(absolute(a) ** 3, axis=axis, keepdims=keepdims)) ** (2 / 3)
        return (largest if ord > 0 else smallest)(absolute(a), axis, keepdims)

    def turned(a: Any) -> Any:
        return xp.swapaxes(a, -1, -2)

    def adjugate(a: Any) -> Any:
        """The cofactors, each the determinant of a minor."""
        n = a.shape[-1]
        rest = [np.arange(n) != i for i in range(n)]
        rows = [[(-1) ** (i + j) * xp.linalg.det(a[rest[j]][:, rest[i]]) for j in range(n)] for i in range(n)]
        return xp.stack([xp.stack(row) for row in rows])

    def matrix_power(a: Any, n: int) -> Any:
        found = xp.eye(a.shape[-1])
        for _ in range(abs(n)):
            found = found @ (a if n > 0 else xp.linalg.inv(a))
        return found

    def pinv(a: Any) -> Any:
        if distances is not None:
            note(1e-4 * np.linalg.svd(np.real(a))[1])  # squared below: this is no way for what is nearly singular
        tall = a.shape[0] > a.shape[1]
        return xp.linalg.inv(a.T @ a) @ a.T if tall else a.T @ xp.linalg.inv(a @ a.T)

    def cholesky(a: Any) -> Any:
        """Column after column, of the symmetric part."""
        a, columns = (a + a.T) / 2, []
        for j in range(a.shape[0]):
            note(a[j, j])
            column = a[:, j] / xp.sqrt(a[j, j])
            columns.append(xp.where(np.arange(a.shape[0]) >= j, column, 0))
            a = a - xp.outer(column, column)
        return xp.stack(columns, axis=1)

    def expm(a: Any) -> Any:
        """The series at a/64, squared six times."""
        term = total = xp.eye(a.shape[-1])
        for n in range(1, 19):
            term = term @ a / (64 * n)
            total = total + term
        for _ in range(6):
            total = total @ total
        return total

    def sqrtm(a: Any) -> Any:
        """Denman and Beavers' iteration."""
        y, z = a, xp.eye(a.shape[-1])
        for _ in range(12):
            y, z = (y + xp.linalg.inv(z)) / 2, (z + xp.linalg.inv(y)) / 2
        return y

    def eigvalsh(a: Any) -> Any:
        """Of complex numbers that are all but real: to the first order, by the vectors of the real part."""
        a = (a + a.T) / 2
        if xp is not np:
            return xp.linalg.eigvalsh(a)
        values, vectors = np.linalg.eigh(np.real(a))
        note(np.diff(values) / 100)
        return np.einsum("ji,jk,ki->i", vectors, a, vectors)

    def special(name: str) -> Callable[..., Any]:
        if xp is np:
            return getattr(scipy.special, {"lgamma": "loggamma"}.get(name, name))  # type: ignore[no-any-return]
        import jax.scipy.special

        return getattr(jax.scipy.special, {"lgamma": "gammaln"}.get(name, name))  # type: ignore[no-any-return]

    def places(size: int) -> list[tuple[int, int]]:
        return [(i, j) for j in range(size) for i in range(j, size)]

    def vech(a: Any) -> Any:
        return xp.stack([a[i, j] for i, j in places(a.shape[0])])

    def duplication(size: int) -> Any:
        found = np.zeros((size * size, size * (size + 1) // 2))
        for column, (i, j) in enumerate(places(size)):
            found[[j * size + i, i * size + j], column] = 1
        return found

    def elimination(size: int) -> Any:
        return np.stack([np.eye(size * size)[j * size + i] for i, j in places(size)])

    def block_diag(a: Any, b: Any) -> Any:
        above = xp.concatenate([a, np.zeros((a.shape[0], b.shape[1]))], axis=1)
        return xp.concatenate([above, xp.concatenate([np.zeros((b.shape[0], a.shape[1])), b], axis=1)], axis=0)

    def logdet(a: Any) -> Any:
        return xp.log(xp.linalg.det(a) ** 2) / 2

    def norm(a: Any) -> Any:
        return root(xp.sum(a * a))

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + xp.exp(-a))

    def solve(a: Any, b: Any) -> Any:
        return xp.linalg.solve(a, b) if b.ndim != 1 else xp.linalg.solve(a, b[:, None])[:, 0]

    own = (
        vec, unvec, khatri_rao, absolute, logdet, norm, sigmoid, solve, relu, choose, maximum, minimum, largest,
        smallest, var, std, logsumexp, softmax, softplus, norm_of, adjugate, matrix_power, pinv, cholesky, expm, sqrtm,
        eigvalsh, vech, duplication, elimination, block_diag,
    )  # fmt: skip
    constant = {"positions": np.array}  # whatever traces the rest
    return {
        **constant,
        **{f.__name__: f for f in own},
        **{name: special(name) for name in ("erf", "lgamma", "digamma")},
    }


REDUCTIONS = (
    ("sum", "np.sum"),
    ("mean", "np.mean"),
    ("prod", "np.prod"),
    ("var", "var"),
    ("std", "std"),
    ("max", "largest"),
    ("min", "smallest"),
    ("logsumexp", "logsumexp"),
)


class Generator:
    """Draws expressions; `below(n)` gives a whole number in range(n), and small ones are the simple choices."""

    def __init__(self, below: Callable[[int], int], symbols: int = 4) -> None:
        self.below = below
        self.most_symbols = symbols
        self.symbols: list[tuple[str, Shape, bool]] = []
        self.constants: list[tuple[str, tuple[int, ...]]] = []

    def choose(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def size(self) -> Size:
        return self.choose(SIZES)

    def shape(self, most: int = 3) -> Shape:
        return tuple(self.size() for _ in range(self.below(most + 1)))

    # --- leaves ---------------------------------------------------------------------------------------------------

    def symbol(self, shape: Shape, regular: bool = False) -> Node:
        known = [name for name, own, sure in self.symbols if own == shape and sure >= regular]
        if known and (self.below(4) or len(self.symbols) >= self.most_symbols):
            name = self.choose(known)
        else:
            name = "axATUV"[min(len(shape), 5)] + str(len(self.symbols))
            self.symbols.append((name, shape, regular))
        return Node(name, name, shape)

    def leaf(self, shape: Shape) -> Node:
        kind = self.below(20) - 10
        sizes = ", ".join(s.text for s in shape)
        numbers = tuple(s.number for s in shape)
        if kind == 7 and shape:
            return Node(f"td.ones({sizes})", f"np.ones({numbers})", shape)
        if kind == 8 and len(shape) == 2 and shape[0] == shape[1]:
            return Node(f"td.identity({sizes.split(',')[0]})", f"np.eye({numbers[0]})", shape)
        if kind == 8 and len(shape) == 1:
            place = self.below(numbers[0])
            return Node(f"td.basis({sizes}, {place})", f"np.eye({numbers[0]})[{place}]", shape)
        if kind == 9 and shape and self.below(2):
            return Node(f"td.zeros({sizes})", f"np.zeros({numbers})", shape)
        if kind == 9 and shape and all(s.text.isdigit() for s in shape):
            name = f"c{len(self.constants)}"
            self.constants.append((name, numbers))
            return Node(f"td.constant({name})", name, shape)
        return self.symbol(shape)

    # --- expressions of a shape -----------------------------------------------------------------------------------

    def of_shape(self, shape: Shape, depth: int) -> Node:
        """An expression of the shape asked for."""
        if depth <= 0:
            return self.leaf(shape)
        ways = [self.leaf, self.sum_of, self.product_of, self.function_of, self.quotient_of]
        if len(shape) in (1, 2):
            ways.append(self.matmul_of)
        if shape:
            ways += [self.transpose_of, self.softmax_of]
        if len(shape) == 2:
            ways.append(self.outer_of)
            if shape[0] == shape[1]:
                ways += [self.diagonal_of, self.inverse_of]
            ways.append(self.triangle_of)
        if len(shape) < 3:
            ways.append(self.reduction_of)
        ways.append(self.choice_of)
        way = self.choose(ways)
        return way(shape) if way == self.leaf else way(shape, depth - 1)

    def broadcastable(self, shape: Shape) -> Shape:
        """A shape that broadcasts to `shape`."""
        if self.below(3):
            return shape
        kept = shape[self.below(len(shape) + 1) :]
        return tuple(ONE if self.below(4) == 3 else size for size in kept)

    def sum_of(self, shape: Shape, depth: int) -> Node:
        a, b = self.of_shape(shape, depth), self.of_shape(self.broadcastable(shape), depth)
        way = self.below(5)
        if way == 4:
            return Node(f"({a.dsl} - 1.5)", f"({a.numpy} - 1.5)", shape)
        if way == 3:
            return Node(f"({b.dsl} - {a.dsl})", f"({b.numpy} - {a.numpy})", shape)
        sign = "+" if way < 2 else "-"
        return Node(f"({a.dsl} {sign} {b.dsl})", f"({a.numpy} {sign} {b.numpy})", shape)

    def product_of(self, shape: Shape, depth: int) -> Node:
        a, b = self.of_shape(shape, depth), self.of_shape(self.broadcastable(shape), depth)
        way = self.below(5)
        if way == 4:
            return Node(f"(-{a.dsl})", f"(-{a.numpy})", shape)
        if way == 3:
            return Node(f"(3 * {a.dsl} / 2)", f"(3 * {a.numpy} / 2)", shape)
        if way == 2 and b.shape == a.shape:
            return Node(f"td.hadamard({a.dsl}, {b.dsl})", f"({a.numpy} * {b.numpy})", shape)
        return Node(f"({a.dsl} * {b.dsl})", f"({a.numpy} * {b.numpy})", shape)

    def quotient_of(self, shape: Shape, depth: int) -> Node:
        a, b = self.of_shape(shape, depth), self.of_shape(self.broadcastable(shape), depth)
        if self.below(3) == 2:
            return Node(f"(2 / (1 + {a.dsl}**2))", f"(2 / (1 + {a.numpy}**2))", shape)
        return Node(f"({a.dsl} / ({b.dsl} * {b.dsl} + 1))", f"({a.numpy} / ({b.numpy} * {b.numpy} + 1))", shape)

    def function_of(self, shape: Shape, depth: int) -> Node:
        a = self.of_shape(shape, depth)
        dsl, text = self.choose(
            [
                ("td.sin({0})", "np.sin({0})"),
                ("td.cos({0})", "np.cos({0})"),
                ("td.tanh({0})", "np.tanh({0})"),
                ("td.exp({0} / 4)", "np.exp({0} / 4)"),
                ("td.sigmoid({0})", "sigmoid({0})"),
                ("{0}**2", "{0}**2"),
                ("{0}**3", "{0}**3"),
                ("{0}**6", "{0}**6"),
                ("td.power({0}, 5)", "{0}**5"),
                ("td.log({0}**2 + 1)", "np.log({0}**2 + 1)"),
                ("td.sqrt({0}**2 + 1)", "np.sqrt({0}**2 + 1)"),
                ("({0}**2 + 1)**-1.5", "({0}**2 + 1)**-1.5"),
                ("({0}**2 + 1)**td.sin({0})", "({0}**2 + 1)**np.sin({0})"),
                ("2**td.sin({0})", "2**np.sin({0})"),
                ("abs({0})", "absolute({0})"),
                ("td.abs({0})", "absolute({0})"),
                ("np.exp(td.sin({0}))", "np.exp(np.sin({0}))"),
                ("({0}**2 + 1)**0.5", "np.sqrt({0}**2 + 1)"),
                ("td.expm1({0} / 4)", "np.expm1({0} / 4)"),
                ("td.log1p({0}**2)", "np.log1p({0}**2)"),
                ("td.tan(td.tanh({0}))", "np.tan(np.tanh({0}))"),
                ("td.arcsin(td.sin({0}) / 2)", "np.arcsin(np.sin({0}) / 2)"),
                ("td.arccos(td.tanh({0}) / 2)", "np.arccos(np.tanh({0}) / 2)"),
                ("td.arctan({0})", "np.arctan({0})"),
                ("td.arctan2({0}, 3 + {0}**2)", "np.arctan({0} / (3 + {0}**2))"),
                ("td.arcsinh({0})", "np.arcsinh({0})"),
                ("td.arccosh({0}**2 + 2)", "np.arccosh({0}**2 + 2)"),
                ("td.arctanh(td.sin({0}) / 2)", "np.arctanh(np.sin({0}) / 2)"),
                ("td.sinh({0} / 4)", "np.sinh({0} / 4)"),
                ("td.cosh({0} / 4)", "np.cosh({0} / 4)"),
                ("td.softplus({0})", "softplus({0})"),
                ("td.square({0})", "{0}**2"),
                ("td.reciprocal({0}**2 + 2)", "1 / ({0}**2 + 2)"),
                ("td.erf({0} / 2)", "erf({0} / 2)"),
                ("td.lgamma({0}**2 + 0.5)", "lgamma({0}**2 + 0.5)"),
                ("td.digamma({0}**2 + 0.5)", "digamma({0}**2 + 0.5)"),
                ("td.relu({0})", "relu({0})"),
                ("td.sign({0})", "choose('greater', {0}, 0, 1.0, choose('less', {0}, 0, -1.0, 0.0))"),
            ]
        )
        dsl = dsl.replace("np.exp", "td.exp")
        return Node(f"({dsl.format(a.dsl)})", f"({text.format(a.numpy)})", shape)

    def matmul_of(self, shape: Shape, depth: int) -> Node:
        inner = (self.size(),)
        if len(shape) == 1:
            left, right = (((*shape, *inner), inner), (inner, (*inner, *shape)))[self.below(2)]
        else:
            left, right = (shape[0], *inner), (*inner, shape[1])
        a, b = self.of_shape(left, depth), self.of_shape(right, depth)
        return Node(f"({a.dsl} @ {b.dsl})", f"({a.numpy} @ {b.numpy})", shape)

    def transpose_of(self, shape: Shape, depth: int) -> Node:
        if self.below(2):
            order = [*range(len(shape))]
            for place in range(len(order) - 1, 0, -1):
                other = self.below(place + 1)
                order[place], order[other] = order[other], order[place]
            source = [ONE] * len(shape)
            for place, axis in enumerate(order):
                source[axis] = shape[place]
            a = self.of_shape(tuple(source), depth)
            return Node(f"td.transpose({a.dsl}, {tuple(order)})", f"np.transpose({a.numpy}, {tuple(order)})", shape)
        a = self.of_shape(shape[::-1], depth)
        return Node(f"{a.dsl}.T", f"{a.numpy}.T", shape)

    def outer_of(self, shape: Shape, depth: int) -> Node:
        a, b = self.of_shape(shape[:1], depth), self.of_shape(shape[1:], depth)
        return Node(f"td.outer({a.dsl}, {b.dsl})", f"np.outer({a.numpy}, {b.numpy})", shape)

    def diagonal_of(self, shape: Shape, depth: int) -> Node:
        a = self.of_shape(shape[:1], depth)
        return Node(f"td.diag({a.dsl})", f"np.diag({a.numpy})", shape)

    def reduction_of(self, shape: Shape, depth: int) -> Node:
        axis = self.below(len(shape) + 1)
        a = self.of_shape((*shape[:axis], self.size(), *shape[axis:]), depth)
        name, text = self.choose(REDUCTIONS)
        if self.below(3) == 2 and shape:
            keep = tuple(slice(None) if p != axis else 0 for p in range(a.ndim))
            keys = ", ".join(":" if isinstance(key, slice) else "0" for key in keep)
            return Node(
                f"td.{name}({a.dsl}, axis={axis - a.ndim}, keepdims=True)[{keys}]",
                f"{text}({a.numpy}, axis={axis})",
                shape,
            )
        if name == "logsumexp" or self.below(2):
            return Node(f"td.{name}({a.dsl}, axis={axis})", f"{text}({a.numpy}, axis={axis})", shape)
        return Node(f"{a.dsl}.{name}(axis={axis})", f"{text}({a.numpy}, axis={axis})", shape)

    def softmax_of(self, shape: Shape, depth: int) -> Node:
        a, axis = self.of_shape(shape, depth), self.below(len(shape)) - len(shape)
        return Node(f"td.softmax({a.dsl}, axis={axis})", f"softmax({a.numpy}, axis={axis})", shape)

    def triangle_of(self, shape: Shape, depth: int) -> Node:
        a, name, k = self.of_shape(shape, depth), self.choose(["tril", "triu"]), self.below(3) - 1
        return Node(f"td.{name}({a.dsl}, {k})", f"np.{name}({a.numpy}, {k})", shape)

    def choice_of(self, shape: Shape, depth: int) -> Node:
        """One of two, entry by entry."""
        a, b = self.of_shape(shape, depth), self.of_shape(self.broadcastable(shape), depth)
        way = self.below(5)
        if way < 2:
            name = ("maximum", "minimum")[way]
            return Node(f"td.{name}({a.dsl}, {b.dsl})", f"{name}({a.numpy}, {b.numpy})", shape)
        if way == 2:
            return Node(
                f"td.clip({a.dsl}, -0.75, {b.dsl}**2)", f"minimum(maximum({a.numpy}, -0.75), {b.numpy}**2)", shape
            )
        sign, name = self.choose([(">", "greater"), ("<", "less"), (">=", "greater_equal"), ("<=", "less_equal")])
        c = self.of_shape(shape, depth)
        if way == 3:
            return Node(
                f"td.where({a.dsl} {sign} {b.dsl}, {c.dsl}, {b.dsl})",
                f"choose('{name}', {a.numpy}, {b.numpy}, {c.numpy}, {b.numpy})",
                shape,
            )
        return Node(
            f"(td.{name}({b.dsl}, 0.1) * {c.dsl})", f"(choose('{name}', {b.numpy}, 0.1, 1.0, 0.0) * {c.numpy})", shape
        )

    def regular(self, size: Size, depth: int) -> Node:
        """An invertible matrix."""
        shape, way = (size, size), self.below(4)
        if depth <= 0 or way < 2:
            return self.symbol(shape, regular=True)
        a = self.of_shape(shape, depth - 1)
        eye = f"td.identity({size.text})", f"np.eye({size.number})"
        if way == 2:
            return Node(
                f"(td.tanh({a.dsl}) + {size.number + 1} * {eye[0]})",
                f"(np.tanh({a.numpy}) + {size.number + 1} * {eye[1]})",
                shape,
            )
        b = self.symbol((size, self.size()))
        return Node(f"({b.dsl} @ {b.dsl}.T + {eye[0]})", f"({b.numpy} @ {b.numpy}.T + {eye[1]})", shape)

    def inverse_of(self, shape: Shape, depth: int) -> Node:
        a = self.regular(shape[0], depth)
        return Node(f"td.linalg.inv({a.dsl})", f"np.linalg.inv({a.numpy})", shape)

    # --- expressions of any shape ---------------------------------------------------------------------------------

    def any(self, depth: int) -> Node:
        """An expression of any shape: every operator, most of them choosing their own."""
        ways = [
            lambda d: self.of_shape(self.shape(), d + 1),
            self.kron,
            self.vec,
            self.unvec,
            self.khatri_rao,
            self.einsum,
            self.einsum,
            self.index_notation,
            self.slice,
            self.slice,
            self.tensordot,
            self.inner_or_dot,
            self.trace,
            self.sum_all,
            self.linear_algebra,
            self.stacked_matmul,
            self.grouped_product,
            self.sliced_product,
            self.concatenate,
            self.blocks,
            self.axes,
            self.reshape,
            self.taken,
            self.scalar_product,
            self.spectral,
            self.norms,
            self.vech,
        ]
        for _ in range(20):
            node = self.choose(ways)(depth - 1)
            entries = 1
            for size in node.shape:
                entries *= size.number
            if node.ndim <= MOST_AXES and entries <= MOST_ENTRIES:
                return node
        return self.of_shape(self.shape(2), depth)

    def inside(self, depth: int, most: int = 3) -> Node:
        """An operand with `most` axes at the most: of any operator, or of a drawn shape."""
        if depth > 0 and self.below(2):
            node = self.any(depth)
            if node.ndim <= most:
                return node
        return self.of_shape(self.shape(most), depth)

    def kron(self, depth: int) -> Node:
        a, b = self.inside(depth, 2), self.inside(depth, 2)
        ndim = max(a.ndim, b.ndim)
        left, right = ((ONE,) * (ndim - n.ndim) + n.shape for n in (a, b))
        return Node(
            f"td.kron({a.dsl}, {b.dsl})",
            f"np.kron({a.numpy}, {b.numpy})",
            tuple(p * q for p, q in zip(left, right, strict=True)),
        )

    def grouped_product(self, depth: int) -> Node:
        """A Kronecker product times a vec: the join of groups."""
        p, q, r, s = (self.size() for _ in range(4))
        a, b, c = (self.of_shape(shape, depth - 1) for shape in ((p, q), (r, s), (s, q)))
        return Node(
            f"(td.kron({a.dsl}, {b.dsl}) @ td.vec({c.dsl}))",
            f"(np.kron({a.numpy}, {b.numpy}) @ vec({c.numpy}))",
            (p * r,),
        )

    def vec(self, depth: int) -> Node:
        a = self.inside(depth)
        size = ONE
        for other in a.shape:
            size = size * other
        if a.ndim == 0:
            return a
        return Node(f"td.vec({a.dsl})", f"vec({a.numpy})", (size,))

    def unvec(self, depth: int) -> Node:
        shape = (self.size(), self.size(), self.size())[: 2 + self.below(2)]
        size = ONE
        for other in shape:
            size = size * other
        kept = self.shape(3)
        if len(kept) == 2 and self.below(2) and kept[0] * kept[1] == size:
            a = self.of_shape(kept, depth)
            a = Node(f"td.vec({a.dsl})", f"vec({a.numpy})", (size,))
        elif self.below(2):
            first = self.of_shape(shape[1:][:1] if len(shape) == 2 else (shape[1] * shape[2],), depth - 1)
            second = self.of_shape(shape[:1], depth - 1)
            a = Node(f"td.kron({first.dsl}, {second.dsl})", f"np.kron({first.numpy}, {second.numpy})", (size,))
        else:
            a = self.of_shape((size,), depth)
        sizes = "".join(f"{s.text}, " for s in shape)
        return Node(f"td.unvec({a.dsl}, ({sizes}))", f"unvec({a.numpy}, {tuple(s.number for s in shape)})", shape)

    def khatri_rao(self, depth: int) -> Node:
        p, q, r = self.size(), self.size(), self.size()
        a, b = self.of_shape((p, r), depth), self.of_shape((q, r), depth)
        return Node(f"td.khatri_rao({a.dsl}, {b.dsl})", f"khatri_rao({a.numpy}, {b.numpy})", (p * q, r))

    def tensordot(self, depth: int) -> Node:
        a = self.inside(depth)
        count = self.below(min(2, a.ndim) + 1)
        extra = self.shape(1)
        if self.below(2):
            axes = [a.ndim - 1 - p for p in range(count)]
            b = self.of_shape((*(a.shape[axis] for axis in axes), *extra), depth)
            pairs = f"({axes}, {[*range(count)]})"
            kept = a.shape[: a.ndim - count]
        else:
            b = self.of_shape((*a.shape[a.ndim - count :], *extra), depth)
            pairs, kept = str(count), a.shape[: a.ndim - count]
        return Node(
            f"td.tensordot({a.dsl}, {b.dsl}, {pairs})", f"np.tensordot({a.numpy}, {b.numpy}, {pairs})", (*kept, *extra)
        )

    def inner_or_dot(self, depth: int) -> Node:
        a = self.inside(depth)
        extra = self.shape(2)
        if a.ndim == 0:
            b = self.of_shape(extra, depth)
            name = self.choose(["dot", "inner"])
            return Node(f"td.{name}({a.dsl}, {b.dsl})", f"np.{name}({a.numpy}, {b.numpy})", extra)
        if self.below(2):
            b = self.of_shape((*extra, a.shape[-1]), depth)
            return Node(f"td.inner({a.dsl}, {b.dsl})", f"np.inner({a.numpy}, {b.numpy})", (*a.shape[:-1], *extra))
        shape = (*extra[:-1], a.shape[-1], *extra[-1:])
        b = self.of_shape(shape, depth)
        return Node(f"td.dot({a.dsl}, {b.dsl})", f"np.dot({a.numpy}, {b.numpy})", (*a.shape[:-1], *extra))

    def stacked_matmul(self, depth: int) -> Node:
        stack, rows, inner, columns = self.size(), self.size(), self.size(), self.size()
        way = self.below(4)
        left = (rows, inner) if way == 0 else (stack, rows, inner)
        right = {0: (stack, inner, columns), 1: (inner, columns), 2: (ONE, inner, columns), 3: (inner,)}[way]
        a, b = self.of_shape(left, depth), self.of_shape(right, depth)
        shape = (stack, rows) if way == 3 else (stack, rows, columns)
        return Node(f"({a.dsl} @ {b.dsl})", f"({a.numpy} @ {b.numpy})", shape)

    def trace(self, depth: int) -> Node:
        size, extra = self.size(), self.shape(1)
        a = self.of_shape((size, size, *extra), depth)
        if self.below(2):
            return Node(f"td.trace({a.dsl})", f"np.trace({a.numpy})", extra)
        if not extra and self.below(2):
            return Node(f"td.diag({a.dsl})", f"np.diag({a.numpy})", (size,))
        return Node(f"td.diagonal({a.dsl})", f"np.diagonal({a.numpy})", (*extra, size))

    def sum_all(self, depth: int) -> Node:
        a = self.inside(depth)
        name, word = self.choose(REDUCTIONS)
        if name not in ("sum", "mean"):
            axis = "" if name != "logsumexp" else ", axis=None"
            return Node(f"td.{name}({a.dsl}{axis})", f"{word}({a.numpy}{axis})", ()) if a.ndim else a
        if a.ndim > 1 and self.below(2):
            axes = (0, a.ndim - 1)
            shape = tuple(ONE if p in axes else size for p, size in enumerate(a.shape))
            return Node(
                f"td.{name}({a.dsl}, axis=(0, -1), keepdims=True)",
                f"np.{name}({a.numpy}, axis={axes}, keepdims=True)",
                shape,
            )
        return Node(f"td.{name}({a.dsl})", f"np.{name}({a.numpy})", ())

    def linear_algebra(self, depth: int) -> Node:
        size = self.size()
        a = self.regular(size, depth)
        way = self.below(5)
        if way == 0:
            return Node(f"td.linalg.det({a.dsl})", f"np.linalg.det({a.numpy})", ())
        if way == 1:
            return Node(f"td.logdet({a.dsl})", f"logdet({a.numpy})", ())
        if way == 2:
            b = self.inside(depth)
            return Node(
                f"td.linalg.norm(td.vec({b.dsl}) + 7)" if b.ndim else f"td.linalg.norm({b.dsl})",
                f"norm(vec({b.numpy}) + 7)" if b.ndim else f"absolute({b.numpy})",
                (),
            )
        if way == 3:
            return Node(f"td.linalg.inv({a.dsl})", f"np.linalg.inv({a.numpy})", (size, size))
        b = self.of_shape((size,) if self.below(2) else (size, self.size()), depth)
        return Node(f"td.linalg.solve({a.dsl}, {b.dsl})", f"solve({a.numpy}, {b.numpy})", b.shape)

    def slice(self, depth: int) -> Node:
        a = self.inside(depth)
        keys: list[str] = []
        shape: list[Size] = []
        for size in a.shape:
            n, known = size.number, size.text.isdigit()
            way = self.below(6)
            if way == 0 or n == 1:
                keys.append(":")
                shape.append(size)
            elif way == 1:
                keys.append(str(self.below(2 * n) - n if known else (0, 1, -1)[self.below(3)]))
            elif way == 2:
                keys.append("::-1")
                shape.append(size)
            elif way == 3 or not known:
                start, stop = (1, n) if self.below(2) or not known else (self.below(n), n - self.below(2))
                key = slice(start, None if stop == n else stop)
                length = len(range(n)[key])
                if length == 0 or not known:
                    key, length = (slice(1, None), n - 1)
                    shape.append(Size(f"({size.text} - 1)" if not known else str(length), length))
                else:
                    shape.append(Size(str(length), length))
                keys.append(f"{key.start}:{'' if key.stop is None else key.stop}")
            else:
                start, stop, step = self.choose(
                    [
                        (None, None, 2),
                        (None, None, -2),
                        (-1, 0, -1),
                        (-2, None, -1),
                        (1, -1, 1),
                        (None, 3, 2),
                        (3, None, -2),
                        (None, -1, 1),
                    ]
                )
                key = slice(start, stop, step)
                length = len(range(n)[key])
                if length == 0:
                    key, length = slice(0, 1), 1
                keys.append(":".join("" if v is None else str(v) for v in (key.start, key.stop, key.step)))
                shape.append(Size(str(length), length))
        if self.below(3) == 2:
            place = self.below(len(keys) + 1)
            before = sum(1 for key in keys[:place] if ":" in key)
            keys.insert(place, "None")
            shape.insert(before, ONE)
        if keys and keys[-1] == ":" and self.below(2):
            keys[-1] = "..."
        if not keys:
            return a
        text = ", ".join(keys)
        found = tuple(shape)
        if any("(" in s.text for s in found):  # sizes such as k - 1 stay inside
            return Node(f"td.sum({a.dsl}[{text}])", f"np.sum({a.numpy}[{text}])", ())
        return Node(f"{a.dsl}[{text}]", f"{a.numpy}[{text}]", found)

    def sliced_product(self, depth: int) -> Node:
        """A slice of a product of slices."""
        extra = self.shape(1)
        a, b = self.of_shape((SIZES[3], *extra), depth - 1), self.of_shape((SIZES[2], *extra), depth - 1)
        first = self.choose(["1:", ":-1", ":0:-1", "-2::-1"])
        second, left = self.choose([("::-1", 4), ("1:", 3), ("::2", 2), ("::-2", 2), ("1::2", 2), ("-1", 0)])
        shape = (*((Size(str(left), left),) if left else ()), *extra)
        return Node(f"({a.dsl}[{first}] * {b.dsl})[{second}]", f"({a.numpy}[{first}] * {b.numpy})[{second}]", shape)

    def concatenate(self, depth: int) -> Node:
        """Tensors one after the other, kept where the sizes are plain, multiplied where they are not; or stacked."""
        rows, p, q = self.size(), self.size(), self.size()
        way = self.below(3)
        if way == 0:
            a, b = self.of_shape((p, rows), depth - 1), self.of_shape((p, rows), depth - 1)
            axis = self.below(6) - 3
            shape = [p, rows]
            shape.insert(axis % 3, Size("2", 2))
            return Node(
                f"td.stack([{a.dsl}, {b.dsl}], axis={axis})",
                f"np.stack([{a.numpy}, {b.numpy}], axis={axis})",
                tuple(shape),
            )
        a, b = self.of_shape((rows, p), depth - 1), self.of_shape((rows, q), depth - 1)
        whole = f"concatenate([{a.dsl}, {b.dsl}], axis=1)", f"concatenate([{a.numpy}, {b.numpy}], axis=1)"
        if way == 1 and p.text.isdigit() and q.text.isdigit():
            total = Size(str(p.number + q.number), p.number + q.number)
            return Node(f"td.{whole[0]}", f"np.{whole[1]}", (rows, total))
        x, y = self.of_shape((p,), depth - 1), self.of_shape((q,), depth - 1)
        return Node(
            f"(td.{whole[0]} @ td.concatenate([{x.dsl}, {y.dsl}]))",
            f"(np.{whole[1]} @ np.concatenate([{x.numpy}, {y.numpy}]))",
            (rows,),
        )

    def blocks(self, depth: int) -> Node:
        """A block matrix times a vector of two parts, or a quadratic form in them."""
        p, q, r, s = self.size(), self.size(), self.size(), self.size()
        a, d = self.of_shape((p, r), depth - 1), self.of_shape((q, s), depth - 1)
        x, y = self.of_shape((r,), depth - 1), self.of_shape((s,), depth - 1)
        parts = f"td.concatenate([{x.dsl}, {y.dsl}])", f"np.concatenate([{x.numpy}, {y.numpy}])"
        if self.below(2):
            whole = f"td.block_diag({a.dsl}, {d.dsl})", f"block_diag({a.numpy}, {d.numpy})"
        else:
            b, c = self.of_shape((p, s), depth - 1), self.of_shape((q, r), depth - 1)
            whole = tuple(  # type: ignore[assignment]
                f"{word}.block([[{a_}, {b_}], [{c_}, {d_}]])"
                for word, a_, b_, c_, d_ in zip(("td", "np"), a[:2], b[:2], c[:2], d[:2], strict=True)
            )
        if p.text.isdigit() and q.text.isdigit():
            total = Size(str(p.number + q.number), p.number + q.number)
            return Node(f"({whole[0]} @ {parts[0]})", f"({whole[1]} @ {parts[1]})", (total,))
        u = self.of_shape((p,), depth - 1)
        return Node(
            f"({u.dsl} @ ({whole[0]} @ {parts[0]})[:{p.text}])",
            f"({u.numpy} @ ({whole[1]} @ {parts[1]})[:{p.number}])",
            (),
        )

    def axes(self, depth: int) -> Node:
        a = self.inside(depth)
        way = self.below(4)
        if way == 0 or a.ndim == 0:
            place = self.below(a.ndim + 1)
            shape = (*a.shape[:place], ONE, *a.shape[place:])
            return Node(f"td.expand_dims({a.dsl}, {place})", f"np.expand_dims({a.numpy}, {place})", shape)
        if way == 1:
            shape = tuple(size for size in a.shape if size != ONE)
            return Node(f"td.squeeze({a.dsl})", f"np.squeeze({a.numpy})", shape)
        first, second = self.below(a.ndim), self.below(a.ndim)
        order = [*range(a.ndim)]
        if way == 2:
            order[first], order[second] = second, first
        else:
            order.insert(second, order.pop(first))
        name, last = ("swapaxes", "moveaxis")[way - 2], second - a.ndim
        return Node(
            f"td.{name}({a.dsl}, {first}, {last})",
            f"np.{name}({a.numpy}, {first}, {last})",
            tuple(a.shape[axis] for axis in order),
        )

    def reshape(self, depth: int) -> Node:
        p, q, r = self.size(), self.size(), self.size()
        before, after = self.choose([((p, q), (q, p)), ((p, q), (p * q,)), ((p, q, r), (r, p * q)), ((p * q,), (p, q))])
        a = self.of_shape(before, depth - 1)
        order = self.choose(["", ", order='F'"])
        shapes = f"({', '.join(s.text for s in after)},)", str(tuple(s.number for s in after))
        if self.below(3) == 2:
            shapes = (re.sub(r"[\w*]+,?\)$", "-1,)", shapes[0]), shapes[1])
        if order:
            return Node(
                f"td.reshape({a.dsl}, {shapes[0]}{order})",
                f"np.transpose(np.reshape(np.transpose({a.numpy}), {tuple(s.number for s in after[::-1])}))",
                after,
            )
        return Node(f"td.reshape({a.dsl}, {shapes[0]})", f"np.reshape({a.numpy}, {shapes[1]})", after)

    def taken(self, depth: int) -> Node:
        """Entries by a list of positions, some of them twice."""
        a = self.inside(depth)
        if a.ndim == 0:
            return a
        axis = self.below(a.ndim)
        size = a.shape[axis]
        least = -size.number if size.text.isdigit() else 0
        count = 2 + self.below(3)
        places = [least + self.below(size.number - least) for _ in range(count)]
        before = ":, " * axis
        shape = (*a.shape[:axis], Size(str(count), count), *a.shape[axis + 1 :])
        return Node(f"{a.dsl}[{before}{places}]", f"{a.numpy}[{before}positions({places})]", shape)

    def scalar_product(self, depth: int) -> Node:
        way = self.below(3)
        if way == 2:
            shape = (Size("3", 3),)
            a, b = self.of_shape(shape, depth - 1), self.of_shape(shape, depth - 1)
            return Node(f"td.cross({a.dsl}, {b.dsl})", f"np.cross({a.numpy}, {b.numpy})", shape)
        shape = (self.size(), self.size()) if way else (self.size(),)
        a, b = self.of_shape(shape, depth - 1), self.of_shape(shape, depth - 1)
        name = "frobenius" if way else "vdot"
        return Node(f"td.{name}({a.dsl}, {b.dsl})", f"np.sum({a.numpy} * {b.numpy})", ())

    def spectral(self, depth: int) -> Node:
        """Functions of matrices, of arguments that have them."""
        size = self.choose(SIZES[:3])
        a = self.of_shape((size, size), depth - 1)
        eye = f"td.identity({size.text})", f"np.eye({size.number})"
        n = size.number + 1
        heavy = Node(f"(td.tanh({a.dsl}) + {n} * {eye[0]})", f"(np.tanh({a.numpy}) + {n} * {eye[1]})", a.shape)
        way = self.below(9)
        if way == 0:
            power = self.choose([2, 3, 0, -1, -2])
            return Node(
                f"td.linalg.matrix_power({heavy.dsl}, {power})", f"matrix_power({heavy.numpy}, {power})", a.shape
            )
        if way == 1:
            return Node(f"td.linalg.adjugate({heavy.dsl})", f"adjugate({heavy.numpy})", a.shape)
        if way == 2:
            b = self.symbol((size, self.choose([other for other in SIZES if other != size])))
            return Node(f"td.linalg.pinv({b.dsl})", f"pinv({b.numpy})", b.shape[::-1])
        if way == 3:
            return Node(f"td.linalg.cholesky({heavy.dsl})", f"cholesky({heavy.numpy})", a.shape)
        if way == 4:
            return Node(f"td.linalg.eigvalsh({a.dsl})", f"eigvalsh({a.numpy})", a.shape[:1])
        if way == 5:
            return Node(f"td.linalg.expm(td.tanh({a.dsl}))", f"expm(np.tanh({a.numpy}))", a.shape)
        if way == 6:
            return Node(f"td.linalg.sqrtm({heavy.dsl})", f"sqrtm({heavy.numpy})", a.shape)
        if way == 7:  # V f(λ) Vᵀ, whatever the signs of V: the exponential of the symmetric part
            b = self.symbol((size, size))
            vectors = f"td.linalg.eigenvectors({b.dsl})"
            return Node(
                f"({vectors} * td.exp(td.linalg.eigvalsh({b.dsl}) / 4) @ {vectors}.T)",
                f"(expm(({b.numpy} + {b.numpy}.T) / 8) + 0 * np.sum(eigvalsh({b.numpy})))",
                b.shape,
            )
        b = self.symbol((size, self.size()))
        return Node(
            f"td.linalg.cholesky({b.dsl} @ {b.dsl}.T + {eye[0]})",
            f"cholesky({b.numpy} @ {b.numpy}.T + {eye[1]})",
            a.shape,
        )

    def norms(self, depth: int) -> Node:
        a = self.of_shape((self.size(), self.size()), depth - 1)
        axis, ord = self.below(2), self.choose(["2", "1", "3", "np.inf", "-np.inf"])
        if self.below(3) == 2:
            word = "'fro'" if self.below(2) else "None, axis=(0, 1)"
            return Node(f"td.linalg.norm({a.dsl}, {word})", f"norm({a.numpy})", ())
        keep = self.below(2) == 1
        shape = (ONE, a.shape[1]) if keep and axis == 0 else (a.shape[0], ONE) if keep else a.shape[1 - axis :][:1]
        return Node(
            f"td.linalg.norm({a.dsl}, {ord.replace('np.inf', 'inf')}, axis={axis}, keepdims={keep})",
            f"norm_of({a.numpy}, {ord}, {axis}, {keep})",
            shape,
        )

    def vech(self, depth: int) -> Node:
        size = self.size()
        a = self.of_shape((size, size), depth - 1)
        way = self.below(3)
        if way == 0:
            return Node(
                f"(td.duplication({size.text}) @ td.vech({a.dsl}))",
                f"(duplication({size.number}) @ vech({a.numpy}))",
                (size * size,),
            )
        if way == 1:
            return Node(f"td.sum(td.vech({a.dsl})**2)", f"np.sum(vech({a.numpy})**2)", ())
        b = self.of_shape((size, size), depth - 1)
        return Node(
            f"(td.elimination({size.text}) @ td.vec({a.dsl}) @ td.vech({b.dsl}))",
            f"(elimination({size.number}) @ vec({a.numpy}) @ vech({b.numpy}))",
            (),
        )

    def einsum(self, depth: int) -> Node:
        """Operands share letters; the output may repeat a letter, have one of its own, and group them."""
        count = 1 + self.below(3)
        operands = [self.inside(depth - (count > 1)) for _ in range(count)]
        letters: dict[str, Size] = {}
        terms, reshaped, grouped = [], [], ""
        for node in operands:
            term, flat, plain = "", "", []
            for size in node.shape:
                if "*" in size.text and self.below(2):  # an axis that is a group
                    parts = [Size(part, DIMS.get(part) or int(part)) for part in size.text.split("*")]
                else:
                    parts = [size]
                axis = "".join(self._letter(letters, part) for part in parts)
                grouped += axis if len(axis) > 1 else ""
                term += axis if len(axis) == 1 else f"({axis})"
                flat += axis
                plain += [part.number for part in parts]
            terms.append(term)
            reshaped.append((f"{node.numpy}.reshape({tuple(plain)})" if "(" in term else node.numpy, flat))
        kept = [letter for letter in letters if self.below(2)][:3]
        extra = ""
        sizes = "".join(f", {letter}={letters[letter].text}" for letter in sorted(set(grouped)))
        if self.below(4) == 3:  # a letter that stands in no operand
            extra = "z"
            letters["z"] = self.choose(SIZES[:2] + SIZES[2:3])
            kept.insert(self.below(len(kept) + 1), "z")
            sizes += f", z={letters['z'].text}"
        if kept and len(kept) < 4 and self.below(3) == 2:  # a letter that repeats: a δ
            kept.insert(self.below(len(kept) + 1), self.choose(kept))
        groups: list[str] = []
        for letter in kept:
            if groups and self.below(4) == 3:
                groups[-1] += letter
            else:
                groups.append(letter)
        inputs = [flat for _, flat in reshaped]
        arguments = [text for text, _ in reshaped]
        output, seen = "", set()
        for letter in kept:
            if letter in seen:
                new = next(c for c in "ZYXWVU" if c not in output)
                inputs.append(letter + new)
                arguments.append(f"np.eye({letters[letter].number})")
                output += new
            else:
                output += letter
            seen.add(letter)
        if extra:
            inputs.append("z")
            arguments.append(f"np.ones({letters['z'].number})")
        shape = []
        for group in groups:
            size = ONE
            for letter in group:
                size = size * letters[letter]
            shape.append(size)
        text = f"np.einsum('{','.join(inputs)}->{output}', {', '.join(arguments)})"
        if any(len(group) > 1 for group in groups):
            text += f".reshape({tuple(s.number for s in shape)})"
        after = "".join(group if len(group) == 1 else f"({group})" for group in groups)
        return Node(
            f"td.einsum('{','.join(terms)}->{after}', {', '.join(n.dsl for n in operands)}{sizes})", text, tuple(shape)
        )

    def _letter(self, letters: dict[str, Size], size: Size) -> str:
        same = [letter for letter, other in letters.items() if other == size]
        if same and self.below(3):
            return self.choose(same)
        letter = "abcdefghijklmnopqrs"[len(letters)]
        letters[letter] = size
        return letter

    def index_notation(self, depth: int) -> Node:
        """Two terms: a product, and one that sums over an index of its own."""
        i, j, l = self.size(), self.size(), self.size()
        a, b, c = (self.of_shape(s, depth - 1) for s in ((i, j), (j, l), (i, l)))
        way = self.below(5)
        if way == 0:
            return Node(
                f"({a.dsl}[a_, b_] * {b.dsl}[b_, c_] + {c.dsl}[a_, c_]).tensor(c_, a_)",
                f"({a.numpy} @ {b.numpy} + {c.numpy}).T",
                (l, i),
            )
        if way == 1:
            return Node(
                f"({a.dsl}[a_, b_] * td.exp({c.dsl}[a_, c_] / 8) / 2 - {a.dsl}[a_, b_]**2).tensor(a_)",
                f"(({a.numpy}[:, :, None] * np.exp({c.numpy} / 8)[:, None, :] / 2).sum((1, 2))"
                f" - ({a.numpy}**2).sum(1))",
                (i,),
            )
        if way == 2:
            return Node(
                f"td.sin(td.sum({a.dsl}[a_, b_] * {b.dsl}[b_, c_], over=b_)).tensor(a_, c_)",
                f"np.sin({a.numpy} @ {b.numpy})",
                (i, l),
            )
        if way == 3:
            return Node(
                f"(2 * {a.dsl}[a_, 1] * {c.dsl}[a_, -1] - {c.dsl}[a_, 0]).tensor((a_,))"
                if l.text.isdigit()
                else f"(2 * {a.dsl}[a_, 1] * {c.dsl}[a_, 1] - {c.dsl}[a_, 0]).tensor((a_,))",
                f"(2 * {a.numpy}[:, 1] * {c.numpy}[:, {-1 if l.text.isdigit() else 1}] - {c.numpy}[:, 0])",
                (i,),
            )
        d = self.of_shape((i, i), depth - 1)
        return Node(
            f"({d.dsl}[a_, a_] * {a.dsl}[a_, b_]).tensor((b_, a_))",
            f"(np.diagonal({d.numpy})[:, None] * {a.numpy}).T.reshape(-1)",
            (j * i,),
        )


def draw_case(below: Callable[[int], int], depth: int = 3) -> Case:
    """One case from a source of whole numbers."""
    generator = Generator(below)
    node = generator.any(1 + below(depth))
    if not generator.symbols:
        x = generator.symbol((SIZES[1],))
        node = Node(f"({node.dsl} * td.sum({x.dsl}))", f"({node.numpy} * np.sum({x.numpy}))", node.shape)
    return Case(node.dsl, node.numpy, tuple(generator.symbols), tuple(generator.constants), below(1000))


def random_case(seed: int, depth: int = 3) -> Case:
    """The case of a seed."""
    return draw_case(random.Random(seed).randrange, depth)


@st.composite
def cases(draw: Any, depth: int = 3) -> Case:
    """Random cases that shrink."""
    case = draw_case(lambda n: draw(st.integers(0, n - 1)) if n > 1 else 0, depth)
    assume(case.well_posed)
    return case


# --- independent truth --------------------------------------------------------------------------------------------


def complex_step(function: Callable[[dict[str, Any]], Any], data: dict[str, np.ndarray], name: str) -> np.ndarray:
    """∂function/∂data[name] to the last digit: Im f(x + ih)/h for a step too small to matter, one entry at a time."""
    h = 1e-100
    x = data[name]
    columns = []
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape, complex)
        step[place] = 1j * h
        columns.append(np.imag(function({**data, name: x + step})) / h)
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + x.shape)


def central_differences(
    function: Callable[[dict[str, Any]], Any], data: dict[str, np.ndarray], name: str, h: float = 1e-3
) -> np.ndarray:
    """∂function/∂data[name] to about ten digits: central differences with one Richardson step."""
    x = np.asarray(data[name])
    columns = []
    for place in np.ndindex(x.shape):

        def at(t: float, place: tuple[int, ...] = place) -> Any:
            moved = np.array(x, dtype=np.result_type(x, float))
            moved[place] += t
            return np.asarray(function({**data, name: moved})) * 1.0

        columns.append((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + x.shape)


def close(found: Any, expected: Any, tolerance: float = 1e-8) -> bool:
    """Whether two arrays have one shape and agree, on the scale of the largest entry."""
    found, expected = np.asarray(found) * 1.0, np.asarray(expected) * 1.0
    if found.shape != expected.shape:
        return False
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    return bool(np.all(np.abs(found - expected) <= tolerance * scale))
