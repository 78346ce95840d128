"""A covariance of returns, larger than memory: Σ = B F Bᵀ + diag(d), made and written block by block.

python examples/out_of_core/make_data.py --assets 50000 --out data
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import zarr

FACTORS = 12
BLOCK = 2500


def make(folder: Path, assets: int, seed: int = 0) -> None:
    """Write sigma.zarr and the weights, weights.npy."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(assets, FACTORS)) * 0.2 / np.sqrt(FACTORS)
    specific = rng.uniform(0.01, 0.04, size=assets)
    weights = rng.dirichlet(np.ones(assets))
    np.save(folder / "weights.npy", weights)
    block = min(BLOCK, assets)
    stored = zarr.create_array(
        str(folder / "sigma.zarr"), shape=(assets, assets), chunks=(block, block), dtype="f8", compressors=None
    )
    for start in range(0, assets, block):
        rows = slice(start, min(start + block, assets))
        for other in range(0, assets, block):
            columns = slice(other, min(other + block, assets))
            part = loadings[rows] @ loadings[columns].T
            if start == other:
                part[np.diag_indices_from(part)] += specific[rows]
            stored[rows, columns] = part


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    make(given.out, given.assets, given.seed)
