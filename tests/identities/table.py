"""The table of published identities: read, put to the test, written as a page, timed.

    python tests/identities/table.py --write          docs/identities.md, from the table
    python tests/identities/table.py --time           what deriving each identity costs

An entry is a TOML table in a file of its subject. Its fields:

    name        one word, unique
    source      where it is published
    symbols     name = shape, such as X = "m n"; "" is a scalar
    kinds       name = kind of the sample data, see `KINDS`; without one, normal numbers
    declare     name = property of the symbol, such as X = "symmetric"
    what        one of `WHAT`
    left        a formula in the text grammar; `wrt` the symbol it is differentiated by
    right       what is published, in the text grammar; `dialect` that of this text
    numpy       the left side, not differentiated, as NumPy source: the truth, which shares no code with the library
    convention  of the gradient
    form, index the very text that the library must print, in the matrix form or the index form
    wish        the text that a reader would write, where the matrix form is correct but not yet as good
    wrong       a published form that is false, or false on these data
    needs       functions and options that are still to come: until then the entry is skipped, and not on the page
    note        what a reader should know: a condition, the layout of the source
"""

from __future__ import annotations

import re
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.special

import tensordsl as td
from tensordsl.functions.record import functions

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "identities.md"

# In the order of the page. The sizes differ, so that a formula transposed or of the wrong side does not fit.
SUBJECTS = {
    "linear": "Linear and bilinear forms",
    "traces": "Traces",
    "determinants": "Determinants",
    "inverses": "Inverses",
    "quadratic": "Quadratic forms and least squares",
    "norms": "Norms and distances",
    "hadamard": "Hadamard products and diagonals",
    "kronecker": "Kronecker products, vec and commutation",
    "elementwise": "Elementwise functions",
    "functions": "Functions of matrices",
    "statistics": "Statistics and learning",
    "second": "Second order",
    "differentials": "Differentials",
    "symmetric": "Symmetric matrices",
    "algebra": "Matrix algebra",
    "errors": "Known errors and unstated conditions",
}
SIZES = {"k": 2, "m": 3, "n": 4, "p": 5, "q": 6}
WHAT = ("gradient", "jacobian", "jacobian_matrix", "hessian", "hessian_matrix", "differential", "equal")
# Of these, NumPy's are not analytic: no complex step goes through them.
REAL_ONLY = re.compile(
    r"\b(abs|norm|slogdet|sign|max|min|maximum|where|eigvalsh|cholesky|svd|pinv|sqrtm|erf|gammaln)\("
)


