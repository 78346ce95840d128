"""Logistic regression by Newton's method, with a gradient and a Hessian that nobody wrote down.

569 tumours, thirty measurements each and an intercept; the weights are penalised by a ridge, the
intercept is not. scikit-learn, asked for the same optimum, agrees.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

import tensordsl as td

n, p = td.dims("n p")
X = td.matrix("X", n, p)
y = td.vector("y", n)
w = td.vector("w", p)
ridge = td.vector("ridge", p)  # one strength for each weight

z = X @ w
# Measurements are standardised, so that z stays far from where exp would overflow.
loss = td.sum(td.log(1 + td.exp(z)) - y * z) + td.dot(ridge, w**2) / 2

gradient = td.grad(loss, w)
hessian = td.hessian(loss, w)


def main() -> None:
    print("gradient =", gradient)
    print("Hessian  =", hessian, end="\n\n")

    tumours = load_breast_cancer()
    measured = (tumours.data - tumours.data.mean(axis=0)) / tumours.data.std(axis=0)
    data = {
        "X": np.column_stack([np.ones(len(measured)), measured]),
        "y": tumours.target.astype(float),
        "ridge": np.array([0.0] + [1.0] * measured.shape[1]),
    }

    # One program for all three: what they share, such as exp(X @ w), is computed once.
    run = td.compile((loss, gradient, hessian))
    weights = np.zeros(data["X"].shape[1])
    for step in range(10):
        value, slope, curvature = run(w=weights, **data)
        print(f"step {step}:  loss {value:11.6f}   |gradient| {np.linalg.norm(slope):.1e}")
        if np.linalg.norm(slope) < 1e-8:
            break
        weights = weights - np.linalg.solve(curvature, slope)
    else:
        raise AssertionError("Newton's method did not converge in ten steps")

    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(measured, data["y"])
    optimum = np.concatenate([theirs.intercept_, theirs.coef_[0]])
    np.testing.assert_allclose(weights, optimum, rtol=1e-4, atol=1e-4)
    right = np.mean((data["X"] @ weights > 0) == data["y"])
    print(
        f"\nscikit-learn's weights differ by at most {np.abs(weights - optimum).max():.1e}; "
        f"{right:.1%} of these tumours are told apart."
    )

    print("\nWhat weighs most, towards benign (+) or malignant (-):")
    for index in np.argsort(-np.abs(weights[1:]))[:5]:
        print(f"{tumours.feature_names[index]:>24} {weights[1 + index]:+.2f}")


if __name__ == "__main__":
    main()
