"""Tensor algebra: derivatives by rule, readable in every notation, computed without losing their structure."""

from tensordsl.derivatives import (
    derivative,
    differential,
    grad,
    hessian,
    hvp,
    jacobian,
    jacobian_matrix,
    jvp,
    vjp,
)
from tensordsl.dims import dim, dims
from tensordsl.errors import (
    BindError,
    DerivativeError,
    ParseError,
    PlanError,
    ShapeError,
    TensorDSLError,
    UnsupportedError,
)
from tensordsl.execution.check import check_derivative
from tensordsl.execution.compiled import compile  # noqa: A004
from tensordsl.expr import Expr
from tensordsl.functions.convert import (
    basis,
    constant,
    identity,
    matrix,
    ones,
    scalar,
    tensor,
    vector,
    zeros,
)
from tensordsl.functions.indices import indices
from tensordsl.functions.linalg import linalg
from tensordsl.functions.record import functions as _functions
from tensordsl.parsing import parse
from tensordsl.printing.forms import explain
from tensordsl.program.plan import plan

globals().update({name: function for name, function in _functions.items()})
