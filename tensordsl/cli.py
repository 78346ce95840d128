"""The command: `tensordsl diff`, `eval`, `plan`, `check`, `demo`."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.text import Text

from tensordsl import demo, stores
from tensordsl.calculus import derivative, differential, hessian, jacobian, jacobian_matrix
from tensordsl.dims import AnySize
from tensordsl.errors import BindError, ParseError, TensorDSLError, UnsupportedError, show_shape
from tensordsl.execution.check import check_derivative, sample
from tensordsl.execution.compiled import compile as compile_function
from tensordsl.expr import Expr, Symbol
from tensordsl.files import Output, UsageError, check_picture, check_target, load, save_sparse, write
from tensordsl.functions.convert import PROPERTIES, declare, identity
from tensordsl.notation import tree as t
from tensordsl.notation.build import Builder
from tensordsl.parsing.parse import declared, parse, parse_tree
from tensordsl.printing.forms import Reading, readings, sliced, walk
from tensordsl.program.picture import FORMATS, picture
from tensordsl.program.plan import plan as make_plan
from tensordsl.terminal import Page, formula

app = typer.Typer(
    name="tensordsl",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Form(StrEnum):
    INDEX = "index"
    CASES = "cases"
    DIFFERENTIAL = "differential"
    SLICES = "slices"
    MATRIX = "matrix"
    EINSUM = "einsum"
    ALL = "all"


class Convention(StrEnum):
    UNCONSTRAINED = "unconstrained"
    SYMMETRIC = "symmetric"
    VECH = "vech"


class Dialect(StrEnum):
    NUMPY = "numpy"
    MATRIX = "matrix"
    MATLAB = "matlab"
    LATEX = "latex"


Expression = Annotated[
    str, typer.Argument(metavar="EXPR", show_default=False, help="The expression, such as 'A * outer(x, x)'.")
]
Wrt = Annotated[str, typer.Option("--wrt", metavar="NAME", show_default=False, help="The symbol to differentiate by.")]
MaybeWrt = Annotated[
    str | None, typer.Option("--wrt", metavar="NAME", show_default=False, help="Take the derivative by this symbol.")
]
Order = Annotated[int, typer.Option("--order", metavar="N", min=1, max=6, help="The order of the derivative.")]
Shapes = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=SIZES",
        show_default=False,
        help="The shape of a symbol, as in A=k,k or x=5; once for each. 'c=' is a scalar.",
    ),
]
Assumptions = Annotated[
    list[str],
    typer.Option(
        "--assume",
        metavar="NAME=PROPERTY",
        show_default=False,
        help="What is known of a symbol, as in S=symmetric: "
        "symmetric, positive, positive_definite, diagonal, orthogonal, lower or upper; as often as needed.",
    ),
]
Conventions = Annotated[
    Convention,
    typer.Option(
        "--convention",
        help="How the entries of a symmetric matrix vary: each by itself, among symmetric matrices, or those of vech.",
    ),
]
Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar="NAME=FILE",
        show_default=False,
        help="The data of a symbol: a .npy, .npz, .csv or .zarr file, a number, or a JSON list; once for each.",
    ),
]
Sizes = Annotated[
    list[str],
    typer.Option(
        "--size", metavar="NAME=N", show_default=False, help="The number behind a size, as in k=1000; once for each."
    ),
]
Dialects = Annotated[
    Dialect, typer.Option("--dialect", help="How EXPR is written: with NumPy's names, as matrices, MATLAB or LaTeX.")
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Write formulas in plain ASCII.")]


# --- from the words of the command line to expressions --------------------------------------------------------------


class Problem(NamedTuple):
    """An expression as given, what is known of its symbols, and its derivative if one is asked for."""

    text: str
    node: Expr
    names: tuple[str, ...]  # those of its symbols
    assumed: tuple[Symbol, ...]  # symbols whose shapes nobody gave
    wrt: Symbol | None
    order: int
    properties: Mapping[str, Sequence[str]]  # what --assume says
    convention: str

    @property
    def result(self) -> Expr:
        """The expression, or its derivative."""
        if self.wrt is None:
            return self.node
        if self.convention == "unconstrained":
            return derivative(self.node, self.wrt, order=self.order)
        if self.order == 1:
            return jacobian(self.node, self.wrt, self.convention)  # type: ignore[no-any-return]
        if self.order == 2 and not self.node.ndim:
            return hessian(self.node, self.wrt, convention=self.convention)  # type: ignore[no-any-return]
        raise UnsupportedError(
            f"--convention {self.convention} is for the first derivative, and for the second of a scalar; given were "
            f"--order {self.order} and an expression of shape {show_shape(self.node.shape)}. Leave it out."
        )

    @property
    def constrained(self) -> bool:
        """Whether what is known of the symbol enters its derivatives, so that one is not read off that before it."""
        known = self.wrt is not None and bool(self.wrt.properties - {"positive"})
        return (known and self.order > 1) or self.convention != "unconstrained"

    @property
    def name(self) -> str:
        """A letter for the expression that no symbol has."""
        return next(name for name in ("F", "G", "H", "Y", "Z", "value") if name not in self.names)

    @property
    def title(self) -> str:
        return self.name if self.wrt is None else derivative_name(self.name, self.wrt.name, self.order)


def derivative_name(top: str, bottom: str, order: int, ascii: bool = False) -> str:
    d = "d" if ascii else "∂"
    power = "" if order == 1 else (f"^{order}" if ascii else str(order).translate(str.maketrans("23456", "²³⁴⁵⁶")))
    return f"{d}{power}{top}/{d}{bottom}{power}"


def split(option: str, items: Sequence[str], example: str) -> dict[str, str]:
    """`NAME=VALUE` words as a mapping."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} takes NAME=VALUE, as in {option} {example}, not {item!r}.")
        if name in found:
            raise UsageError(f"{option} gives {name} twice: {found[name]!r} and {value!r}. Give it once.")
        found[name] = value.strip()
    return found


