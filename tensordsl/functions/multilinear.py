"""The products, rearrangements and sums of tensor algebra: each returns one contraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from tensordsl.contraction import Operand, contract
from tensordsl.dims import AnySize, check_size, divide, product, whole
from tensordsl.errors import ShapeError, UnsupportedError, mark, show_shape
from tensordsl.expr import Expr, Select, brief, operation
from tensordsl.facts import is_symmetric
from tensordsl.functions.convert import as_expr, axis_numbers, check_flag, mismatch, plain
from tensordsl.functions.elementwise import divide as divide_entries
from tensordsl.functions.operators import matmul, multiply
from tensordsl.functions.record import public
from tensordsl.labels import Group, singles


@public(np.outer)
def outer(a: object, b: object) -> Expr:
    """The outer product: out[i,j] = a[i] * b[j]; NumPy's, so that arguments of higher order are flattened (in C order).

    >>> import tensordsl as td
    >>> x, y = td.vector("x", 2), td.vector("y", 3)
    >>> td.outer(x, y).shape
    (2, 3)
    """
    left, right = as_expr(a), as_expr(b)
    rows, columns = tuple(range(left.ndim)), tuple(range(left.ndim, left.ndim + right.ndim))
    return contract(
        1,
        [(left, singles(rows)), (right, singles(columns))],
        (rows, columns),
        dict(enumerate((*left.shape, *right.shape))),
    )


@public(np.inner)
def inner(a: object, b: object) -> Expr:
    """NumPy's inner product, over the last axes: out[i..,j..] = a[i..,l] * b[j..,l].

    Raises `ShapeError` where the last axes differ in size.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 3), td.matrix("B", 4, 3)
    >>> td.inner(A, B) == A @ B.T
    True
    """
    left, right = as_expr(a), as_expr(b)
    if left.ndim == 0 or right.ndim == 0:
        return multiply(left, right)
    return tensordot(left, right, axes=([-1], [-1]))


@operation("dot")
@public(np.dot)
def dot(a: object, b: object) -> Expr:
    """NumPy's dot product: out[i..,j..,k] = a[i..,l] * b[j..,l,k]; a scalar for two vectors.

    Raises `ShapeError` where the axes that are summed differ in size.

    >>> import tensordsl as td
    >>> x, y = td.vector("x", 3), td.vector("y", 3)
    >>> print(td.dot(x, y))
    x[i]*y[i]
    """
    left, right = as_expr(a), as_expr(b)
    if left.ndim == 0 or right.ndim == 0:
        return multiply(left, right)
    if right.ndim <= 2:
        return matmul(left, right) if left.ndim <= 2 else tensordot(left, right, axes=([-1], [max(right.ndim - 2, 0)]))
    return tensordot(left, right, axes=([-1], [-2]))


@public(np.tensordot)
def tensordot(a: object, b: object, axes: Any = 2) -> Expr:
    """NumPy's tensordot: out[i..,j..] = a[i..,l..] * b[l..,j..], summed over pairs of axes.

    `axes` is how many are paired (last of a, first of b), or two lists that name them. Raises `ShapeError` where paired
    axes differ in size.

    >>> import tensordsl as td
    >>> T, A = td.tensor("T", 2, 3, 4), td.matrix("A", 4, 3)
    >>> print(td.tensordot(T, A, axes=([1, 2], [1, 0])))
    A[k,j]*T[i,j,k] -> [i]
    """
    left, right = as_expr(a), as_expr(b)
    if whole(axes) is not None:
        if not 0 <= axes <= min(left.ndim, right.ndim):
            raise mismatch(
                f"tensordot over {axes} axes.",
                [(left, left.ndim < axes), (right, right.ndim < axes)],
                "Both operands must have that many axes.",
            )
        pairs = ([*range(left.ndim - axes, left.ndim)], [*range(axes)])
    else:
        if not isinstance(axes, tuple | list) or len(axes) != 2:
            raise UnsupportedError(f"tensordot over axes={axes!r}: expected a number of axes, or two lists of them.")
        first, second = (v if isinstance(v, tuple | list) else [v] for v in axes)
        pairs = ([*axis_numbers(first, left, "tensordot")], [*axis_numbers(second, right, "tensordot")])
    if len(pairs[0]) != len(pairs[1]):
        raise mismatch(
            f"tensordot pairs {len(pairs[0])} axes with {len(pairs[1])}.",
            [(left, False), (right, True)],
            "Name as many axes of one operand as of the other.",
        )
    sizes = dict(enumerate((*left.shape, *right.shape)))
    labels = [*range(left.ndim, left.ndim + right.ndim)]
    for p, q in zip(*pairs, strict=True):
        if left.shape[p] != right.shape[q]:
            raise mismatch(
                f"tensordot pairs axis {p} of size {left.shape[p]} with axis {q} of size {right.shape[q]}.",
                [(left, False), (right, True)],
                "Paired axes must have one size.",
                (left.shape[p], right.shape[q]),
            )
        sizes.pop(labels[q])
        labels[q] = p
    output = [p for p in range(left.ndim) if p not in pairs[0]] + [
        labels[q] for q in range(right.ndim) if q not in pairs[1]
    ]
    return contract(1, [(left, singles(range(left.ndim))), (right, singles(labels))], singles(output), sizes)


@public(np.kron)
def kron(a: object, b: object) -> Expr:
    """The Kronecker product A ⊗ B: out[(i,p),(j,q)] = A[i,j] * B[p,q]; NumPy's, for mixed orders too.

    Its axes are groups of labels: the product is never formed unless its entries are asked for. The example is the
    identity vec(BXAᵀ) = (A ⊗ B) vec X (Magnus and Neudecker, Matrix Differential Calculus, chapter 2).

    >>> import tensordsl as td
    >>> A, B, X = td.matrix("A", 2, 3), td.matrix("B", 4, 5), td.matrix("X", 5, 3)
    >>> td.kron(A, B) @ td.vec(X) == td.vec(B @ X @ A.T)
    True
    """
    left, right = as_expr(a), as_expr(b)
    ndim = max(left.ndim, right.ndim)
    sizes = dict(enumerate((*left.shape, *right.shape)))
    rows, columns = plain(left), singles(range(left.ndim, left.ndim + right.ndim))
    output = zip((*[()] * (ndim - left.ndim), *rows), (*[()] * (ndim - right.ndim), *columns), strict=True)
    return contract(1, [(left, rows), (right, columns)], tuple(g + h for g, h in output), sizes)


@public()
def khatri_rao(a: object, b: object) -> Expr:
    """The columnwise Kronecker product: out[(i,p),j] = A[i,j] * B[p,j].

    Raises `ShapeError` unless A and B are matrices with as many columns. The example is the identity
    vec(A diag(x) Bᵀ) = (B ∗ A) x, ∗ this product (Khatri and Rao, Sankhyā A 30, 1968).

    >>> import tensordsl as td
    >>> A, B, x = td.matrix("A", 2, 3), td.matrix("B", 4, 3), td.vector("x", 3)
    >>> td.khatri_rao(B, A) @ x == td.vec(A @ td.diag(x) @ B.T)
    True
    """
    left, right = as_expr(a), as_expr(b)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise mismatch(
            "khatri_rao takes two matrices with as many columns.",
            [(left, left.ndim != 2), (right, right.ndim != 2 or left.ndim == 2)],
            "Transpose an operand with .T, or use kron for all pairs of columns.",
            (left.shape[1], right.shape[1]) if left.ndim == right.ndim == 2 else None,
        )
    return contract(
        1,
        [(left, ((0,), (2,))), (right, ((1,), (2,)))],
        ((0, 1), (2,)),
        {0: left.shape[0], 1: right.shape[0], 2: left.shape[1]},
    )


@public()
def vec(a: object) -> Expr:
    """The columns of a matrix stacked: out[(j,i)] = A[i,j]; for any order, the first axis runs fastest.

    For a matrix of shape (m, n) the result has shape (m*n,).

    >>> import tensordsl as td
    >>> td.vec(td.constant([[1, 2], [3, 4]])).evaluate()
    array([1, 3, 2, 4])
    """
    node = as_expr(a)
    return contract(1, [(node, plain(node))], (tuple(reversed(range(node.ndim))),), dict(enumerate(node.shape)))


@public()
def frobenius(a: object, b: object) -> Expr:
    """The inner product of two tensors of one shape, the sum of A ∘ B: out = A[i,j] * B[i,j], a scalar.

    Raises `ShapeError` where the shapes differ. The example: it is the trace of Aᵀ B.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 3), td.matrix("B", 2, 3)
    >>> td.frobenius(A, B) == td.trace(A.T @ B)
    True
    """
    left, right = as_expr(a), as_expr(b)
    if left.shape != right.shape:
        pairs = [(p, q) for p, q in zip(left.shape, right.shape, strict=False) if p != q]
        raise mismatch(
            "frobenius takes two tensors of one shape.",
            [(left, False), (right, True)],
            "Transpose one with .T, or use td.tensordot to name the axes that are summed.",
            pairs[0] if pairs and left.ndim == right.ndim else None,
        )
    return sum_(multiply(left, right))


@public(np.vdot)
def vdot(a: object, b: object) -> Expr:
    """The inner product of all entries, both flattened: out = a[i] * b[i]. Of real numbers: nothing is conjugated.

    Raises `ShapeError` where they have not as many entries.

    >>> import tensordsl as td
    >>> A, B = td.matrix("A", 2, 3), td.matrix("B", 2, 3)
    >>> td.vdot(A, B) == td.frobenius(A, B)
    True
    """
    left, right = as_expr(a), as_expr(b)
    flat = [
        contract(1, [(node, plain(node))], (tuple(range(node.ndim)),), dict(enumerate(node.shape)))
        for node in (left, right)
    ]
    return matmul(*flat)


@public(np.cross)
def cross(a: object, b: object) -> Expr:
    """The cross product of vectors of three entries along the last axes: out[i] = ε[i,j,l] * a[j] * b[l], broadcast.

    ε is 1 for the even permutations of 0, 1, 2, -1 for the odd ones, else 0. Raises `ShapeError` unless the last axes
    have three entries.

    >>> import tensordsl as td
    >>> x, y = td.vector("x", 3), td.vector("y", 3)
    >>> td.cross(x, y).evaluate(x=[1.0, 0.0, 0.0], y=[0.0, 1.0, 0.0])
    array([0., 0., 1.])
    """
    left, right = as_expr(a), as_expr(b)
    for node in (left, right):
        if node.ndim == 0 or node.shape[-1] != 3:
            raise mismatch(
                "cross takes vectors of three entries along the last axis.",
                [(left, node is left), (right, node is right)],
                "Move the axis to the end with td.moveaxis.",
                (node.shape[-1], 3) if node.ndim else None,
            )
    epsilon = np.zeros((3, 3, 3), dtype=np.int64)
    for i in range(3):
        epsilon[i, i - 2, i - 1], epsilon[i, i - 1, i - 2] = 1, -1
    pairs = multiply(left[..., :, None], right[..., None, :])
    return tensordot(pairs, as_expr(epsilon), axes=([-2, -1], [1, 2]))


@public()
def commutation(rows: AnySize, columns: AnySize) -> Expr:
    """The commutation matrix K with K vec(A) = vec(Aᵀ) for A of shape (rows, columns). It is labels only.

    K[(i,j),(l,k)] = δ[i,k] δ[j,l], a square matrix of rows*columns rows (Magnus and Neudecker, chapter 3). Raises
    `ShapeError` for a size that is no size.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 2, 3)
    >>> td.commutation(2, 3) @ td.vec(A) == td.vec(A.T)
    True
    """
    return contract(1, [], ((0, 1), (1, 0)), {0: check_size(rows), 1: check_size(columns)})


@public()
def unvec(v: object, shape: Sequence[AnySize]) -> Expr:
    """The tensor of `shape` whose `vec` is v: out[i,j] = v[(j,i)].

    Raises `ShapeError` where v has not as many entries as `shape`.

    >>> import tensordsl as td
    >>> A = td.matrix("A", 2, 3)
    >>> td.unvec(td.vec(A), (2, 3)) == A
    True
    """
    node = as_expr(v)
    sizes = tuple(check_size(size) for size in (shape if isinstance(shape, tuple | list) else (shape,)))
    if node.ndim != 1 or node.shape[0] != product(sizes):
        raise mismatch(
            f"unvec to shape {show_shape(sizes)} takes a vector of size {product(sizes)}.",
            [(node, True)],
            "Give a shape whose sizes multiply to the size of the vector.",
            (node.shape[0], product(sizes)) if node.ndim == 1 else None,
        )
    labels = tuple(range(len(sizes)))
    return contract(1, [(node, (labels[::-1],))], singles(labels), dict(enumerate(sizes)))


@operation("transpose")
@public(np.transpose)
def transpose(a: object, axes: Any = None) -> Expr:
    """The axes in another order, in reverse when `axes` is None: out[j,i] = A[i,j].

    Raises `ShapeError` unless `axes` names each axis once.

    >>> import tensordsl as td
    >>> td.transpose(td.tensor("T", 2, 3, 4), (1, 0, 2)).shape
    (3, 2, 4)
    """
    node = as_expr(a)
    if isinstance(axes, tuple | list) and len(axes) == 1 and isinstance(axes[0], tuple | list):
        axes = axes[0]
    order = tuple(reversed(range(node.ndim))) if axes is None else axis_numbers(axes, node, "transpose")
    if len(order) != node.ndim:
        raise mismatch(f"transpose to the axes {axes}.", [(node, True)], f"Name each of the {node.ndim} axes once.")
    if order == (1, 0) and is_symmetric(node):
        return node
    return contract(1, [(node, plain(node))], singles(order), dict(enumerate(node.shape)))


@operation("trace")
@public(np.trace)
def trace(a: object, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
    """The sum of the diagonal: out = A[i,i]; over the first two axes of a tensor, or those named.

    With `offset` the diagonal above (or, where negative, below): out = A[i,i+offset]. Raises `ShapeError` unless those
    axes have one size. Derivative: ∂tr(A)/∂A[k,l] = δ[k,l].

    >>> import tensordsl as td
    >>> A = td.matrix("A", 3, 3)
    >>> td.grad(td.trace(A), A) == td.identity(3)
    True
    """
    node = _square(a, offset, axis1, axis2, "trace")
    slots = ((0,), (0,), *singles(range(2, node.ndim)))
    sizes = {p: size for p, size in enumerate(node.shape) if p != 1}
    return contract(1, [(node, slots)], slots[2:], sizes)


@operation("diagonal")
@public(np.diagonal)
def diagonal(a: object, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
    """The diagonal: out[i] = A[i,i]; of a tensor's first two axes, or those named, put last as in NumPy.

    With `offset` that above (or, where negative, below): out[i] = A[i,i+offset]. Raises `ShapeError` unless those axes
    have one size.

    >>> import tensordsl as td
    >>> print(td.diagonal(td.matrix("A", 3, 3)))
    A[i,i] -> [i]
    """
    node = _square(a, offset, axis1, axis2, "diagonal")
    slots = ((0,), (0,), *singles(range(2, node.ndim)))
    sizes = {p: size for p, size in enumerate(node.shape) if p != 1}
    return contract(1, [(node, slots)], (*slots[2:], (0,)), sizes)


def _square(a: object, offset: int, axis1: int, axis2: int, what: str) -> Expr:
    """The tensor with the axes of a diagonal first, and with what lies beyond the one meant cut off."""
    node = as_expr(a)
    if node.ndim >= 2:
        first = axis_numbers((axis1, axis2), node, what)
        node = transpose(node, [*first, *(place for place in range(node.ndim) if place not in first)])
    if node.ndim < 2 or node.shape[0] != node.shape[1]:
        raise mismatch(
            f"{what} takes a square matrix, or a tensor whose first two axes have one size.",
            [(node, True)],
            "Use td.einsum to name the axes meant.",
            (node.shape[0], node.shape[1]) if node.ndim > 1 else None,
            ((node, 0), (node, 1)) if node.ndim > 1 else (),
        )
    by = _offset(offset, what)
    if by:
        size = node.shape[0]
        beyond = isinstance(size, int) and abs(by) > size
        kept = size - size if beyond else size - abs(by)
        rows, columns = (slice(0, kept), slice(by, None)) if by > 0 else (slice(-by, None), slice(0, kept))
        node = node[rows, columns]
    return node


def _offset(offset: Any, what: str) -> int:
    by = whole(offset)
    if by is None:
        raise ShapeError(f"{what}: the offset of a diagonal is a whole number, not {offset!r}.")
    return by


@public(np.diag)
def diag(a: object, k: int = 0) -> Expr:
    """A vector as a diagonal matrix, out[i,j] = x[i] δ[i,j]; of a matrix, its diagonal, out[i] = A[i,i].

    With `k` it is the diagonal above (or, where negative, below): out[i,i+k]. Raises `ShapeError` for other orders, and
    unless a matrix is square.

    >>> import tensordsl as td
    >>> x, A = td.vector("x", 3), td.matrix("A", 3, 3)
    >>> td.diag(x) @ A == x[:, None] * A
    True
    """
    node = as_expr(a)
    if node.ndim == 1:
        return _beside(node, _offset(k, "diag"))
    if node.ndim == 2:
        return diagonal(node, k)
    raise mismatch("diag takes a vector or a matrix.", [(node, True)], "Use td.einsum to name the axes meant.")


def _beside(node: Expr, by: int) -> Expr:
    """A vector on a diagonal of a matrix that is as much larger as the diagonal is away."""
    size = node.shape[0]
    if not by:
        return contract(1, [(node, ((0,),))], ((0,), (0,)), {0: size})
    whole = size + abs(by)
    rows, columns = (Select(whole, start, 1, size) for start in (max(-by, 0), max(by, 0)))
    operands = [(node, ((0,),)), (rows, ((0,), (1,))), (columns, ((0,), (2,)))]
    return contract(1, operands, ((1,), (2,)), {0: size, 1: whole, 2: whole})


@operation("sum")
@public(np.sum)
def sum_(a: object, axis: Any = None, keepdims: bool = False, over: Any = None) -> Expr:
    """The sum over `axis`, over all axes when None: out[i] = A[i,j] summed over j; `keepdims` keeps an axis of size 1.

    In index notation, `over` names the indices to sum over: `td.sum(A[i, j] * x[j], over=j)`. Raises `ShapeError` for
    an axis that is not there.

    >>> import tensordsl as td
    >>> print(td.sum(td.matrix("A", 2, 3), axis=1))
    A[i,j] -> [i]
    """
    if over is not None:
        return cast(Expr, _over(a, over))  # indexed, as its argument is
    node = as_expr(a)
    check_flag(keepdims, "keepdims")
    axes = axis_numbers(axis, node, "sum")
    output: list[Group] = [() if p in axes else (p,) for p in range(node.ndim) if keepdims or p not in axes]
    return contract(1, [(node, plain(node))], tuple(output), dict(enumerate(node.shape)))


def _over(a: Any, over: Any) -> Any:
    if not hasattr(a, "sum_over"):
        raise UnsupportedError(
            "sum(..., over=...) is for index notation, as in td.sum(A[i, j] * x[j], over=j); "
            "use axis= for an expression without indices."
        )
    return a.sum_over(over)


@operation("mean")
@public(np.mean)
def mean(a: object, axis: Any = None, keepdims: bool = False) -> Expr:
    """The mean over `axis`, over all axes when None: out[i] = A[i,j] summed over j, divided by the size of j.

    Raises `ShapeError` for an axis that is not there.

    >>> import tensordsl as td
    >>> print(td.mean(td.vector("x", td.dim("k"))))
    x[i]/k
    """
    node = as_expr(a)
    count = as_expr(product(node.shape[p] for p in axis_numbers(axis, node, "mean")))
    return divide_entries(sum_(node, axis, keepdims), count)


@public(np.einsum)
def einsum(subscripts: str, *operands: object, **sizes: AnySize) -> Expr:
    """Einstein summation: `einsum("ij,j->i", A, x)` is out[i] = A[i,j] * x[j], summed over j.

    More than NumPy's: an output letter may repeat, `"i->ii"` (a δ); may be in no operand, given its size by name,
    `einsum("i->ij", x, j=3)`; and letters in parentheses are one axis, the first the slowest, `"ij->(ji)"` (vec).

    Raises `ShapeError` where a letter has two sizes or an operand other axes than letters.

    >>> import tensordsl as td
    >>> A, x = td.matrix("A", 3, 3), td.vector("x", 3)
    >>> td.einsum("ij,i,j->ij", A, x, x) == A * td.outer(x, x)
    True
    >>> td.einsum("i->ii", x) == td.diag(x), td.einsum("ij->(ji)", A) == td.vec(A)
    (True, True)
    """
    nodes = [as_expr(operand) for operand in operands]
    text = subscripts.replace(" ", "") if isinstance(subscripts, str) else ""
    where = f"einsum({subscripts!r}, ...)"
    if not isinstance(subscripts, str):
        raise UnsupportedError(f"{where}: the first argument must be the subscripts, a text such as 'ij,j->i'.")
    before, arrow, after = text.partition("->")
    pieces = before.split(",") if before or nodes else []
    terms = [axes_of_subscripts(piece, text, where) for piece in pieces]
    if len(terms) != len(nodes):
        raise ShapeError(
            f"{where} names {len(terms)} operands, but {len(nodes)} were given.\n"
            f"{mark(text, 0, len(before))}\nSeparate the letters of operands by commas."
        )
    names: dict[str, int] = {}
    known: dict[int, AnySize] = {}

    def label(letter: str) -> int:
        return names.setdefault(letter, len(names))

    pairs: list[Operand] = []
    place = 0
    for term, node, piece in zip(terms, nodes, pieces, strict=True):
        if len(term) != node.ndim:
            raise ShapeError(
                f"{where}: {piece!r} names {len(term)} axes, but {brief(node)} has shape "
                f"{show_shape(node.shape)}.\n{mark(text, place, place + max(1, len(piece)))}\n"
                "Give one letter for each axis."
            )
        slots = []
        for axis, size in zip(term, node.shape, strict=True):
            group = tuple(label(letter) for letter in axis)
            if len(group) == 1 and known.setdefault(group[0], size) != size:
                at = place + max(0, piece.find(axis[0]))
                raise ShapeError(
                    f"{where}: the letter {axis[0]!r} has the sizes {known[group[0]]} and {size}.\n"
                    f"{mark(text, at)}\nOne letter is one size; operands have the shapes "
                    f"{', '.join(show_shape(n.shape) for n in nodes)}.",
                    (known[group[0]], size),
                )
            slots.append(group)
        pairs.append(Operand(node, tuple(slots)))
        place += len(piece) + 1
    for letter, given in sizes.items():
        if letter not in names and not (len(letter) == 1 and letter in text):
            raise ShapeError(f"{where}: a size is given for {letter!r}, a letter that the subscripts do not have.")
        if known.setdefault(label(letter), check_size(given)) != given:
            raise ShapeError(
                f"{where}: the letter {letter!r} has the size {known[label(letter)]} in an operand and {given} by name."
            )
    _solve_groups(pairs, known, where, text, names)
    if not arrow:
        counts = {letter: sum(axis.count(letter) for term in terms for axis in term) for letter in names}
        after = "".join(sorted(letter for letter, count in counts.items() if count == 1))
    output = []
    for axis in axes_of_subscripts(after, text, where):
        for letter in axis:
            if letter not in names or names[letter] not in known:
                raise ShapeError(
                    f"{where}: the size of the output letter {letter!r} is known from no operand.\n"
                    f"{mark(text, len(before) + 2 + max(0, after.find(letter)))}\n"
                    f"Name it in an operand, or give its size: einsum({subscripts!r}, ..., {letter}=3)."
                )
        output.append(tuple(names[letter] for letter in axis))
    unsized = [letter for letter, place in names.items() if place not in known]
    if unsized:
        raise ShapeError(
            f"{where}: the size of {unsized[0]!r} cannot be told.\n{mark(text, text.find(unsized[0]))}\n"
            f"Give it by name: einsum({subscripts!r}, ..., {unsized[0]}=3)."
        )
    return contract(1, pairs, tuple(output), {names[letter]: known[names[letter]] for letter in names})


def axes_of_subscripts(term: str, text: str = "", where: str = "einsum") -> list[str]:
    """The axes of a term, each the letters of its group."""
    axes: list[str] = []
    inside = False
    for character in term:
        if character == "(" and not inside:
            inside = True
            axes.append("")
        elif character == ")" and inside:
            inside = False
        elif character.isalpha():
            if inside:
                axes[-1] += character
            else:
                axes.append(character)
        else:
            raise ShapeError(
                f"{where}: {character!r} is no letter.\n{mark(text, max(0, text.find(character)))}\n"
                "Subscripts are letters, commas, one arrow, and parentheses around grouped letters."
            )
    if inside:
        raise ShapeError(f"{where}: a parenthesis is not closed.\n{mark(text, text.rfind('('))}\nClose it with ')'.")
    return axes


def _solve_groups(
    pairs: Sequence[Operand], known: dict[int, AnySize], where: str, text: str, names: dict[str, int]
) -> None:
    """Sizes of letters in groups: all but one must be known, and divide the axis."""
    from_labels = {label: letter for letter, label in names.items()}
    for node, slots in pairs:
        for group, size in zip(slots, node.shape, strict=True):
            if len(group) == 1:
                continue
            missing = [label for label in group if label not in known]
            if len(missing) > 1:
                letters = ", ".join(from_labels[label] for label in missing)
                raise ShapeError(
                    f"{where}: the sizes of {letters} cannot both be told from an axis of size {size}.\n"
                    f"{mark(text, max(0, text.find('(')))}\nGive one by name, as in einsum(..., i=3)."
                )
            rest = divide(size, product(known[label] for label in group if label in known))
            if rest is None or (not missing and rest != 1):
                raise ShapeError(
                    f"{where}: the letters {''.join(from_labels[la] for la in group)} do not fill an axis of "
                    f"size {size}.\n{mark(text, max(0, text.find('(')))}\nTheir sizes must multiply to it."
                )
            if missing:
                known[missing[0]] = rest
