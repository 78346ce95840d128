"""The command: `tensordsl diff`, `eval`, `plan`, `check`, `demo`."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from tensordsl.calculus import derivative, jacobian
from tensordsl.command import demo, stores
from tensordsl.command.files import Output, UsageError, check_picture, check_target, load, save_sparse, write
from tensordsl.command.options import (
    Ascii,
    Assumptions,
    Convention,
    Conventions,
    Data,
    Dialect,
    Dialects,
    Expression,
    Force,
    Form,
    MaybeWrt,
    Order,
    Shapes,
    Sizes,
    Wrt,
)
from tensordsl.command.problem import Problem, derivative_name, shapes_of, sizes_of, split, understand
from tensordsl.command.readings import constrained_readings, last_step, latex_lines, no_such_reading
from tensordsl.command.results import assumption, introduce, summary
from tensordsl.command.terminal import Page
from tensordsl.errors import BindError, TensorDSLError, show_shape
from tensordsl.execution.check import check_derivative, sample
from tensordsl.execution.compiled import compile as compile_function
from tensordsl.expr import Expr
from tensordsl.functions.convert import identity
from tensordsl.printing.forms import readings
from tensordsl.program.picture import FORMATS, picture
from tensordsl.program.plan import plan as make_plan

app = typer.Typer(
    name="tensordsl",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            show_default=False,
            help="Write the result: .npy (dense), .npz (sparse: data, coords, shape), or .zarr, tile by tile.",
        ),
    ] = None,
    force: Force = False,
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
    file = None if out is None else Path(out)
    chunked = file is not None and file.suffix == ".zarr"
    if chunked:
        arrays: dict[str, Any] = {name: stores.opened(name, source) for name, source in given.items()}
    else:
        asked = [f"--{name.replace('_', '-')}" for name, wish in wishes._asdict().items() if wish and name != "force"]
        if asked:
            raise UsageError(f"{asked[0]} is for results that are written tile by tile. Give --out J.zarr.")
        kind = check_target(file, output, force) if file is not None else output or Output.DENSE
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
    if file is None:
        introduce(page, problem, result)
        summary(page, problem, value, kind)
        return
    if kind is Output.SPARSE:
        write(file, force, lambda opened: save_sparse(opened, value))
    else:
        write(file, force, lambda opened: np.save(opened, value))
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
    force: Force = False,
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