KNOWN_OF_SYMBOLS = (*PROPERTIES, "lower", "upper")


def properties_of(items: Sequence[str]) -> dict[str, list[str]]:
    """What `--assume` options say of each symbol."""
    found: dict[str, list[str]] = {}
    for item in items:
        for name, value in split("--assume", [item], "S=symmetric").items():
            for word in value.replace("-", "_").split(","):
                if word.strip() not in KNOWN_OF_SYMBOLS:
                    raise UsageError(f"--assume {item}: expected one of {', '.join(KNOWN_OF_SYMBOLS)}, not {word!r}.")
                found.setdefault(name, []).append(word.strip())
    return found


def assured(symbol: Symbol, words: Sequence[str], given: bool) -> Symbol:
    """A symbol with its properties; a matrix whose shape is not `given` is square where they need it."""
    shape = symbol.shape if given or symbol.ndim != 2 or set(words) <= {"positive"} else symbol.shape[:1] * 2
    triangular = next((word for word in words if word in ("lower", "upper")), None)
    return declare(symbol.name, shape, triangular=triangular, **{word: True for word in words if word in PROPERTIES})


def shapes_of(items: Sequence[str]) -> dict[str, tuple[AnySize, ...]]:
    """Shapes from `--shape` options."""
    found: dict[str, tuple[AnySize, ...]] = {}
    for name, value in split("--shape", items, "A=k,k").items():
        word = next((word for word in map(str.strip, value.strip("()").split(",")) if word in KNOWN_OF_SYMBOLS), None)
        if word is not None:
            raise UsageError(
                f"--shape {name}={value}: {word!r} is no size. Write --shape {name}=k,k --assume {name}={word}."
            )
        try:
            sizes = tuple(
                Builder({}, {}, infer=False).number(parse_tree(size))
                for size in value.strip("()").split(",")
                if size.strip()
            )
            if any(str(size).startswith("-") for size in sizes):
                raise ParseError("A size is not negative.")
            found[name] = sizes
        except TensorDSLError as error:
            raise UsageError(
                f"--shape {name}={value} is no shape: sizes are whole numbers or names, separated by "
                f"commas, as in --shape A=k,3. {str(error).splitlines()[0]}"
            ) from None
    return found


