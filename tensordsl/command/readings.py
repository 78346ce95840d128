"""The readings that `diff` shows, as text and as LaTeX."""

from __future__ import annotations

from typing import NamedTuple

from tensordsl.calculus import derivative, differential, jacobian, jacobian_matrix
from tensordsl.command.options import Form
from tensordsl.command.problem import Problem, derivative_name
from tensordsl.errors import TensorDSLError, UnsupportedError, show_shape
from tensordsl.expr import Expr, Symbol
from tensordsl.printing.forms import Reading, sliced


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