class Identity(NamedTuple):
    subject: str
    name: str
    source: str
    symbols: dict[str, str]
    what: str
    left: str
    right: str
    numpy: str
    wrt: str = ""
    kinds: dict[str, str] = {}  # noqa: RUF012 - never changed
    declare: dict[str, str] = {}  # noqa: RUF012
    dialect: str = "numpy"
    convention: str = ""
    form: str = ""
    index: str = ""
    wish: str = ""
    wrong: str = ""
    note: str = ""
    needs: tuple[str, ...] = ()

    def shape(self, name: str) -> tuple[td.Dim | int, ...]:
        """The shape of a symbol, or of its differential."""
        text = self.symbols[name if name in self.symbols else name.removeprefix("d")]
        return tuple(int(size) if size.isdigit() else td.dim(size) for size in text.split())

    def known(self) -> dict[str, Any]:
        """The symbols of the formula."""
        return {
            name: td.tensor(name, *self.shape(name), **dict.fromkeys(self.declare.get(name, "").split(), True))
            for name in self.symbols
        }

    def lhs(self) -> td.Expr:
        return td.parse(self.left, **self.known())

    def rhs(self, text: str = "") -> td.Expr:
        """The published side, or another text in its place."""
        known = self.known()
        if self.what == "differential":
            known |= {f"d{name}": td.tensor(f"d{name}", *self.shape(name)) for name in self.moving()}
        return td.parse(text or self.right, dialect=self.dialect, **known)

    def moving(self) -> list[str]:
        """The symbols that vary."""
        return [self.wrt] if self.wrt else list(self.symbols)

    def derive(self, left: td.Expr) -> td.Expr:
        """What this library makes of the left side."""
        if self.what == "equal":
            return left
        known = {symbol.name: symbol for symbol in left.symbols}
        if self.what == "differential":
            return td.differential(left, tuple(known[name] for name in self.moving()))
        by = known[self.wrt]
        if self.convention:
            return td.grad(left, by, convention=self.convention)
        if self.what == "hessian_matrix":
            return td.jacobian_matrix(td.grad(left, by), by)
        return {"gradient": td.grad, "jacobian": td.jacobian, "hessian": td.hessian,
                "jacobian_matrix": td.jacobian_matrix}[self.what](left, by)  # fmt: skip

    def missing(self) -> list[str]:
        """What this library does not have yet of what the entry needs."""
        return [name for name in self.needs if not has(name)]

    # --- data and truth -------------------------------------------------------------------------------------------

    def data(self) -> dict[str, np.ndarray]:
        """Sample data, the same in every run."""
        rng = np.random.default_rng(sum(self.name.encode()))
        names = [*self.symbols, *(f"d{name}" for name in self.moving() if self.what == "differential")]
        return {
            name: KINDS[self.kinds.get(name, "any")](
                rng, tuple(SIZES[str(s)] if isinstance(s, td.Dim) else s for s in self.shape(name))
            )
            for name in names
        }

    def evaluate(self, expression: td.Expr) -> np.ndarray:
        return np.asarray(expression.evaluate(self.data(), **SIZES))

    def plain(self, data: dict[str, np.ndarray]) -> np.ndarray:
        """The undifferentiated left side, by NumPy alone."""
        scope = {"np": np, "linalg": scipy.linalg, "special": scipy.special, **SIZES, **data}
        return np.asarray(eval(self.numpy, scope))

    def truth(self) -> tuple[np.ndarray, float]:
        """The left side by NumPy and numerical differentiation, and the tolerance that this allows."""
        data = self.data()
        if self.what == "equal":
            return self.plain(data), 1e-9
        exact = not REAL_ONLY.search(self.numpy)
        first = complex_step if exact else differences
        if self.what == "differential":
            moved = [np.tensordot(first(self.plain, data, n), data[f"d{n}"], data[f"d{n}"].ndim) for n in self.moving()]
            return np.asarray(sum(moved)), 1e-9 if exact else 1e-8
        found = first(self.plain, data, self.wrt)
        tolerance = 1e-9 if exact else 1e-8
        if self.what.startswith("hessian"):
            found = differences(lambda values: first(self.plain, values, self.wrt), data, self.wrt)
            tolerance = 1e-8 if exact else 1e-5
        if self.what.endswith("matrix"):
            rows = found.ndim - data[self.wrt].ndim
            order = (*reversed(range(rows)), *reversed(range(rows, found.ndim)))
            found = found.transpose(order).reshape(-1, data[self.wrt].size)
        if self.convention in ("symmetric", "vech"):
            both = found + found.T
            found = both / 2 if self.convention == "symmetric" else both - np.diag(np.diag(found))
        return found, tolerance


PROBES: dict[str, Callable[[], object]] = {
    "symmetric": lambda: td.matrix("A", 2, 2, symmetric=True),
    "convention": lambda: td.grad(td.trace(td.matrix("A", 2, 2)), td.matrix("A", 2, 2), convention="vech"),
    "norm(ord=1)": lambda: td.linalg.norm(td.vector("x", 2), ord=1),
    "norm(ord=nuc)": lambda: td.linalg.norm(td.matrix("A", 2, 2), ord="nuc"),
}


def has(name: str) -> bool:
    """Whether there is a function of this name, or an option that a probe asks for."""
    if name not in PROBES:
        return name in functions
    try:
        PROBES[name]()
    except (TypeError, td.UnsupportedError):
        return False
    return True


def complex_step(f: Callable[[dict[str, Any]], Any], data: dict[str, np.ndarray], name: str) -> np.ndarray:
    """∂f/∂data[name] to the last digit, for an f that is analytic: Im f(x + ih)/h."""
    x, h = data[name], 1e-100
    columns = []
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape, complex)
        step[place] = 1j * h
        columns.append(np.imag(f({**data, name: x + step})) / h)
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + x.shape)