def sizes_of(items: Sequence[str]) -> dict[str, int]:
    """Numbers from `--size` options."""
    found: dict[str, int] = {}
    for name, value in split("--size", items, "k=1000").items():
        digits = value.replace("_", "")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            raise UsageError(f"--size {name}={value} is no size: expected a whole number, as in --size {name}=1000.")
        found[name] = int(digits)
    return found


def understand(
    text: str,
    wrt: str | None,
    order: int,
    shapes: Mapping[str, tuple[AnySize, ...]],
    dialect: str,
    assume: Sequence[str] = (),
    convention: str = "unconstrained",
) -> Problem:
    """The expression that a text means, with shapes as declared or as its use implies."""
    properties = properties_of(assume)
    known = {name: declared(name, shape) for name, shape in shapes.items()}
    tree = parse_tree(text, dialect, known)
    named = {part.name for part in walk(tree) if isinstance(part, t.Name)}
    for name in (*shapes, *properties):
        if name not in named:
            raise UsageError(
                f"A shape, a property or data is given for {name}, which is not in the expression {text!r}. "
                "Check the spelling."
            )
    node = parse(text, dialect=dialect, infer=True, **known)
    symbols = symbols_of(node, known)
    if properties:
        for name in properties.keys() - symbols.keys():
            raise UsageError(f"The shape of {name} cannot be told from {text!r}. Give it, as in --shape {name}=k,k.")
        known |= {name: assured(symbols[name], words, name in shapes) for name, words in properties.items()}
        node = parse(text, dialect=dialect, infer=True, **known)
        symbols = symbols_of(node, known)
    assumed = tuple(s for name, s in sorted(symbols.items()) if name not in shapes)
    variable = None
    if wrt is not None:
        variable = symbols.get(wrt)
        if variable is None and wrt in named:
            raise UsageError(
                f"The shape of {wrt} cannot be told from {text!r}, which does not depend on it. "
                f"Give it, as in --shape {wrt}=k."
            )
        if variable is None:
            have = ", ".join(sorted(symbols)) or "none at all"
            raise UsageError(f"The expression has no symbol {wrt!r} to differentiate by; its symbols are {have}.")
    if convention != "unconstrained" and (variable is None or "symmetric" not in variable.properties):
        way_out = f"Say that {wrt} is one, as in --assume {wrt}=symmetric" if wrt else "Take a derivative, with --wrt"
        raise UsageError(f"--convention {convention} is for derivatives by a symmetric matrix. {way_out}.")
    return Problem(text, node, tuple(sorted(symbols)), assumed, variable, order, properties, convention)


def symbols_of(node: Expr, known: Mapping[str, Expr]) -> dict[str, Symbol]:
    """The symbols of an expression, and those that were declared though it has lost them."""
    return {s.name: s for s in (*node.symbols, *known.values()) if isinstance(s, Symbol)}


def introduce(page: Page, problem: Problem, result: Expr | None = None) -> None:
    """The heading: the expression, the shapes, and which of them were assumed."""
    lines = [formula(Text(f"{problem.name} = {problem.text.strip()}", style="bold"))]
    symbols = problem.node.symbols | ({problem.wrt} if problem.wrt is not None else set())
    given = sorted((s for s in symbols if s not in problem.assumed), key=lambda s: s.name)
    shapes = [f"{problem.name} {show_shape(problem.node.shape)}"]
    if problem.wrt is not None and result is not None:
        title = derivative_name(problem.name, problem.wrt.name, problem.order, page.ascii)
        shapes.append(f"{title} {show_shape(result.shape)}")
    lines.append(
        Text("shapes   " + "   ".join([*(f"{s.name} {show_shape(s.shape)}" for s in given), *shapes]), style="aside")
    )
    if words := assumption(problem):
        lines.append(Text(words, style="aside"))
    page.panel(lines)
    page.show()


