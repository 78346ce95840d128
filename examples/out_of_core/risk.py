"""How contributions to the risk of a portfolio move with its weights, where neither they nor Σ fit in memory.

python examples/out_of_core/risk.py --data data --memory 2GiB
python examples/out_of_core/risk.py --assets 1500
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from make_data import make

import tensordsl as td

k = td.dim("k")
sigma, w = td.matrix("sigma", k, k), td.vector("w", k)
contributions = sigma * td.outer(w, w)  # of pairs of assets; their sum is the variance
marginal = td.jacobian(contributions, w)


def timed(title: str, step: Callable[[], Any]) -> Any:
    begun = perf_counter()
    found = step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{title:52s} {perf_counter() - begun:8.2f} s   peak of the process {peak:6.0f} MiB")
    return found


def newton_step(weights: np.ndarray, given: dict[Any, Any], memory: str, steps: int = 6) -> np.ndarray:
    """The Newton step of ½ wᵀΣw - Σ log(w)/k, which is least where all assets contribute alike, by conjugate gradients.

    Its Hessian is Σ + diag(1/(k w²)): it is applied, never made. The diagonal of Σ would be the better preconditioner;
    that of the logarithm is good enough to see the work.
    """
    objective = td.sum(contributions) / 2 - td.sum(td.log(w)) / k
    gradient = td.grad(objective, w).evaluate(given, memory=memory)
    direction = td.vector("direction", k)
    product = td.hvp(objective, w, direction)
    precondition = len(weights) * weights**2
    step, rest = np.zeros_like(weights), -gradient
    ahead = z = precondition * rest
    for _ in range(steps):
        turned = product.evaluate({**given, "direction": ahead}, memory=memory)
        length = (rest @ z) / (ahead @ turned)
        step = step + length * ahead
        left = rest - length * turned
        fresh = precondition * left
        ahead = fresh + (left @ fresh) / (rest @ z) * ahead
        rest, z = left, fresh
    print(f"    gradient {np.linalg.norm(gradient):.3g}, left of it {np.linalg.norm(rest):.3g} after {steps} products")
    return step


def main(data: Path, memory: str) -> None:
    given: dict[Any, Any] = {"sigma": data / "sigma.zarr", "w": data / "weights.npy"}
    weights = np.load(data / "weights.npy")
    assets = len(weights)
    whole = 8e-9 * assets**3
    print(f"{assets:,} assets: Σ has {8e-9 * assets**2:.3g} GB, the derivative {whole:,.0f} GB with its zeros")
    print(td.plan(marginal, given, memory=memory))
    target = data / "marginal.zarr"
    report = timed("the derivative, structured, to zarr", lambda: td.store(marginal, given, target, memory=memory))
    print(f"    {report}")
    stored = td.open(target, memory=memory)
    column = timed("a slice: by one weight, of one asset", lambda: stored[0, :, assets // 2])
    by_asset = timed("its sum over pairs, asset by asset", lambda: stored.sum(axis=(0, 1)))
    pulled = timed(
        "vjp: Σ itself against it",
        lambda: td.vjp(contributions, w, td.matrix("S", k, k)).evaluate({**given, "S": given["sigma"]}, memory=memory),
    )
    variance = timed("the variance, for a check", lambda: td.sum(contributions).evaluate(given, memory=memory))
    assert np.isclose(by_asset @ weights, 2 * variance)  # Euler: the contributions add up
    assert column.shape == (assets,) and np.isfinite(pulled).all()
    step = timed("a Newton step towards equal contributions", lambda: newton_step(weights, given, memory))
    print(f"    risk {np.sqrt(variance):.6f}; the largest move of a weight {np.abs(step).max():.3g}")
    shutil.rmtree(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder that make_data.py has made")
    parser.add_argument("--assets", type=int, default=1500, help="make that many, in a folder that is removed")
    parser.add_argument("--memory", default="2GiB")
    options = parser.parse_args()
    if options.data is not None:
        main(options.data, options.memory)
    else:
        with tempfile.TemporaryDirectory() as made:
            make(Path(made), options.assets)
            main(Path(made), options.memory)
