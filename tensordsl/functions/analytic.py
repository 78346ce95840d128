"""Analytic functions, entry by entry: one record each, with the rule and its source beside it.

The rules are those of any table of derivatives; "DLMF" is the NIST Digital Library of Mathematical Functions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import cast

import numpy as np

from tensordsl.contraction import number_of
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, Liftable
from tensordsl.functions import routines
from tensordsl.functions.convert import as_expr
from tensordsl.functions.elementwise import function, half, reciprocal, whole_number
from tensordsl.functions.record import public

exp: Callable[..., Expr] = function(
    "exp",
    "np.exp({0})",
    lambda y, x: y,
    ufunc="np.exp",
    operations=10,
    latex=r"\exp",
    same=(np.exp,),
    source="(eˣ)′ = eˣ, DLMF 4.7.1",
    about="The exponential: out[i] = exp(x[i]).",
)


log: Callable[..., Expr] = function(
    "log",
    "np.log({0})",
    lambda y, x: reciprocal(x),
    ufunc="np.log",
    operations=10,
    latex=r"\log",
    sample=((0.5, 2.0),),
    domain="positive numbers",
    same=(np.log,),
    source="(log x)′ = 1/x, DLMF 4.7.1",
    about="The natural logarithm: out[i] = log(x[i]).",
)


# exp(x) - 1 and log(1 + x) lose their digits near zero; these do not.
expm1: Callable[..., Expr] = function(
    "expm1",
    "np.expm1({0})",
    lambda y, x: exp(x),
    ufunc="np.expm1",
    operations=10,
    same=(np.expm1,),
    source="(eˣ − 1)′ = eˣ",
    about="The exponential less one: out[i] = exp(x[i]) - 1, exact near zero.",
)


log1p: Callable[..., Expr] = function(
    "log1p",
    "np.log1p({0})",
    lambda y, x: reciprocal(1 + x),
    ufunc="np.log1p",
    operations=10,
    sample=((-0.5, 2.0),),
    domain="numbers above -1",
    same=(np.log1p,),
    source="log(1 + x)′ = 1/(1 + x)",
    about="The logarithm of one more: out[i] = log(1 + x[i]), exact near zero.",
)


sqrt: Callable[..., Expr] = function(
    "sqrt",
    "np.sqrt({0})",
    lambda y, x: half(reciprocal(y)),
    ufunc="np.sqrt",
    operations=4,
    latex=r"\sqrt",
    sample=((0.5, 2.0),),
    domain="positive numbers",
    same=(np.sqrt,),
    source="(√x)′ = 1/(2√x)",
    about="The square root: out[i] = sqrt(x[i]).",
)


sin: Callable[..., Expr] = function(
    "sin",
    "np.sin({0})",
    lambda y, x: cos(x),
    ufunc="np.sin",
    operations=10,
    latex=r"\sin",
    same=(np.sin,),
    source="sin′ = cos, DLMF 4.20.1",
    about="The sine: out[i] = sin(x[i]), x in radians.",
)


cos: Callable[..., Expr] = function(
    "cos",
    "np.cos({0})",
    lambda y, x: -sin(x),
    ufunc="np.cos",
    operations=10,
    latex=r"\cos",
    same=(np.cos,),
    source="cos′ = −sin, DLMF 4.20.2",
    about="The cosine: out[i] = cos(x[i]), x in radians.",
)


tan: Callable[..., Expr] = function(
    "tan",
    "np.tan({0})",
    lambda y, x: 1 + y**2,
    ufunc="np.tan",
    operations=10,
    sample=((-1.2, 1.2),),
    latex=r"\tan",
    same=(np.tan,),
    source="tan′ = 1 + tan², DLMF 4.20.3",
    about="The tangent: out[i] = tan(x[i]), x in radians.",
)


arcsin: Callable[..., Expr] = function(
    "arcsin",
    "np.arcsin({0})",
    lambda y, x: reciprocal(sqrt(1 - x**2)),
    ufunc="np.arcsin",
    operations=20,
    sample=((-0.9, 0.9),),
    domain="numbers between -1 and 1",
    latex=r"\arcsin",
    same=(np.arcsin,),
    source="arcsin′ x = 1/√(1 − x²), DLMF 4.24.7",
    about="The inverse sine, in radians: sin(out[i]) = x[i].",
)


arccos: Callable[..., Expr] = function(
    "arccos",
    "np.arccos({0})",
    lambda y, x: -reciprocal(sqrt(1 - x**2)),
    ufunc="np.arccos",
    operations=20,
    sample=((-0.9, 0.9),),
    domain="numbers between -1 and 1",
    latex=r"\arccos",
    same=(np.arccos,),
    source="arccos′ x = −1/√(1 − x²), DLMF 4.24.8",
    about="The inverse cosine, in radians: cos(out[i]) = x[i].",
)


arctan: Callable[..., Expr] = function(
    "arctan",
    "np.arctan({0})",
    lambda y, x: reciprocal(1 + x**2),
    ufunc="np.arctan",
    operations=20,
    latex=r"\arctan",
    same=(np.arctan,),
    source="arctan′ x = 1/(1 + x²), DLMF 4.24.9",
    about="The inverse tangent, in radians: tan(out[i]) = x[i].",
)


arctan2: Callable[..., Expr] = function(
    "arctan2",
    "np.arctan2({0}, {1})",
    lambda z, y, x: (x * reciprocal(x**2 + y**2), -y * reciprocal(x**2 + y**2)),
    ufunc="np.arctan2",
    operations=20,
    sample=((0.5, 2.0), (-2.0, 2.0)),
    domain="points other than the origin",
    same=(np.arctan2,),
    source="d arctan(y/x) = (x dy − y dx)/(x² + y²), from DLMF 4.24.9",
    about="The angle of the point (x[i], y[i]), in radians from -π to π; y is the first argument.",
)


sinh: Callable[..., Expr] = function(
    "sinh",
    "np.sinh({0})",
    lambda y, x: cosh(x),
    ufunc="np.sinh",
    operations=10,
    latex=r"\sinh",
    same=(np.sinh,),
    source="sinh′ = cosh, DLMF 4.34.1",
    about="The hyperbolic sine: out[i] = (exp(x[i]) - exp(-x[i]))/2.",
)


cosh: Callable[..., Expr] = function(
    "cosh",
    "np.cosh({0})",
    lambda y, x: sinh(x),
    ufunc="np.cosh",
    operations=10,
    latex=r"\cosh",
    same=(np.cosh,),
    source="cosh′ = sinh, DLMF 4.34.2",
    about="The hyperbolic cosine: out[i] = (exp(x[i]) + exp(-x[i]))/2.",
)


tanh: Callable[..., Expr] = function(
    "tanh",
    "np.tanh({0})",
    lambda y, x: 1 - y**2,
    ufunc="np.tanh",
    operations=10,
    latex=r"\tanh",
    same=(np.tanh,),
    source="tanh′ = 1 − tanh², DLMF 4.34.3",
    about="The hyperbolic tangent: out[i] = tanh(x[i]).",
)


arcsinh: Callable[..., Expr] = function(
    "arcsinh",
    "np.arcsinh({0})",
    lambda y, x: reciprocal(sqrt(1 + x**2)),
    ufunc="np.arcsinh",
    operations=20,
    latex=r"\operatorname{arsinh}",
    same=(np.arcsinh,),
    source="arsinh′ x = 1/√(1 + x²), DLMF 4.38.9",
    about="The inverse hyperbolic sine: sinh(out[i]) = x[i].",
)


arccosh: Callable[..., Expr] = function(
    "arccosh",
    "np.arccosh({0})",
    lambda y, x: reciprocal(sqrt(x**2 - 1)),
    ufunc="np.arccosh",
    operations=20,
    sample=((1.5, 3.0),),
    domain="numbers above 1",
    latex=r"\operatorname{arcosh}",
    same=(np.arccosh,),
    source="arcosh′ x = 1/√(x² − 1), DLMF 4.38.10",
    about="The inverse hyperbolic cosine: cosh(out[i]) = x[i].",
)


arctanh: Callable[..., Expr] = function(
    "arctanh",
    "np.arctanh({0})",
    lambda y, x: reciprocal(1 - x**2),
    ufunc="np.arctanh",
    operations=20,
    sample=((-0.8, 0.8),),
    domain="numbers between -1 and 1",
    latex=r"\operatorname{artanh}",
    same=(np.arctanh,),
    source="artanh′ x = 1/(1 − x²), DLMF 4.38.11",
    about="The inverse hyperbolic tangent: tanh(out[i]) = x[i].",
)


# exp(-log(1 + exp(-x))), which neither overflows nor loses small values.
sigmoid: Callable[..., Expr] = function(
    "sigmoid",
    "np.exp(np.minimum({0}, 0)) / (1 + np.exp(-np.fabs({0})))",
    lambda y, x: y * (1 - y),
    operations=20,
    latex=r"\sigma",
    source="σ′ = σ(1 − σ)",
    about="The logistic function: out[i] = 1/(1 + exp(-x[i])).",
)


# log(1 + exp(x)), which does not overflow.
softplus: Callable[..., Expr] = function(
    "softplus",
    "np.maximum({0}, 0) + np.log1p(np.exp(-np.fabs({0})))",
    lambda y, x: sigmoid(x),
    operations=20,
    source="log(1 + eˣ)′ = σ(x)",
    about="The smooth ramp: out[i] = log(1 + exp(x[i])).",
)


erf: Callable[..., Expr] = function(
    "erf",
    "{erf}({0})",
    lambda y, x: 2 / pi**0.5 * exp(-(x**2)),
    operations=20,
    calls=(routines.erf,),
    source="erf′ x = 2/√π exp(−x²), DLMF 7.10.1",
    about="The error function: out[i] = 2/√π times the integral of exp(-t²) from 0 to x[i].",
)


lgamma: Callable[..., Expr] = function(
    "lgamma",
    "{lgamma}({0})",
    lambda y, x: digamma(x),
    operations=30,
    sample=((0.5, 3.0),),
    domain="positive numbers",
    latex=r"\log\Gamma",
    calls=(routines.lgamma,),
    source="(log Γ)′ = ψ, DLMF 5.2.2",
    about="The logarithm of the gamma function: out[i] = log|Γ(x[i])|.",
)


digamma: Callable[..., Expr] = function(
    "digamma",
    "{digamma}({0})",
    lambda y, x: _polygamma(1, x),
    operations=30,
    sample=((0.5, 3.0),),
    domain="positive numbers",
    latex=r"\psi",
    calls=(routines.digamma,),
    source="ψ′ = ψ₁, DLMF 5.15.1",
    about="The derivative of log Γ: out[i] = Γ′(x[i])/Γ(x[i]).",
)


_polygamma: Callable[..., Expr] = function(
    "polygamma",
    "{polygamma}({0}, {1})",
    lambda y, n, x: (None, _polygamma(n + 1, x)),
    operations=50,
    sample=((1.0, 1.0), (0.5, 3.0)),
    domain="whole orders, positive numbers",
    calls=(routines.polygamma,),
    source="ψₙ′ = ψₙ₊₁, DLMF 5.15",
    about="The derivative of order n of ψ, the derivative of log Γ: out[i] = ψₙ(x[i]).",
)


@public()
def polygamma(n: int, x: object) -> Expr:
    """The derivative of order n of the digamma function ψ, entry by entry: out[i] = ψₙ(x[i]).

    ψₙ′ = ψₙ₊₁ (DLMF 5.15). Raises `UnsupportedError` unless n is a whole number that is not negative.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> print(td.jacobian(td.digamma(x), x))
    polygamma(1, x[i])*δ[i,j] -> [i,j]
    """
    if isinstance(x, Liftable):
        return cast(Expr, x.lift(lambda value: polygamma(n, value), (x,)))
    order = whole_number(number_of(as_expr(n)))
    if order is None or order < 0:
        raise UnsupportedError(f"polygamma({n!r}, ...): the order is a whole number that is not negative.")
    return _polygamma(order, x) if order else digamma(x)