def assumption(problem: Problem) -> str:
    """Which shapes were assumed, and how to give others; and what --assume says. Empty where that is nothing."""
    shapes = {s.name: show_shape(s.shape) for s in problem.assumed}
    words = [
        " ".join([name, *([shapes[name]] if name in shapes else []), *problem.properties.get(name, ())])
        for name in sorted(shapes.keys() | problem.properties.keys())
    ]
    example = " ".join(f"--shape {s.name}={','.join(map(str, s.shape))}" for s in problem.assumed[:1])
    return "assumed  " + "   ".join(words) + (f"   (give others as {example})" if example else "") if words else ""


# --- results --------------------------------------------------------------------------------------------------------


def summary(page: Page, problem: Problem, value: Any, kind: Output) -> None:
    """What a result is, and its entries as far as they fit."""
    title = (
        problem.name
        if problem.wrt is None
        else derivative_name(problem.name, problem.wrt.name, problem.order, page.ascii)
    )
    entries = value.data if kind is Output.SPARSE else np.asarray(value)
    words = f"{show_shape(np.shape(value))} {entries.dtype}, "
    words += (
        f"{entries.size:,} numbers stored of {int(np.prod(value.shape, dtype=object)):,}"
        if kind is Output.SPARSE
        else f"{entries.size:,} number{'s' * (entries.size != 1)}"
    )
    if entries.size and entries.dtype.kind in "fc":
        odd = int(entries.size - np.count_nonzero(np.isfinite(entries)))
        words += f", {odd:,} of them not finite" if odd else ""
    page.heading(title, words)
    if kind is Output.DENSE:
        width = min(page.width, 100) - 2
        with np.printoptions(linewidth=width, threshold=200, edgeitems=3, precision=6, suppress=False):
            for line in str(value).splitlines():
                page.raw(f"  {line}".rstrip())
        return
    shown = 20
    width = max((len(str(int(c))) for axis in value.coords for c in axis[:shown]), default=1)
    for place, number in list(zip(zip(*value.coords, strict=True), value.data, strict=True))[:shown]:
        page.raw("  [" + ",".join(f"{int(c):>{width}}" for c in place) + f"]  {number:.6g}")
    if value.nnz > shown:
        page.raw(f"  ... and {value.nnz - shown:,} more; --out J.npz writes them all")


# --- commands -------------------------------------------------------------------------------------------------------


