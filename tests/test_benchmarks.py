"""The benchmark against peers works: a row from worker processes to page, and what is wrong is not timed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

BENCHMARKS = Path(__file__).with_name("benchmarks")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_a_row_is_measured_and_shown(tmp_path: Path, module: Any) -> None:
    found = tmp_path / "run.json"
    command = [sys.executable, BENCHMARKS / "peers.py", "--quick", "--rows", "hessian-quadratic", "--json", found]
    subprocess.run([*command, "--contenders", "by hand", "tensordsl"], check=True, capture_output=True)
    run = json.loads(found.read_text(encoding="utf-8"))
    (row,) = run["rows"]
    assert set(row["results"]) == {"by hand", "tensordsl"}
    for figures in row["results"].values():
        assert 0 < figures["median"] <= figures["first"]
        assert figures["peak"] > 1e7
    report: ModuleType = module("report")
    assert report.verdict(row).beside_hand > 0
    assert "Hessian of xᵀAx" in report.page(run)
    assert report.chart(run["rows"]).count("<circle") == 1


def test_a_wrong_result_is_told_from_a_right_one(module: Any) -> None:
    tools: ModuleType = module("digest")
    right = np.random.default_rng(0).normal(size=(30, 40, 50))
    wrong = right.copy()
    wrong[3, 4, 5] += 1
    assert tools.difference(tools.digest(right), tools.digest(right)) is None
    assert "differs" in tools.difference(tools.digest(wrong), tools.digest(right))
    assert "shape" in tools.difference(tools.digest(right[0]), tools.digest(right))
    nowhere = np.full_like(right, np.nan)
    assert tools.difference(tools.digest(nowhere), tools.digest(right)) is not None
    transposed = np.asfortranarray(right)
    assert tools.difference(tools.digest(transposed), tools.digest(right)) is None


def test_a_sparse_array_is_compared_by_what_it_does(module: Any) -> None:
    tools: ModuleType = module("digest")
    row, column, values = [0, 2, 2], [1, 0, 0], [1.0, 2.0, 3.0]
    repeated = sp.coo_array((values, (row, column)), shape=(3, 2))
    assert tools.difference(tools.digest(repeated), tools.digest(repeated.tocsr())) is None
    other = sp.coo_array((values, (row, row)), shape=(3, 3))
    assert tools.difference(tools.digest(other), tools.digest(repeated)) is not None


def test_references_agree_with_the_formulas(module: Any) -> None:
    """By the library, in this process, at sizes so small that they take no time."""
    workloads: ModuleType = module("workloads")
    contenders: ModuleType = module("contenders")
    tools: ModuleType = module("digest")
    for workload in workloads.MEASURED:
        sizes = {dim: min(size, 5 + place) for place, (dim, size) in enumerate(workload.sizes[0].items())}
        data = workload.data(sizes)
        reference = contenders.by_hand(workload, sizes, data)()
        if workload.expand is not None:
            reference = workload.expand(reference, **data)
        value = contenders.library(workload, sizes, data)()
        assert tools.difference(tools.digest(value), tools.digest(reference)) is None, workload.name
