"""The log-likelihood of a multivariate Gaussian, differentiated by its mean and by its covariance.

On Fisher's irises (150 flowers, four measurements) both gradients vanish where statistics says they must,
and the Hessian in the mean gives the mean's standard error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_iris

import tensordsl as td

n, p = td.dims("n p")
X = td.matrix("X", n, p)
mu = td.vector("mu", p)
S = td.matrix("S", p, p)

residual = X - td.outer(td.ones(n), mu)
log_likelihood = -(n * td.logdet(S) + td.trace(residual @ td.linalg.inv(S) @ residual.T)) / 2

by_mean = td.grad(log_likelihood, mu)
by_covariance = td.grad(log_likelihood, S)
curvature = td.hessian(log_likelihood, mu)


def value_by_numpy(X: np.ndarray, mu: np.ndarray, S: np.ndarray) -> float:
    """The same function in NumPy, to differentiate numerically."""
    residual = X - mu
    return -(len(X) * np.linalg.slogdet(S)[1] + np.sum((residual @ np.linalg.inv(S)) * residual)) / 2


def central_differences(function: Callable[[np.ndarray], float], point: np.ndarray, step: float = 1e-5) -> np.ndarray:
    slopes = np.empty_like(point)
    for index in np.ndindex(point.shape):
        up, down = point.copy(), point.copy()
        up[index] += step
        down[index] -= step
        slopes[index] = (function(up) - function(down)) / (2 * step)
    return slopes


def main() -> None:
    print("∂L/∂mu      =", by_mean)
    print("∂L/∂S       =", by_covariance)
    print("∂²L/∂mu∂muᵀ =", curvature, end="\n\n")

    iris = load_iris()
    data = iris.data
    mean, covariance = data.mean(axis=0), np.cov(data, rowvar=False, bias=True)
    run = td.compile((log_likelihood, by_mean, by_covariance, curvature))

    # Away from the maximum: every entry of both gradients against central differences.
    rng = np.random.default_rng(0)
    guess = mean + rng.normal(scale=0.2, size=mean.shape)
    spread = covariance + 0.3 * np.eye(len(mean))
    value, slope_mean, slope_covariance, _ = run(X=data, mu=guess, S=spread)
    np.testing.assert_allclose(value, value_by_numpy(data, guess, spread))
    np.testing.assert_allclose(
        slope_mean,
        central_differences(lambda m: value_by_numpy(data, m, spread), guess),
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        slope_covariance,
        central_differences(lambda s: value_by_numpy(data, guess, s), spread),
        rtol=1e-5,
        atol=1e-5,
    )
    print(
        f"at a guess:      L = {value:10.3f}   |∂L/∂mu| = {np.linalg.norm(slope_mean):9.2e}"
        f"   |∂L/∂S| = {np.linalg.norm(slope_covariance):9.2e}   (central differences agree)"
    )

    # At the sample mean and covariance, the maximum.
    best, slope_mean, slope_covariance, hessian = run(X=data, mu=mean, S=covariance)
    np.testing.assert_allclose(slope_mean, 0, atol=1e-8)
    np.testing.assert_allclose(slope_covariance, 0, atol=1e-8 * len(data) / np.linalg.eigvalsh(covariance)[0])
    assert best > value
    print(
        f"at the maximum:  L = {best:10.3f}   |∂L/∂mu| = {np.linalg.norm(slope_mean):9.2e}"
        f"   |∂L/∂S| = {np.linalg.norm(slope_covariance):9.2e}",
        end="\n\n",
    )

    # Minus the inverse of the Hessian is the covariance of the estimated mean, S/n.
    errors = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance) / len(data)))
    for name, centre, error in zip(iris.feature_names, mean, errors, strict=True):
        print(f"{name:>18}: {centre:.3f} ± {error:.3f}")


if __name__ == "__main__":
    main()