def show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("tensordsl")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"tensordsl {version}, NumPy {np.__version__}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog="Start with  [bold]tensordsl demo[/bold]  or  [bold]tensordsl diff 'A * outer(x, x)' --wrt x[/bold]",
)
def command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Say the version and leave.")
    ] = False,
) -> None:
    """Tensor algebra: derivatives by rule, readable in every notation, computed without losing their structure."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def diff(
    expression: Expression,
    wrt: Wrt,
    shape: Shapes = [],
    order: Order = 1,
    form: Annotated[
        Form,
        typer.Option(
            "--form",
            metavar="FORM",
            help="The reading to show: index, cases, differential, slices, matrix, einsum, or all.",
        ),
    ] = Form.ALL,
    assume: Assumptions = [],
    convention: Conventions = Convention.UNCONSTRAINED,
    latex: Annotated[bool, typer.Option("--latex", help="Write LaTeX.")] = False,
    ascii: Ascii = False,
    dialect: Dialects = Dialect.NUMPY,
) -> None:
    """Show the derivative of an expression in every reading, or in one.

    tensordsl diff 'A * outer(x, x)' --wrt x --form matrix
    """
    page = Page(ascii)
    problem = understand(expression, wrt, order, shapes_of(shape), dialect.value, assume, convention.value)
    x = problem.wrt
    assert x is not None
    assumed, alone = assumption(problem), form is not Form.ALL
    step = last_step(problem, "latex" if latex else "ascii" if page.ascii else "unicode")
    if latex:
        lines = latex_lines(problem, step, form)
        comments = [assumed, f"where {step.name} = {step.means}" * bool(step.means)]
        for line in (*(f"% {comment}" for comment in comments if comment), *lines):
            page.raw(line)
        return
    constrained = problem.constrained
    found = constrained_readings(problem, page.ascii) if constrained else readings(step.node, x, page.ascii, step.name)
    found = [reading for reading in found if form in (Form.ALL, reading.form)]
    if not found:
        raise no_such_reading(problem, form)
    if alone:
        if assumed:
            print(assumed, file=sys.stderr)
        if step.means:
            page.raw(f"{step.name} = {step.means}")
        for reading in found:
            page.raw(reading.text if reading.form == "einsum" else reading.line)
        return
    result = problem.result if constrained else jacobian(step.node, x)
    introduce(page, problem, result)
    if step.means:
        page.heading("where")
        page.equation(step.name, step.means)
        page.show()
    page.readings(found, make_plan(result))


class Step(NamedTuple):
    """What is differentiated once more: the expression, or its derivative of order n - 1 with what its name means."""

    node: Expr
    name: str
    means: str


def last_step(problem: Problem, style: str) -> Step:
    if problem.order == 1 or problem.wrt is None or problem.constrained:
        return Step(problem.node, problem.name, "")
    node = derivative(problem.node, problem.wrt, order=problem.order - 1)
    name = next(n for n in ("G", "H", "Y", "Z", "W") if n not in problem.names and n != problem.name)
    if style == "latex":
        left = latex_derivative(problem.name, problem.wrt.to_latex("matrix"), problem.order - 1)
        return Step(node, name, f"{left} = {node.to_latex('index')}")
    ascii = style == "ascii"
    left = derivative_name(problem.name, problem.wrt.name, problem.order - 1, ascii)
    return Step(node, name, f"{left} = {node.to_string('index', ascii=ascii)}")


def constrained_readings(problem: Problem, ascii: bool) -> list[Reading]:
    """The derivative itself, where it is no first derivative of anything that could be written down before it."""
    result, x = problem.result, problem.wrt
    assert x is not None
    left = derivative_name(problem.name, x.name, problem.order, ascii)
    kept = problem.node.ndim
    entry = f"{left}[{','.join(sliced(result, kept)[1])}]"
    found = [
        Reading("index", left, result.to_string("index", ascii=ascii)),
        Reading("cases", left, result.to_string("cases", ascii=ascii)),
        Reading("slices", entry, result.to_string("slices", ascii=ascii, kept=kept)),
    ]
    if result.ndim <= 2:
        found.append(Reading("matrix", left, result.to_string("matrix", ascii=ascii)))
    return [*found, Reading("einsum", "program", result.to_string("einsum", ascii=ascii))]


def no_such_reading(problem: Problem, form: Form) -> TensorDSLError:
    given = f"--convention {problem.convention}" if problem.convention != "unconstrained" else "--assume and --order"
    return UnsupportedError(
        f"--form {form.value}: with {given} there is none of a derivative of shape {show_shape(problem.result.shape)}. "
        "Take index, cases or einsum."
    )


def latex_derivative(top: str, bottom: str, order: int = 1) -> str:
    power = "" if order == 1 else f"^{order}"
    return rf"\frac{{\partial{power} {top}}}{{\partial {bottom}{power}}}"


def latex_lines(problem: Problem, step: Step, form: Form) -> list[str]:
    """The readings in LaTeX, each after a comment that says which it is."""
    assert problem.wrt is not None
    found = latex_of_constrained(problem) if problem.constrained else latex_readings(step.node, problem.wrt, step.name)
    if form is not Form.ALL:
        if form not in found:
            raise no_such_reading(problem, form)
        return found[form]
    lines: list[str] = []
    for key, texts in found.items():
        lines += [*([""] if lines else []), f"% {key.value}", *texts]
    return lines


def latex_of_constrained(problem: Problem) -> dict[Form, list[str]]:
    result, x = problem.result, problem.wrt
    assert x is not None
    left = latex_derivative(problem.name, x.to_latex("matrix"), problem.order)
    forms = [Form.INDEX, Form.CASES, *([Form.MATRIX] if result.ndim <= 2 else [])]
    found = {form: [f"{left} = {result.to_latex(form.value)}"] for form in forms}
    return found | {Form.EINSUM: [result.to_latex("einsum")]}


def latex_readings(node: Expr, x: Symbol, name: str) -> dict[Form, list[str]]:
    variable = x.to_latex("matrix")
    rows = rf"\operatorname{{vec}}({name})" if node.ndim > 1 else name
    columns = rf"\operatorname{{vec}}({variable})" if x.ndim > 1 else variable
    lying_rows, lying_columns = rows + r"^{\top}" * bool(node.ndim), columns + r"^{\top}" * bool(x.ndim)
    whole = jacobian(node, x)
    left = latex_derivative(name, variable)
    indices = "".join(sliced(whole, node.ndim)[1])
    entry = latex_derivative(name, f"{variable}_{{{indices}}}") if indices else left
    numerator, denominator = jacobian_matrix(node, x), jacobian_matrix(node, x, layout="denominator")
    return {
        Form.INDEX: [f"{left} = {whole.to_latex('index')}"],
        Form.CASES: [f"{left} = {whole.to_latex('cases')}"],
        Form.DIFFERENTIAL: [rf"\mathrm{{d}}{name} = {differential(node, x).to_latex('matrix')}"],
        Form.SLICES: [f"{entry} = {whole.to_latex('slices', kept=node.ndim)}"],
        Form.MATRIX: [
            f"{latex_derivative(rows, lying_columns)} = {numerator.to_latex('matrix')}",
            f"{latex_derivative(lying_rows, columns)} = {denominator.to_latex('matrix')}",
        ],
        Form.EINSUM: [whole.to_latex("einsum")],
    }


@app.command("eval")
def evaluate(
    expression: Expression,
    data: Data = [],
    wrt: MaybeWrt = None,
    order: Order = 1,
    shape: Shapes = [],
    size: Sizes = [],
    output: Annotated[
        Output | None,
        typer.Option(
            "--output",
            show_default=False,
            help="Every entry, or those that are not zero by structure. [dim]Told from --out, else dense.[/dim]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            show_default=False,
            help="Write the result: .npy (dense), .npz (sparse: data, coords, shape), or .zarr, tile by tile.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    memory: stores.Memory = None,
    layout: stores.Layout = None,
    chunks: stores.Chunks = None,
    scheduler: stores.Scheduler = None,
    threads: stores.Threads = None,
    resume: stores.Resume = False,
    dry_run: stores.DryRun = False,
    assume: Assumptions = [],
    convention: Conventions = Convention.UNCONSTRAINED,
    ascii: Ascii = False,
    dialect: Dialects = Dialect.NUMPY,
) -> None:
    """Compute an expression, or its derivative, from data.

    tensordsl eval 'A * outer(x, x)' --wrt x --data A=A.npy --data x=x.npy --out J.npz
    tensordsl eval 'A * outer(x, x)' --wrt x --data A=A.zarr --data x=x.npy --out J.zarr --memory 2GiB
    """
    page = Page(ascii)
    sizes = sizes_of(size)
    declared_shapes = shapes_of(shape)
    given = split("--data", data, "x=x.npy")
    wishes = stores.Wishes(memory, layout, chunks, scheduler, threads, resume, force, dry_run)
    chunked = out is not None and out.suffix == ".zarr"
    if chunked:
        arrays: dict[str, Any] = {name: stores.opened(name, source) for name, source in given.items()}
    else:
        asked = [f"--{name.replace('_', '-')}" for name, wish in wishes._asdict().items() if wish and name != "force"]
        if asked:
            raise UsageError(f"{asked[0]} is for results that are written tile by tile. Give --out J.zarr.")
        kind = check_target(out, output, force) if out is not None else output or Output.DENSE
        arrays = {name: load(name, source) for name, source in given.items()}
    shapes = {**{name: array.shape for name, array in arrays.items()}, **declared_shapes}
    problem = understand(expression, wrt, order, shapes, dialect.value, assume, convention.value)
    result = problem.result
    missing = sorted((s for s in result.symbols if s.name not in arrays), key=lambda s: s.name)
    if missing:
        wanted = ", ".join(f"{s.name} {show_shape(s.shape)}" for s in missing)
        raise BindError(
            f"There is no data for {wanted}. Give it, as in --data {missing[0].name}={missing[0].name}.npy."
        )
    fixed = {
        d for name in arrays for part in declared_shapes.get(name, ()) if not isinstance(part, int) for d in part.names
    }
    loose = sorted({d.name for d in result.dims} - fixed - set(sizes))
    if loose:
        raise BindError(f"No data fixes the size {', '.join(loose)}. Give it, as in --size {loose[0]}=5.")
    if out is not None and chunked:
        stores.write_store(page, result, {**arrays, **sizes}, out, wishes)
        return
    with np.errstate(all="ignore"):  # the summary counts what is not finite
        value = compile_function(result, output=kind.value)({**arrays, **sizes})
    if kind is Output.SPARSE:
        value.sum_duplicates()
    if out is None:
        introduce(page, problem, result)
        summary(page, problem, value, kind)
        return
    if kind is Output.SPARSE:
        write(out, force, lambda file: save_sparse(file, value))
    else:
        write(out, force, lambda file: np.save(file, value))
    stored = value.nnz if kind is Output.SPARSE else np.size(value)
    page.raw(f"{out}: {show_shape(np.shape(value))}, {stored:,} numbers, {kind.value}")


@app.command()
def plan(
    expression: Expression,
    wrt: MaybeWrt = None,
    order: Order = 1,
    size: Sizes = [],
    shape: Shapes = [],
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="BYTES",
            show_default=False,
            help="Hold no more than that at once, the result included, as in 2GiB.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            show_default=False,
            help="Write a picture of the plan: .svg, .png or .pdf, drawn by Graphviz, or its source, .dot.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    assume: Assumptions = [],
    ascii: Ascii = False,
    dialect: Dialects = Dialect.NUMPY,
) -> None:
    """Show the program that would run, with its costs, without running it.

    tensordsl plan 'A * outer(x, x)' --wrt x --size k=1000 --out plan.svg
    """
    page = Page(ascii)
    sizes = sizes_of(size)
    format = check_picture(out, force, FORMATS) if out is not None else ""
    problem = understand(expression, wrt, order, shapes_of(shape), dialect.value, assume)
    result = problem.result
    named: dict[str, Any] = {**sizes}
    made = make_plan(result, memory=memory, **named)
    if out is not None:
        drawn = picture(made.to_dot(), format)
        write(out, force, lambda file: file.write(drawn))
        page.raw(f"{out}: {made.foot()}")
        return
    introduce(page, problem, result)
    page.heading("program")
    page.plan(made)


@app.command()
def check(
    expression: Expression,
    wrt: Wrt,
    data: Data = [],
    shape: Shapes = [],
    order: Order = 1,
    assume: Assumptions = [],
    convention: Conventions = Convention.UNCONSTRAINED,
    ascii: Ascii = False,
    dialect: Dialects = Dialect.NUMPY,
) -> None:
    """Compare the derivative with a numerical one, at the data given or at random points.

    tensordsl check 'logdet(A)' --wrt A
    """
    page = Page(ascii)
    arrays = {name: load(name, source) for name, source in split("--data", data, "x=x.npy").items()}
    shapes = {**{name: array.shape for name, array in arrays.items()}, **shapes_of(shape)}
    problem = understand(expression, wrt, order, shapes, dialect.value, assume, convention.value)
    x = problem.wrt
    assert x is not None
    if order > 1 and convention is not Convention.UNCONSTRAINED:
        raise UsageError(f"--convention {convention.value} is checked for first derivatives only: leave out --order.")
    node = problem.node if order == 1 else derivative(problem.node, x, order=order - 1)
    if arrays:
        missing = sorted(s.name for s in node.symbols | {x} if s.name not in arrays)
        if missing:
            raise BindError(
                f"There is no data for {', '.join(missing)}. Give it, as in --data {missing[0]}="
                f"{missing[0]}.npy, or give no data at all for a random point."
            )
        values = {s.name: np.shape(arrays[s.name]) for s in node.symbols | {x}}
    else:
        values = {s.name: np.shape(v) for s, v in sample([node, jacobian(node, x)], x, 0)[0].items()}
    with np.errstate(all="ignore"):
        gap = check_derivative(node, x, arrays or None, derivative=moving(problem, node))
    introduce(page, problem, jacobian(node, x, problem.convention))
    title = derivative_name(problem.name, x.name, order, page.ascii)
    page.show(
        Text.assemble(
            (f"{title} agrees", "good"),
            f" with central differences: the largest gap is {gap:.1e} of the largest entry.",
        )
    )
    where = "at the data given" if arrays else "at a random point"
    page.show(
        Text(
            f"Compared {where}, with {', '.join(f'{n} {show_shape(s)}' for n, s in sorted(values.items()))}.",
            style="aside",
        )
    )


def moving(problem: Problem, node: Expr) -> Expr:
    """The derivative as it meets symmetric directions: one by distinct entries counts those off the diagonal twice."""
    x = problem.wrt
    assert x is not None
    found: Expr = jacobian(node, x, problem.convention)
    return found if problem.convention != "vech" else (found + identity(x.shape[0]) * found) / 2


@app.command("demo")
def run_demo(ascii: Ascii = False) -> None:
    """Real data, every reading of one derivative, computed in three ways: a tour with nothing to prepare."""
    demo.show(Page(ascii, piped_width=min(int(os.environ.get("COLUMNS") or 0) or 100, 200)))


# --- the entry point ------------------------------------------------------------------------------------------------


def complain(message: str) -> int:
    """One clear message on standard error, and the exit code."""
    page = Page(stream=sys.stderr)
    head, _, rest = message.partition("\n")
    page.show(Text.assemble(("error: ", "bold red"), head))
    if rest:
        page.raw(rest)
    return 2


def with_minus(words: list[str]) -> list[str]:
    """The words of a command, of which one may be an expression that begins with a minus: all options are long."""
    places = [place for place, word in enumerate(words) if re.match(r"-[^-]", word) and word != "-h"]
    if len(places) != 1 or "--" in words:
        return words
    (place,) = places
    return [*words[:place], *words[place + 1 :], "--", words[place]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these words, by default those of the command line; the exit code, 0 or 2."""
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        code = app(with_minus(list(arguments)), prog_name="tensordsl", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UsageError as error:
        words = error.format_message().replace("Value error, ", "").rstrip(".") + "."
        command = getattr(getattr(error, "ctx", None), "command_path", None)  # what typer itself has to say
        return complain(f"{words} See {command} --help." if command else words)
    except TensorDSLError as error:
        return complain(str(error))
    except (BrokenPipeError, SystemExit):  # whoever read the output has left, which typer and rich turn into an exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        return complain(f"{error.filename or 'a file'}: {error.strerror or error}.")
    except MemoryError as error:
        return complain(
            f"There is not enough memory: {str(error) or 'the result is too large'}. A derivative may fit "
            "with --output sparse; `tensordsl plan` says what is needed."
        )
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted.")
        return 130
    except Exception as error:  # a person gets a sentence, whoever mends it the rest
        if os.environ.get("TENSORDSL_TRACEBACK"):
            raise
        return complain(
            f"This is a fault in tensordsl, not in what you gave: {type(error).__name__}: {error}. "
            "Set TENSORDSL_TRACEBACK=1 to see where, and report it."
        )
