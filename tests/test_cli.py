"""The command: what it prints, what it reads and writes, and how it complains."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tensordsl as td
from tensordsl.command import cli, results
from tensordsl.command.cli import main
from tensordsl.command.terminal import Page

FLAGSHIP = "A * outer(x, x)"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs the command in an empty directory: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out + captured.err
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(3)
    A, x = rng.normal(size=(4, 4)), rng.normal(size=4)
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "x.npy", x)
    return A, x


def flagship(A, x):
    eye = np.eye(len(x))
    return np.einsum("ij,j,ik->ijk", A, x, eye) + np.einsum("ij,i,jk->ijk", A, x, eye)


def shell(*words, **variables):
    environment = {**os.environ, "PYTHONPATH": str(Path(td.__file__).parents[1]), **variables}
    return subprocess.run(
        [sys.executable, "-m", "tensordsl", *words], capture_output=True, check=False, timeout=120, env=environment
    )


# --- diff -----------------------------------------------------------------------------------------------------------


READINGS = [
    "∂F/∂x = A[i,j]*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]",
    "2*A[i,i]*x[i]  where i = j = k",
    "dF = A ∘ (dx @ xᵀ + x @ dxᵀ)",
    "∂F/∂x[k] = A ∘ (e_k @ xᵀ + x @ e_kᵀ)",
    "∂vec(F)/∂xᵀ = diag(vec(A)) @ (x ⊗ I + I ⊗ x)",
    "(xᵀ ⊗ I + I ⊗ xᵀ) @ diag(vec(A))",
    "at the peak",
]


def test_diff_shows_every_reading(run):
    code, out, err = run("diff", FLAGSHIP, "--wrt", "x")
    assert (code, err) == (0, "")
    for text in READINGS:
        assert text in out
    for form in ("index", "cases", "differential", "slices", "matrix", "matrix, denominator layout", "einsum"):
        assert any(line == form or line.startswith(form + "  ") for line in out.splitlines())
    assert "assumed  A (k, k)   x (k,)" in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_diff_says_declared_shapes_and_assumes_only_the_others(run):
    _, out, _ = run("diff", "A @ x", "--wrt", "x", "--shape", "A=m,n")
    assert "shapes   A (m, n)" in out
    assert "assumed  x (n,)" in out
    _, out, _ = run("diff", "A @ x", "--wrt", "x", "--shape", "A=m,n", "--shape", "x=n")
    assert "assumed  " not in out


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("index", READINGS[0]),
        ("cases", READINGS[1]),
        ("differential", READINGS[2]),
        ("slices", READINGS[3]),
        ("matrix", READINGS[4]),
        ("einsum", "np.zeros((k, k, k,)"),
    ],
)
def test_diff_of_one_form_shows_it_alone(run, form, text):
    code, out, err = run("diff", FLAGSHIP, "--wrt", "x", "--form", form)
    assert code == 0
    assert text in out
    assert not any(other in out for other in READINGS if other != text and form not in ("matrix", "einsum"))
    assert err.splitlines() == ["assumed  A (k, k)   x (k,)   (give others as --shape A=k,k)"]


def test_an_expression_may_begin_with_a_minus(run):
    code, out, _ = run("diff", "-x'*x", "--wrt", "x", "--dialect", "matlab", "--form", "index")
    assert code == 0
    assert "-2*x[i] -> [i]" in out
    assert run("diff", "--wrt", "x", "-x")[0] == run("diff", "--wrt", "x", "--", "-x")[0] == 0


def test_diff_in_latex(run):
    _, out, _ = run("diff", "Σ * outer(w, w)", "--wrt", "w", "--latex")
    k = td.dim("k")
    w = td.vector("w", k)
    F = td.matrix("Σ", k, k) * td.outer(w, w)
    for form in ("index", "cases", "slices"):
        assert td.jacobian(F, w).to_latex(form) in out
    assert td.jacobian_matrix(F, w).to_latex("matrix") in out
    assert r"\frac{\partial F}{\partial w_{k}} = " in out
    _, alone, _ = run("diff", FLAGSHIP, "--wrt", "x", "--latex", "--form", "slices")
    assert alone.splitlines()[1].startswith(r"\frac{\partial F}{\partial x_{k}} = A \circ")
    _, alone, _ = run("diff", "B @ X", "--wrt", "X", "--latex", "--form", "slices")
    assert alone.splitlines()[1].startswith(r"\frac{\partial F}{\partial X_{kl}} = B")
    _, alone, _ = run("diff", "x**2", "--wrt", "x", "--latex", "--form", "slices")
    assert alone.splitlines()[1].startswith(r"\frac{\partial F}{\partial x_{j}} = ")
    _, out, _ = run("diff", "sum(x**3)", "--wrt", "x", "--latex", "--order", 2)
    assert out.startswith("% assumed  x (k,)")
    assert r"% where G = \frac{\partial F}{\partial x} = \left[3 \, x_{i}^{2}\right]_{i}" in out


def test_diff_of_higher_order_says_what_is_differentiated(run):
    _, out, _ = run("diff", "sum(x**3)", "--wrt", "x", "--order", 2)
    assert "G = ∂F/∂x = 3*x[i]**2 -> [i]" in out
    assert "∂G/∂x = 6*x[i]*δ[i,j] -> [i,j]" in out


def test_one_form_of_higher_order_says_what_is_differentiated(run):
    _, out, _ = run("diff", "logdet(X)", "--wrt", "X", "--order", 2, "--form", "matrix")
    assert out.splitlines()[0] == "G = ∂F/∂X = inv(X)[j,i] -> [i,j]"
    assert out.splitlines()[1].startswith("∂vec(G)/∂vec(X)ᵀ = ")
    _, out, _ = run("diff", "logdet(X)", "--wrt", "X", "--order", 2, "--form", "index", "--latex")
    assert r"% where G = \frac{\partial F}{\partial X} = " in out


def test_latex_transposes_no_number(run):
    _, out, _ = run("diff", "x @ A @ x", "--wrt", "x", "--latex", "--form", "matrix")
    assert r"\frac{\partial F}{\partial x^{\top}} = " in out
    assert r"\frac{\partial F}{\partial x} = " in out
    _, out, _ = run("diff", "a * x", "--wrt", "a", "--shape", "a=", "--latex", "--form", "matrix")
    assert r"\frac{\partial F}{\partial a} = x" in out


def test_what_is_known_of_a_symbol(run):
    _, out, _ = run("diff", "x @ S @ x", "--wrt", "x", "--assume", "S=symmetric")
    assert "∂F/∂xᵀ = 2 * xᵀ @ S" in out
    assert "assumed  S (k, k) symmetric   x (k,)   (give others as --shape S=k,k)" in out
    _, out, _ = run("diff", "S @ x", "--wrt", "x", "--assume", "S=positive-definite,positive", "--latex")
    assert "% assumed  S (k, k) positive_definite positive   x (k,)" in out
    _, out, _ = run("plan", "inv(L) @ x", "--assume", "L=lower", "--assume", "L=positive", "--shape", "L=n,n")
    assert "assumed  L lower positive   x (n,)" in out
    _, out, _ = run("eval", "S @ ones(2)", "--data", "S=[[2.0,1.0],[1.0,3.0]]", "--assume", "S=symmetric")
    assert "assumed  S symmetric" in out
    assert "[3. 4.]" in out


@pytest.mark.parametrize(
    ("convention", "wanted"),
    [
        ("unconstrained", td.jacobian),
        ("symmetric", lambda F, S: td.jacobian(F, S, "symmetric")),
        ("vech", lambda F, S: td.jacobian(F, S, "vech")),
    ],
)
def test_conventions(run, convention, wanted):
    words = ["x @ S @ y", "--wrt", "S", "--assume", "S=symmetric", "--convention", convention]
    S, x, y = td.matrix("S", 2, 2, symmetric=True), td.vector("x", 2), td.vector("y", 2)
    F = x @ S @ y
    sizes = [part for name, shape in (("S", "2,2"), ("x", "2"), ("y", "2")) for part in ("--shape", f"{name}={shape}")]
    _, out, _ = run("diff", *words, *sizes)
    assert f"∂F/∂S = {wanted(F, S)}\n" in out
    _, out, _ = run("diff", *words, *sizes, "--latex", "--form", "index")
    assert wanted(F, S).to_latex("index") in out
    code, out, _ = run("check", *words)
    assert code == 0
    assert "agrees with central differences" in out
    data = {"S": [[2.0, 1.0], [1.0, 3.0]], "x": [1.0, 2.0], "y": [0.5, -1.0]}
    _, out, _ = run("eval", *words, *(part for name, value in data.items() for part in ("--data", f"{name}={value}")))
    for row in str(wanted(F, S).evaluate(data)).splitlines():
        assert row in out


def test_a_second_derivative_by_a_symmetric_matrix_is_not_read_off_the_first(run):
    """inv(S) and inv(S)ᵀ are equal, but their derivatives entry by entry are not."""
    S = td.matrix("S", 2, 2, symmetric=True)
    words = ["logdet(S)", "--wrt", "S", "--shape", "S=2,2", "--assume", "S=symmetric", "--order", 2, "--form", "index"]
    _, out, _ = run("diff", *words)
    assert out == f"∂²F/∂S² = {td.hessian(td.logdet(S), S)}\n"
    _, out, _ = run("diff", *words, "--convention", "symmetric")
    assert out == f"∂²F/∂S² = {td.hessian(td.logdet(S), S, convention='symmetric')}\n"


def test_a_symbol_called_f_keeps_its_name(run):
    _, out, _ = run("diff", "F @ G", "--wrt", "F", "--form", "index")
    assert out.startswith("∂H/∂F = G[m,j]*δ[i,l]")


def test_diff_reads_matrix_notation(run):
    _, out, _ = run("diff", "A ∘ (x @ xᵀ)", "--dialect", "matrix", "--wrt", "x", "--form", "index", "--shape", "A=k,k")
    assert READINGS[0] in out


def test_an_expression_may_lose_the_symbol(run):
    _, out, _ = run("diff", "x - x", "--wrt", "x", "--shape", "x=k", "--form", "matrix")
    assert "zeros(k, k)" in out


def test_ascii(run):
    _, out, _ = run("diff", FLAGSHIP, "--wrt", "x", "--ascii")
    assert out.isascii()
    assert "A[i,j]*(x[j]*delta[i,k] + x[i]*delta[j,k])" in out


@pytest.mark.parametrize(
    "words",
    [("diff", FLAGSHIP, "--wrt", "x"), ("plan", FLAGSHIP, "--wrt", "x"), ("demo",), ("diff", "Σ @ w", "--wrt", "w")],
)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_without_unicode_gets_ascii(words, encoding):
    done = shell(*words, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.decode("ascii")


# --- the terminal ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_gets_colours_and_its_own_width(monkeypatch, width):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    page = Page(stream=terminal, width=width)
    problem = cli.understand("B @ X @ C + D * outer(u, v)", "X", 1, {}, "numpy")
    results.introduce(page, problem)
    page.readings(cli.readings(problem.node, problem.wrt), cli.make_plan(problem.result))
    assert "\x1b[" in terminal.getvalue()
    shown = [cli.Text.from_ansi(line).plain.rstrip() for line in terminal.getvalue().splitlines()]
    assert max(map(len, shown)) <= width
    assert any("╭" in line for line in shown)


def test_a_formula_stays_on_its_line_in_a_pipe(run):
    long = " + ".join(f"A{n} * outer(x, x)" for n in range(12))
    _, out, _ = run("diff", long, "--wrt", "x")
    assert any(len(line) > 300 for line in out.splitlines())


# --- eval -----------------------------------------------------------------------------------------------------------


def test_eval_prints_a_value(run, data):
    code, out, err = run("eval", "sum(x)", "--data", "x=[1, 2, 3.5]")
    assert (code, err) == (0, "")
    assert "F  () float64, 1 number\n  6.5\n" in out


def test_eval_says_what_it_stored(run, data):
    _, out, _ = run("eval", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy", "--output", "sparse")
    assert "(4, 4, 4) float64, 28 numbers stored of 64" in out
    assert f"[0,1,1]  {data[0][0, 1] * data[1][0]:.6g}" in out
    assert "... and 8 more" in out


def test_eval_counts_what_is_not_finite(run):
    code, out, err = run("eval", "1/x", "--data", "x=[0.0, 1.0]")
    assert (code, err) == (0, "")
    assert "2 numbers, 1 of them not finite" in out


def test_eval_writes_a_dense_array(run, data, tmp_path):
    code, out, err = run("eval", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy", "--out", "J.npy")
    assert (code, out, err) == (0, "J.npy: (4, 4, 4), 64 numbers, dense\n", "")
    np.testing.assert_allclose(np.load("J.npy"), flagship(*data), rtol=1e-14)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.npy", "J.npy", "x.npy"]


def test_eval_writes_a_sparse_array_and_reads_it_again(run, data):
    code, out, _ = run("eval", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy", "--out", "J.npz")
    assert (code, out) == (0, "J.npz: (4, 4, 4), 28 numbers, sparse\n")
    with np.load("J.npz") as archive:
        found = np.zeros(archive["shape"])
        assert archive["data"].shape == (28,)
        found[tuple(archive["coords"])] = archive["data"]
    np.testing.assert_allclose(found, flagship(*data), rtol=1e-14)
    code, _, _ = run("eval", "2 * T", "--data", "T=J.npz", "--out", "K.npy")
    assert code == 0
    np.testing.assert_allclose(np.load("K.npy"), 2 * flagship(*data), rtol=1e-14)


def test_eval_of_higher_order(run, data):
    run("eval", "sum(x**3)", "--wrt", "x", "--order", 2, "--data", "x=x.npy", "--out", "H.npy")
    np.testing.assert_allclose(np.load("H.npy"), np.diag(6 * data[1]))


def test_sizes_that_no_data_fixes(run):
    code, out, _ = run("eval", "sum(x) * ones(m)", "--data", "x=[1.0, 2.0]", "--size", "m=3")
    assert code == 0
    assert "[3. 3. 3.]" in out


def write_npz(path):
    np.savez(path, x=np.arange(4.0), other=np.ones(2))


def write_scipy(path):
    from scipy.sparse import coo_array, save_npz

    save_npz(path, coo_array(np.diag(np.arange(4.0))))


def write_zarr(path):
    import zarr

    zarr.save(str(path), np.arange(4.0))


@pytest.mark.parametrize(
    ("file", "write", "expression", "expected"),
    [
        ("x.csv", lambda p: p.write_text("0\n1\n2\n3\n"), "sum(x**2)", 14),
        ("x.csv", lambda p: p.write_text("0, 1, 2, 3"), "sum(x**2)", 14),
        ("x.csv", lambda p: p.write_text("\ufeffa,b,c,d\r\n0,1,2,3\r\n", encoding="utf-8"), "sum(x**2)", 14),
        ("X.csv", lambda p: p.write_text("a,b\n0,1\n2,3\n"), "trace(X)", 3),
        ("X.csv", lambda p: p.write_text("0,1,2,3\n"), "sum(X @ X.T)", 14),
        ("x.npz", write_npz, "sum(x**2)", 14),
        ("X.npz", write_scipy, "trace(X)", 6),
        ("x.zarr", write_zarr, "sum(x**2)", 14),
    ],
)
def test_data_files(run, tmp_path, file, write, expression, expected):
    write(tmp_path / file)
    code, _, err = run("eval", expression, "--data", f"{file[0]}={file}", "--out", "value.npy")
    assert (code, err) == (0, "")
    assert np.load("value.npy") == expected


# --- what lies on disk is safe --------------------------------------------------------------------------------------


EVAL = ("eval", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy")


def test_an_existing_file_is_not_overwritten(run, data, tmp_path):
    (tmp_path / "J.npy").write_bytes(b"precious")
    code, out, err = run(*EVAL, "--out", "J.npy")
    assert (code, out) == (2, "")
    assert "J.npy exists; nothing was computed" in err
    assert "--force" in err
    assert (tmp_path / "J.npy").read_bytes() == b"precious"
    assert run(*EVAL, "--out", "J.npy", "--force")[0] == 0
    np.testing.assert_allclose(np.load("J.npy"), flagship(*data))


def test_a_failure_loses_no_file(run, data, tmp_path, monkeypatch):
    (tmp_path / "J.npy").write_bytes(b"precious")

    def full(file, value):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    code, out, err = run(*EVAL, "--out", "J.npy", "--force")
    assert (code, out) == (2, "")
    assert err == "error: --out J.npy cannot be written: No space left on device.\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.npy", "J.npy", "x.npy"]
    assert (tmp_path / "J.npy").read_bytes() == b"precious"


def test_a_file_that_comes_up_meanwhile_is_left(run, data, tmp_path, monkeypatch):
    save = np.save

    def meanwhile(file, value):
        (tmp_path / "J.npy").write_bytes(b"precious")
        save(file, value)

    monkeypatch.setattr(np, "save", meanwhile)
    code, _, err = run(*EVAL, "--out", "J.npy")
    assert code == 2
    assert "has come up while computing" in err
    assert (tmp_path / "J.npy").read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_result_may_replace_its_own_data(run, data):
    assert run("eval", "2 * x", "--data", "x=x.npy", "--out", "x.npy", "--force")[0] == 0
    np.testing.assert_array_equal(np.load("x.npy"), 2 * data[1])


# --- plan, check, help ----------------------------------------------------------------------------------------------


def test_plan(run):
    code, out, err = run("plan", FLAGSHIP, "--wrt", "x", "--size", "k=1_000")
    assert (code, err) == (0, "")
    assert "for k = 1000" in out
    assert "8 GB of result" in out
    _, out, _ = run("plan", FLAGSHIP)
    assert "k = 100 (assumed)" in out


def test_plan_shows_what_is_done_in_blocks_and_where_the_time_goes(run):
    _, out, _ = run("plan", FLAGSHIP, "--wrt", "x", "--size", "k=400")
    assert re.search(r"allocate .* █{9}\S* +\d+%\n", out)
    assert re.search(r"blocks +along k +\d+ rows at a time.* 640k .* \d\.\d%\n", out)
    assert re.search(r"    contract +ij,j->ij +t0 = A \* x +160k\n", out)
    assert "in_blocks" not in out
    _, out, _ = run("plan", FLAGSHIP, "--wrt", "x", "--size", "k=400", "--ascii")
    assert out.isascii()
    assert re.search(r"#{9,10} +\d+%", out)


def test_plan_within_memory(run):
    words = ["plan", "A * exp(outer(x, x)) @ A", "--size", "k=2000"]
    peaks = [run(*words, *more)[1].splitlines()[-1] for more in ([], ["--memory", "50MB"])]
    free, kept = (float(re.search(r"([\d.]+) MB at the peak", line)[1]) for line in peaks)
    assert kept <= 50 < free
    code, out, err = run(*words, "--memory", "1MB")
    assert (code, out) == (2, "")
    assert "The plan needs" in err


def test_plan_writes_a_picture(run, tmp_path):
    code, out, err = run("plan", FLAGSHIP, "--wrt", "x", "--out", "plan.dot")
    assert (code, err) == (0, "")
    assert out.startswith("plan.dot: ")
    assert len(out.splitlines()) == 1
    assert (tmp_path / "plan.dot").read_text(encoding="utf-8").startswith("digraph plan {")
    code, _, err = run("plan", FLAGSHIP, "--out", "plan.dot")
    assert code == 2
    assert "--force" in err
    assert run("plan", FLAGSHIP, "--out", "plan.dot", "--force")[0] == 0
    if shutil.which("dot"):
        assert run("plan", FLAGSHIP, "--out", "plan.svg")[0] == 0
        assert "</svg>" in (tmp_path / "plan.svg").read_text(encoding="utf-8")


def test_a_picture_without_graphviz(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = run("plan", FLAGSHIP, "--out", "plan.svg")
    assert (code, out) == (2, "")
    assert "`dot` is not installed" in err
    assert not list(tmp_path.iterdir())


def test_check(run, data):
    code, out, err = run("check", "logdet(A)", "--wrt", "A")
    assert (code, err) == (0, "")
    assert "agrees with central differences: the largest gap is " in out
    assert "at a random point, with A (2, 2)" in out
    _, out, _ = run("check", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy")
    assert "at the data given, with A (4, 4), x (4,)" in out


def test_check_of_what_has_no_derivative(run):
    code, out, err = run("check", "sqrt(x)", "--wrt", "x", "--data", "x=[0.0]")
    assert (code, out) == (2, "")
    assert err.startswith("error: The derivative of sqrt(")
    assert "differs from a central difference" in err


def test_version_and_help(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("tensordsl ")
    assert len(out.splitlines()) == 1
    for words in ([], ["--help"], ["-h"]):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert all(name in out for name in ("diff", "eval", "plan", "check", "demo"))
    for name in ("diff", "eval", "plan", "check", "demo"):
        code, out, _ = run(name, "--help")
        assert code == 0
        assert "tensordsl " + name in out


# --- complaints -----------------------------------------------------------------------------------------------------


BAD = [
    (["diff", "A * outer(x, x", "--wrt", "x"], ["The text ends too early", "^"]),
    (["diff", "A $ x", "--wrt", "x"], ["cannot be read here", "    A $ x\n      ^"]),
    (["diff", "__import__('os')", "--wrt", "x"], ["__import__"]),
    (["diff", "nonsense(x)", "--wrt", "x"], ["'nonsense' is not known"]),
    (["diff", "A @ x", "--wrt", "x", "--shape", "A=m,n", "--shape", "x=k"], ["(m, n)", "(k,)", "matrix product"]),
    (["diff", FLAGSHIP, "--wrt", "z"], ["no symbol 'z'", "A, x"]),
    (["diff", FLAGSHIP], ["Missing option '--wrt'", "tensordsl diff --help"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--form", "nope"], ["'nope' is not one of", "'cases'"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--order", "0"], ["--order"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--shape", "A"], ["NAME=VALUE", "'A'"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--shape", "A=k,1.5"], ["--shape A=k,1.5 is no shape"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--shape", "A=k,-k"], ["--shape A=k,-k is no shape"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--shape", "A=k,k", "--shape", "A=n,n"], ["gives A twice"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--shape", "B=k,k"], ["given for B", "not in the expression"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--assume", "B=symmetric"], ["given for B", "not in the expression"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--shape", "A=symmetric"], ["no size", "--shape A=k,k --assume A=symmetric"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--assume", "A=triangular"], ["expected one of", "lower", "'triangular'"]),
    (["diff", FLAGSHIP, "--wrt", "x", "--assume", "x=symmetric"], ["x of shape (k,)", "square"]),
    (["diff", FLAGSHIP, "--wrt", "A", "--convention", "vech"], ["symmetric matrix", "--assume A=symmetric"]),
    (["diff", "x^T A x", "--wrt", "x"], ["x**2", "--dialect"]),
    (
        ["diff", "logdet(S)", "--wrt", "S", "--assume", "S=symmetric", "--order", "2", "--form", "matrix"],
        ["there is none", "(k, k, k, k)", "index"],
    ),
    (
        ["diff", "logdet(S)", "--wrt", "S", "--assume", "S=symmetric", "--order", "3", "--convention", "vech"],
        ["the second of a scalar", "--order 3"],
    ),
    (
        ["check", "logdet(S)", "--wrt", "S", "--assume", "S=symmetric", "--order", "2", "--convention", "vech"],
        ["first derivatives only"],
    ),
    (["diff", "x - x", "--wrt", "x"], ["The shape of x cannot be told", "--shape x=k"]),
    (["diff", "-x", "-y", "--wrt", "x"], ["No such option"]),
    (["diff"], ["Missing argument"]),
    (["nonsense"], ["No such command"]),
    (["--nonsense"], ["No such option"]),
    (["plan", FLAGSHIP, "--size", "k=ten"], ["--size k=ten is no size"]),
    (["plan", FLAGSHIP, "--size", "k=-1"], ["--size k=-1 is no size"]),
    (["plan", FLAGSHIP, "--size", "n=3"], ["'n'", "its sizes are k"]),
    (["plan", FLAGSHIP, "--out", "plan.txt"], ["--out plan.txt", ".svg, .png, .pdf, .dot"]),
    (["plan", FLAGSHIP, "--out", "no/plan.svg"], ["no directory no"]),
    (["plan", FLAGSHIP, "--memory", "lots"], ["'lots' is no amount of memory", "2GiB"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy"], ["no data for x", "--data x=x.npy"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=y.npy"], ["(4, 4)", "(3, 3)"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=missing.npy"], ["'missing.npy'", "no such file"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=broken.npy"], ["'broken.npy'", "cannot be read"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=broken.npz"], ["'broken.npz'", "cannot be read"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=broken.csv"], ["'broken.csv'", "cannot be read"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=broken.zarr"], ["'broken.zarr'", "cannot be read"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=objects.npy"], ["'objects.npy'", "no plain array"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=words.npy"], ["'words.npy'", "expected numbers"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=several.npz"], ["holds a, b", "called x"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=broken.txt"], ["suffix", ".npy"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=[1,[2]]"], ["no rectangular array"]),
    (["eval", FLAGSHIP, "--data", "A=A.npy", "--data", "x=."], ["suffix"]),
    (["eval", "ones(m) * 2"], ["No data fixes the size m", "--size m=5"]),
    (["eval", "linalg.inv(X)", "--data", "X=[[1.0, 1.0], [1.0, 1.0]]"], ["singular"]),
    (["eval", "sum(y)", "--data", "y=y.npy", "--output", "sparse"], ["scalar"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "J.npy", "--memory", "1GB"], ["--memory", "Give --out J.zarr"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "J.zarr", "--memory", "much"], ["no amount of memory"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "J.zarr", "--layout", "round"], ["'round' is unknown"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "J.zarr", "--chunks", "a"], ["expected a length"]),
    (["eval", "y", "--data", "y=none.zarr", "--out", "J.zarr"], ["none.zarr", "no such file"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "J.txt"], [".npy (dense), .npz (sparse) or .zarr"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "no/J.npy"], ["no directory no"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "directory.npy", "--force"], ["is a directory"]),
    (["eval", "y", "--data", "y=y.npy", "--out", "J.npy", "--output", "sparse"], ["J.npz"]),
    (["check", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy"], ["no data for x"]),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda value: None)
def test_bad_input_gets_one_message(run, data, tmp_path, words, said):
    np.save(tmp_path / "y.npy", np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.savez(tmp_path / "several.npz", a=1, b=2)
    (tmp_path / "directory.npy").mkdir()
    for suffix in ("npy", "npz", "csv", "txt", "zarr"):
        (tmp_path / f"broken.{suffix}").write_text("1, this is no array\n2\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    for text in said:
        assert text in err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_fault_of_ours_is_owned(run, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "understand", broken)
    monkeypatch.delenv("TENSORDSL_TRACEBACK", raising=False)
    code, out, err = run("plan", FLAGSHIP)
    assert (code, out) == (2, "")
    assert err.startswith("error: This is a fault in tensordsl, not in what you gave: ZeroDivisionError")


def test_too_large_for_memory(run, data, monkeypatch):
    def huge(*_, **__):
        raise MemoryError("Unable to allocate 466. GiB for an array")

    monkeypatch.setattr(cli, "compile_function", huge)
    code, _, err = run(*EVAL)
    assert code == 2
    assert "not enough memory: Unable to allocate 466. GiB" in err
    assert "--output sparse" in err


# --- as a process ---------------------------------------------------------------------------------------------------


def test_module_runs_as_a_command():
    done = shell("diff", "sum(x**2)", "--wrt", "x", "--form", "index", PYTHONUTF8="1")
    assert (done.returncode, done.stdout.decode().splitlines()) == (0, ["∂F/∂x = 2*x[i] -> [i]"])
    done = shell("diff", "sum(x**2", "--wrt", "x", PYTHONUTF8="1")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a pipe of a POSIX shell")
def test_a_reader_that_leaves_is_no_error():
    command = f"{json.dumps(sys.executable)} -m tensordsl demo; echo code $? >&2"
    environment = {**os.environ, "PYTHONPATH": str(Path(td.__file__).parents[1]), "PYTHONUTF8": "1"}
    done = subprocess.run(
        ["sh", "-c", f"({command}) | head -n 1"], capture_output=True, check=False, timeout=120, env=environment
    )
    assert done.stdout.decode().strip() == "tensordsl demo"
    assert done.stderr.decode().strip() == "code 0"


# --- stores ---------------------------------------------------------------------------------------------------------


def test_a_result_is_stored_tile_by_tile(run, data, tmp_path):
    A, x = data
    words = ["eval", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy", "--out", "J.zarr"]
    code, out, _ = run(*words, "--dry-run", "--memory", "1MB")
    assert code == 0
    assert re.search(r"structured result of 4 x 4 x 4, float64, within 1 MB", out)
    assert re.search(r"C0 .*A\[i,j\]\*x\[j\]", out)
    assert not (tmp_path / "J.zarr").exists()
    code, out, err = run(*words, "--memory", "1MB")
    assert (code, err) == (0, "")
    assert re.search(r"2 tasks in [\d.]+ s, .* x the least", out)
    np.testing.assert_allclose(td.open(tmp_path / "J.zarr").todense(), flagship(A, x))
    code, _, err = run(*words)
    assert code == 2
    assert "--resume" in err
    assert "--force" in err
    code, out, _ = run(*words, "--resume", "--memory", "1MB")
    assert code == 0
    assert "complete already" in out
    code, out, _ = run(*words, "--force", "--layout", "dense", "--chunks", "2")
    assert code == 0
    import zarr

    found = zarr.open_array(str(tmp_path / "J.zarr"), mode="r")
    np.testing.assert_allclose(found[...], flagship(A, x))
    assert found.chunks == (2, 2, 2)


def test_a_store_that_is_interrupted_can_be_taken_up(run, data, tmp_path, monkeypatch):
    from tensordsl.chunked import engine

    words = ["eval", FLAGSHIP, "--wrt", "x", "--data", "A=A.npy", "--data", "x=x.npy"]
    words += ["--out", "J.zarr", "--memory", "1MB"]
    whole = engine.run

    def short(client, function, job, calls, slots, done, patience):
        def count(call, result):
            done(call, result)
            raise KeyboardInterrupt

        whole(client, function, job, calls, slots, count, patience)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run", short)
        code, out, _ = run(*words)
    assert code == 130
    assert re.search(r"interrupted after 1 of 2 tasks; the same command with --resume goes on", out)
    code, out, _ = run(*words, "--resume")
    assert code == 0
    assert "1 more were finished before" in out
    np.testing.assert_allclose(td.open(tmp_path / "J.zarr").todense(), flagship(*data))