def differences(f: Callable[[dict[str, Any]], Any], data: dict[str, np.ndarray], name: str) -> np.ndarray:
    """∂f/∂data[name] to about ten digits: central differences with two Richardson steps."""
    x, h = data[name], 1e-3
    columns = []
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = h
        slopes = [(f({**data, name: x + s * step}) - f({**data, name: x - s * step})) / (2 * s * h) for s in (4, 2, 1)]
        while len(slopes) > 1:
            weight = 4 ** (4 - len(slopes))
            slopes = [(weight * b - a) / (weight - 1) for a, b in pairwise(slopes)]
        columns.append(slopes[0])
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + x.shape)


Shape = tuple[int, ...]


def _spread(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Rows of a matrix Y of eigenvalues at a distance from each other: Q diag(1, 2, ...) Qᵀ."""
    q = KINDS["orthogonal"](rng, shape)
    return q @ np.diag(np.arange(1.0, shape[0] + 1)) @ q.T


def _definite(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    root = rng.normal(size=shape)
    return root @ root.T / shape[0] + np.eye(shape[0])


def _symmetric(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    root = rng.normal(size=shape)
    return root + root.T


KINDS: dict[str, Callable[[np.random.Generator, Shape], np.ndarray]] = {
    "any": lambda rng, shape: rng.normal(size=shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2, shape),
    "between zero and one": lambda rng, shape: rng.uniform(0.1, 0.9, shape),
    "probabilities": lambda rng, shape: rng.dirichlet(np.full(shape[-1], 5.0), shape[:-1]),
    "labels 0 or 1": lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    "labels -1 or 1": lambda rng, shape: rng.integers(0, 2, shape) * 2.0 - 1,
    "invertible": lambda rng, shape: rng.normal(size=shape) / 2 + 2 * np.eye(shape[0]),
    "singular": lambda rng, shape: np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[0])),
    "symmetric": _symmetric,
    "skew-symmetric": lambda rng, shape: np.triu(a := rng.normal(size=shape), 1) - np.triu(a, 1).T,
    "positive definite": _definite,
    "distinct eigenvalues": _spread,
    "orthogonal": lambda rng, shape: np.linalg.qr(rng.normal(size=shape))[0],
    "diagonal": lambda rng, shape: np.diag(rng.uniform(0.5, 2, shape[0])),
    "lower triangular": lambda rng, shape: np.tril(rng.normal(size=shape), -1) + np.diag(rng.uniform(0.5, 2, shape[0])),
    "small": lambda rng, shape: rng.normal(size=shape) / (4 * shape[0]),
}


def load() -> list[Identity]:
    """Every entry, by subject and in the order of the files."""
    files = {path.stem for path in HERE.glob("*.toml")}
    if unknown := files - set(SUBJECTS):
        raise ValueError(f"No subject is called {sorted(unknown)}: add it to SUBJECTS, with its title.")
    entries = []
    for subject in SUBJECTS:
        if subject in files:
            found = tomllib.loads((HERE / f"{subject}.toml").read_text(encoding="utf-8"))
            entries += [Identity(subject=subject, **fields) for fields in found["identity"]]
    return entries


# --- the page -----------------------------------------------------------------------------------------------------

INTRODUCTION = """\
# Published identities

<!-- Written by tests/identities/table.py from the tables beside it. Do not edit: run it with --write. -->

{count} identities of matrix calculus and matrix algebra in the form of their sources, beside what this library derives.
The test suite checks each of them on random data: the published side, the library's derivative, and a numerical
derivative of the plain formula written in NumPy, which shares no code with either.

Here `grad` has the shape of the symbol; a Jacobian has the shape of the function followed by that of the symbol;
`∂vec(F)/∂(vec X)ᵀ` has a row for each entry of F and a column for each entry of X, and vec stacks columns. Where a
source has another layout, its formula is given in this one: Magnus and Neudecker print (vec G)ᵀ for the gradient G,
Minka its transpose. Entries vary independently, those of a symmetric matrix too, unless a note says otherwise.

Equations marked *one object here* need no proof: both sides have one canonical form.
The published side is in NumPy's notation, where `*` is the Hadamard product. *Derived* is in the library's matrix
notation, where vectors are columns and `∘` is the Hadamard product; in index notation where that is no matrix product.

"""
# The short name on the page: the name in the table, and the reference.
SOURCES = {
    "Cookbook": (
        "The Matrix Cookbook (2012)",
        "K. B. Petersen and M. S. Pedersen, *The Matrix Cookbook*, version of November 15, 2012; by equation",
    ),
    "Magnus & Neudecker": (
        "Magnus and Neudecker, Matrix Differential Calculus",
        "J. R. Magnus and H. Neudecker, *Matrix Differential Calculus with Applications in "
        "Statistics and Econometrics*",
    ),
    "Minka": (
        "Minka, Old and New Matrix Algebra Useful for Statistics, derivatives",
        "T. P. Minka, *Old and New Matrix Algebra Useful for Statistics*, 2000; the rules for derivatives",
    ),
    "Abadir & Magnus": (
        "Abadir and Magnus, Matrix Algebra",
        "K. M. Abadir and J. R. Magnus, *Matrix Algebra*, 2005",
    ),
    "Horn & Johnson": (
        "Horn and Johnson, Matrix Analysis (2nd ed.)",
        "R. A. Horn and C. R. Johnson, *Matrix Analysis*, second edition, 2013",
    ),
    "Horn & Johnson, *Topics*": (
        "Horn and Johnson, Topics in Matrix Analysis",
        "R. A. Horn and C. R. Johnson, *Topics in Matrix Analysis*, 1991",
    ),
    "Boyd & Vandenberghe": (
        "Boyd and Vandenberghe, Convex Optimization",
        "S. Boyd and L. Vandenberghe, *Convex Optimization*, 2004",
    ),
    "Bishop": ("Bishop, PRML (2006)", "C. M. Bishop, *Pattern Recognition and Machine Learning*, 2006; by equation"),
    "Murphy": (
        "Murphy, Machine Learning: A Probabilistic Perspective (2012)",
        "K. P. Murphy, *Machine Learning: A Probabilistic Perspective*, 2012",
    ),
    "Rasmussen & Williams": (
        "Rasmussen and Williams, Gaussian Processes for Machine Learning (2006)",
        "C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning*, 2006; by equation",
    ),
    "Kolda & Bader": (
        "Kolda and Bader, Tensor Decompositions and Applications (2009)",
        "T. G. Kolda and B. W. Bader, *Tensor Decompositions and Applications*, SIAM Review, 2009",
    ),
    "Laue et al.": (
        "Laue, Mitterreiter and Giesen, Computing Higher Order Derivatives of Matrix and Tensor Expressions (2018)",
        "S. Laue, M. Mitterreiter and J. Giesen, *Computing Higher Order Derivatives of Matrix and Tensor "
        "Expressions*, NeurIPS 2018; the authors' tool is matrixcalculus.org",
    ),
}
HEADS = {
    "calculus": ("derivative", "published", "derived", "source", "sizes and notes"),
    "equal": ("left side", "right side", "source", "sizes and notes"),
    "errors": ("formula", "as claimed", "correct", "derived", "source", "sizes and notes"),
}


def page() -> str:
    """The text of docs/identities.md."""
    entries = [entry for entry in load() if not entry.missing()]
    text = INTRODUCTION.format(count=len(entries))
    for subject, title in SUBJECTS.items():
        inside = [entry for entry in entries if entry.subject == subject]
        if inside:
            text += f"## {title}\n\n" + "".join(tables(inside))
    listed = (f"- **{short}**: {reference}.\n" for short, (_, reference) in SOURCES.items())
    return text + "## Sources\n\n" + "".join(listed)


def tables(entries: list[Identity]) -> Iterator[str]:
    """Derivatives first, then equations: what has other columns has its own table."""
    for kind, head in HEADS.items():
        rows = [row(entry) for entry in entries if kind_of(entry) == kind]
        if rows:
            lines = [head, ("---",) * len(head), *rows]
            yield "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def kind_of(entry: Identity) -> str:
    if entry.wrong:
        return "errors"
    return "equal" if entry.what == "equal" else "calculus"


def row(entry: Identity) -> tuple[str, ...]:
    equation = entry.what == "equal"
    formula = shown(entry.left) if equation else heading(entry)
    claimed = [code(shown(entry.wrong))] if entry.wrong else []
    ours = [] if equation and not entry.wrong else ["" if equation else code(derived(entry))]
    notes = about(entry)
    if equation and entry.lhs() is entry.rhs():
        notes += " *One object here.*"
    return (code(formula), *claimed, code(shown(entry.right)), *ours, cited(entry.source), notes.strip())


def heading(entry: Identity) -> str:
    """What is differentiated, by what, and in which layout."""
    left, x = shown(entry.left), entry.wrt
    matrix = " " in entry.symbols.get(x, "")
    f = left if is_atom(left) else f"({left})"
    vec_f, vec_x = (
        (f"vec({left})", f"(vec {x})ᵀ") if entry.lhs().ndim > 1 else (f, f"(vec {x})ᵀ" if matrix else f"{x}ᵀ")
    )
    return {
        "gradient": f"∂{f}/∂{x}",
        "jacobian": f"∂{f}/∂{x}",
        "jacobian_matrix": f"∂{vec_f}/∂{vec_x if matrix else x + 'ᵀ'}",
        "hessian": f"∂²{f}/∂{x}²" if matrix else f"∂²{f}/∂{x}∂{x}ᵀ",
        "hessian_matrix": f"∂²{f}/∂(vec {x})∂(vec {x})ᵀ",
        "differential": f"d{f}",
    }[entry.what]


def is_atom(text: str) -> bool:
    """A name, or one call: what takes no brackets behind a ∂."""
    if not (head := re.match(r"\w+\(", text)):
        return bool(re.fullmatch(r"\w+ᵀ?", text))
    level = 0
    for place, character in enumerate(text):
        level += (character == "(") - (character == ")")
        if level == 0 and place >= head.end():
            return place == len(text) - 1
    return False


def derived(entry: Identity) -> str:
    """The library's own text."""
    found = entry.derive(entry.lhs())
    text = found.to_string("matrix")
    return found.to_string() if "einsum(" in text else text


def cited(source: str) -> str:
    """A source by its short name, as in the list at the end of the page."""
    for short, (long, _) in SOURCES.items():
        source = source.replace(long, short)
    return source.replace(", eq. ", " ").replace(", section ", " §").replace(", ch. ", " ch. ")


def about(entry: Identity) -> str:
    """Sizes and kinds of the symbols, and the note."""
    unsaid = ("any", "small", "distinct eigenvalues", "between zero and one")
    sizes = []
    for name, shape in entry.symbols.items():
        kind = entry.kinds.get(name, "any")
        words = [name, shape.replace(" ", "×"), "" if kind in unsaid else kind]
        if shape or words[2]:
            sizes.append(" ".join(word for word in words if word))
    return " ".join(part for part in (", ".join(sizes) + ("." if sizes else ""), entry.note) if part)


def shown(text: str) -> str:
    return text.replace(".T", "ᵀ")


def code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


# --- timing -------------------------------------------------------------------------------------------------------


def timings(rounds: int = 5) -> dict[str, tuple[float, float]]:
    """Seconds that deriving and simplifying takes for each identity: the first time, and the median of later ones."""
    found = {}
    for entry in load():
        if entry.what != "equal" and not entry.missing():
            left = entry.lhs()
            spent = []
            for _ in range(rounds + 1):
                start = time.perf_counter()
                entry.derive(left)
                spent.append(time.perf_counter() - start)
            found[entry.name] = spent[0], median(spent[1:])
    return found


def main(arguments: list[str]) -> int:
    if arguments == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if arguments == ["--time"]:
        found = timings()
        print(f"{len(found)} derivatives; the targets are a median of 3 ms and 100 ms at the worst, warm")
        for at, when in ((1, "warm"), (0, "first")):
            times = [seconds[at] * 1e3 for seconds in found.values()]
            print(f"{when:>5}: median {median(times):.2f} ms, worst {max(times):.2f} ms")
        for name, (first, warm) in sorted(found.items(), key=lambda item: -item[1][1])[:12]:
            print(f"{warm * 1e3:9.2f} ms  ({first * 1e3:.2f} ms the first time)  {name}")
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
