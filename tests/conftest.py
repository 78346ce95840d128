"""Settings of hypothesis: the same examples in every run, few enough that the suite stays short; threads of workers."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    max_examples=150,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("long", settings.get_profile("ci"), max_examples=2000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers are as many as cores: the threads of OpenBLAS of each would spin on the cores of the others.

    Those of programs, which tests are about, follow OMP_NUM_THREADS; and a worker that runs is too late to say so.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
