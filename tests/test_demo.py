"""The demonstration: its data, its numbers against formulas written out here, and what it shows."""

from __future__ import annotations

import io

import numpy as np
import pytest

import tensordsl as td
from tensordsl.command import demo
from tensordsl.command.cli import main
from tensordsl.command.terminal import Page


def by_hand(S, w):
    eye = np.eye(len(w))
    return np.einsum("ij,j,ik->ijk", S, w, eye) + np.einsum("ij,i,jk->ijk", S, w, eye)


def test_data_is_what_it_says():
    from sklearn.datasets import load_wine

    wines, wine = demo.load(), load_wine()
    np.testing.assert_allclose(wines.covariance, np.cov(wine.data, rowvar=False), rtol=1e-12)
    assert list(wines.features) == [name.replace("_", " ") for name in wine.feature_names]
    assert wines.samples == len(wine.data)
    assert wines.weights.sum() == pytest.approx(1)
    volatility = wines.weights * np.sqrt(np.diag(wines.covariance))
    np.testing.assert_allclose(volatility, volatility[0])


def test_numerical_derivative():
    wines = demo.load()
    expected = by_hand(wines.covariance, wines.weights)
    assert demo.gap(demo.numerical(wines.covariance, wines.weights), expected) < 1e-10


def test_each_way_agrees_and_stores_what_it_must():
    found = {way.output: way for way in demo.ways(demo.load())}
    assert {name: way.numbers for name, way in found.items()} == {
        "dense": 13**3,
        "sparse": 2 * 13**2,
        "operator": 13**2 + 13,
        "differences": 13**3,
    }
    assert all(way.gap < 1e-10 for name, way in found.items() if name != "differences")


def test_a_wrong_derivative_is_noticed():
    wines = demo.load()
    right = by_hand(wines.covariance, wines.weights)
    wrong = right.copy()
    wrong[3, 3, 3] /= 2  # what is left when the overlap is forgotten
    with pytest.raises(td.DerivativeError, match="differs from a numerical one"):
        demo.gap(wrong, right)
    wrong[3, 3, 3] = np.nan
    with pytest.raises(td.DerivativeError):
        demo.gap(wrong, right)


def test_contributions():
    wines = demo.load()
    S, w = wines.covariance, wines.weights
    rows = demo.shares(wines)
    assert [row.share for row in rows] == sorted((row.share for row in rows), reverse=True)
    for row in rows:
        i = wines.features.index(row.feature)
        assert row.weight == w[i]
        assert row.share == pytest.approx(w[i] * (S @ w)[i] / (w @ S @ w), rel=1e-12)
        assert row.marginal == pytest.approx(2 * (S @ w)[i], rel=1e-12)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert [row.feature for row in rows if row.share < 0] == ["malic acid", "alcalinity of ash", "nonflavanoid phenols"]


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [80, 100])
def test_what_it_shows(width, ascii):
    stream = io.StringIO()
    page = Page(ascii, stream=Utf8(stream), width=width)
    demo.show(page)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert text.isascii() == ascii
    wanted = (
        ["S[i,j]*(w[j]*delta[i,k] + w[i]*delta[j,k])", "S * (dw @ w.T + w @ dw.T)", "kron"]
        if ascii
        else [
            "Σ[i,j]*(w[j]*δ[i,k] + w[i]*δ[j,k]) -> [i,j,k]",
            "∂F/∂w[k] = Σ ∘ (e_k @ wᵀ + w @ e_kᵀ)",
            "∂vec(F)/∂wᵀ = diag(vec(Σ)) @ (w ⊗ I + I ⊗ w)",
            "where i = j = k",
        ]
    )
    for part in [*wanted, "2,197", "338", "182", "total phenols", "sum to 100%"]:
        assert part in text


class Utf8:
    """A stream that says it can write Unicode."""

    encoding = "utf-8"

    def __init__(self, stream):
        self.write = stream.write
        self.flush = stream.flush

    def isatty(self):
        return False


def test_the_command_runs_it(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["demo"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("tensordsl demo\n")
    assert max(map(len, captured.out.splitlines())) <= 100
