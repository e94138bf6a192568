"""Local derivatives: how a gradient passes back through each NumPy function.

Every rule has the same form, rule(g, y, *inputs): g is the gradient of the loss with respect to the result y, and the
rule returns the gradient with respect to one of the inputs, which is g times the local derivative. A gradient may come
out in the broadcast shape; `unbroadcast` sums it down afterwards. Where a function has a kink the choice is stated.
Left out: functions of functions (sorting by a traced key, linear algebra beyond products), and second derivatives.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from engine.arrays import Array

Rule = Callable[..., Any]


def unbroadcast(gradient: Array, like: Array) -> Array:
    """Sum over the axes along which `like` was repeated to reach the gradient's shape, and take on its dtype."""
    if gradient.shape != like.shape:
        gradient = np.sum(gradient, axis=tuple(range(gradient.ndim - like.ndim)))
        repeated = tuple(axis for axis, size in enumerate(like.shape) if size != gradient.shape[axis])
        gradient = np.sum(gradient, axis=repeated, keepdims=True)
    return gradient if gradient.dtype == like.dtype else gradient.astype(like.dtype)


def _divide_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    return unbroadcast(g * y, np.asarray(b)) / -b  # −g y / b; where b was repeated, summed first


# Powers --------------------------------------------------------------------------------------------------------------


def _power_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g * b * np.power(a, b - (b != 0))  # b a^(b-1), and 0 where b is 0


def _power_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    base = np.asarray(a, y.dtype)
    with np.errstate(invalid="ignore"):  # a negative base has no real derivative here: nan
        return g * np.where(y == 0, 0, y * np.log(np.where(base == 0, 1, base)))


# Products of matrices ------------------------------------------------------------------------------------------------


def _swap(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def _matmul_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:  # a vector on the right
        return g[..., None] * b
    if a.ndim == 1:  # a vector on the left
        return (b @ g[..., None])[..., 0]
    if b.ndim == 2 and g.ndim > 2:  # one matrix for the whole batch: one product over all its rows
        return np.reshape(g.reshape(-1, g.shape[-1]) @ b.T, (*g.shape[:-1], b.shape[0]))
    return g @ _swap(b)


def _matmul_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return a * g if b.ndim == 1 else a[:, None] * g[..., None, :]
    if b.ndim == 1:
        return (_swap(a) @ g[..., None])[..., 0]
    if b.ndim == 2:
        return a.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return _swap(a) @ g


def _vecdot_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g[..., None] * b


def _vecdot_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 2 and b.ndim > 1 and b.shape[-2] == 1:  # one vector with many rows: their parts are summed at once
        return np.vecmat(g, a)[..., None, :]
    return g[..., None] * a


def _einsum(position: int, g: Any, y: Any, subscripts: str, *arrays: Any) -> Any:
    inputs, output = subscripts.replace(" ", "").split("->")
    letters = inputs.split(",")
    wanted = letters.pop(position)
    others = [array for index, array in enumerate(arrays) if index != position]
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(output).union(*letters):
        raise ValueError(f'The derivative of np.einsum("{subscripts}") is not supported: write it with @ and np.sum.')
    return np.einsum(",".join([output, *letters]) + "->" + wanted, g, *others)


# Reductions ----------------------------------------------------------------------------------------------------------


def _spread(g: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Undo the loss of axes: the reduced axes come back with length 1, and broadcast against x."""
    if keepdims:
        return g
    return np.reshape(g, (1,) * x.ndim) if axis is None else np.expand_dims(g, axis)


def _sum(g: Any, y: Any, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.broadcast_to(_spread(g, x, axis, keepdims), x.shape)


def _mean(g: Any, y: Any, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.broadcast_to(_spread(g, x, axis, keepdims) / (x.size // max(y.size, 1)), x.shape)


def _extreme(g: Any, y: Any, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    winners = x == _spread(y, x, axis, keepdims)  # equal winners share the gradient
    count = np.count_nonzero(winners, axis=axis, keepdims=True)
    return winners * (_spread(g, x, axis, keepdims) / np.asarray(count, g.dtype))


def _cumsum(g: Any, y: Any, x: Any, axis: int) -> Any:
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)


# Picking entries -----------------------------------------------------------------------------------------------------


def _scatter(g: Any, x: Any, positions: Any) -> Any:
    """Each gradient is added at the entry of x (counted through the flattened array) that it was copied from."""
    total = np.bincount(positions.reshape(-1), weights=g.reshape(-1), minlength=x.size)
    return total.reshape(x.shape).astype(g.dtype)


def _scatter_rows(g: Any, x: Any, rows: Any) -> Any:
    """The same for whole rows, as in an embedding lookup: sort by row, then add up each run of equal rows."""
    rows = rows.reshape(-1) % len(x)  # -1 is the last row
    order = np.argsort(rows, kind="stable")
    unique, starts = np.unique(rows[order], return_index=True)
    total = np.zeros_like(x)
    if rows.size:
        total[unique] = np.add.reduceat(g.reshape(-1, *x.shape[1:])[order], starts, axis=0)
    return total


def _copied(function: Callable[..., Any]) -> Rule:
    """The rule of any function that only copies entries: run it on their positions to see where each came from."""

    def rule(g: Any, y: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return _scatter(g, x, function(np.arange(x.size).reshape(x.shape), *args, **kwargs))

    return rule


def _getitem(g: Any, y: Any, x: Any, index: Any) -> Any:
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts):
        total = np.zeros_like(x)  # a plain slice copies no entry twice
        total[index] = g
        return total
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu":
        return _scatter_rows(g, x, index)
    return _copied(operator.getitem)(g, y, x, index)


def _take(g: Any, y: Any, x: Any, indices: Any, axis: Any = None) -> Any:
    if axis == 0:
        return _scatter_rows(g, x, np.asarray(indices))
    return _copied(np.take)(g, y, x, indices, axis)


def _nth_of_concatenate(index: int, g: Any, y: Any, arrays: Any, axis: int = 0) -> Any:
    start = sum(array.shape[axis] for array in arrays[:index])
    before = (slice(None),) * (axis % g.ndim)
    return g[(*before, slice(start, start + arrays[index].shape[axis]))]


def _nth_of_stack(index: int, g: Any, y: Any, arrays: Any, axis: int = 0) -> Any:
    return np.take(g, index, axis)


# The table: function, and a rule for each of its array arguments -----------------------------------------------------

RULES: dict[Callable[..., Any], tuple[Rule | None, ...]] = {
    np.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),
    np.subtract: (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    np.multiply: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    np.divide: (lambda g, y, a, b: g / b, _divide_right),
    np.power: (_power_base, _power_exponent),
    np.matmul: (_matmul_left, _matmul_right),
    np.vecdot: (_vecdot_left, _vecdot_right),
    np.maximum: (lambda g, y, a, b: g * (a > b), lambda g, y, a, b: g * (b >= a)),  # a tie counts as the second
    np.minimum: (lambda g, y, a, b: g * (a < b), lambda g, y, a, b: g * (b <= a)),
    np.logaddexp: (lambda g, y, a, b: g * np.exp(a - y), lambda g, y, a, b: g * np.exp(b - y)),
    np.negative: (lambda g, y, x: -g,),
    np.positive: (lambda g, y, x: g,),
    np.absolute: (lambda g, y, x: g * np.sign(x),),  # 0 at 0
    np.square: (lambda g, y, x: g * 2 * x,),
    np.sqrt: (lambda g, y, x: g / (2 * y),),
    np.reciprocal: (lambda g, y, x: -g * y * y,),
    np.exp: (lambda g, y, x: g * y,),
    np.expm1: (lambda g, y, x: g * (y + 1),),
    np.log: (lambda g, y, x: g / x,),
    np.log2: (lambda g, y, x: g / x / float(np.log(2)),),
    np.log1p: (lambda g, y, x: g / (1 + x),),
    np.sin: (lambda g, y, x: g * np.cos(x),),
    np.cos: (lambda g, y, x: -g * np.sin(x),),
    np.tanh: (lambda g, y, x: g * (1 - y * y),),
    np.where: (
        None,
        lambda g, y, condition, a, b: np.where(condition, g, 0),
        lambda g, y, condition, a, b: np.where(condition, 0, g),
    ),
    np.sum: (_sum,),
    np.mean: (_mean,),
    np.max: (_extreme,),
    np.min: (_extreme,),
    np.cumsum: (_cumsum,),
    np.reshape: (lambda g, y, x, shape: g.reshape(x.shape),),
    np.ravel: (lambda g, y, x: g.reshape(x.shape),),
    np.squeeze: (lambda g, y, x, axis=None: g.reshape(x.shape),),
    np.expand_dims: (lambda g, y, x, axis: g.reshape(x.shape),),
    np.swapaxes: (lambda g, y, x, axis1, axis2: np.swapaxes(g, axis1, axis2),),
    np.moveaxis: (lambda g, y, x, source, destination: np.moveaxis(g, destination, source),),
    np.transpose: (lambda g, y, x, axes=None: np.transpose(g, None if axes is None else np.argsort(axes)),),
    np.broadcast_to: (lambda g, y, x, shape: g,),
    np.astype: (lambda g, y, x, dtype: g,),
    np.copy: (lambda g, y, x, order="K": g,),
    operator.getitem: (_getitem,),
    np.take: (_take,),
    np.take_along_axis: (_copied(np.take_along_axis),),
    np.repeat: (_copied(np.repeat),),
    np.tile: (_copied(np.tile),),
    np.flip: (_copied(np.flip),),
    np.roll: (_copied(np.roll),),
}

# The same for functions of any number of arrays: rule(index, g, y, ...) for the array at that place.
RULES_FOR_MANY: dict[Callable[..., Any], Rule] = {
    np.concatenate: _nth_of_concatenate,
    np.stack: _nth_of_stack,
    np.einsum: _einsum,
}

# Flat almost everywhere, so that no gradient passes: the plain result is returned.
CONSTANT: frozenset[Callable[..., Any]] = frozenset(
    [
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or,
        np.logical_not, np.isfinite, np.isnan, np.isinf, np.sign, np.signbit, np.floor, np.ceil, np.rint, np.round,
        np.argmax, np.argmin, np.argsort, np.argpartition, np.count_nonzero, np.nonzero, np.any, np.all, np.shape,
        np.ndim, np.size, np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.array_equal, np.allclose,
        np.isclose, np.result_type,
    ]
)  # fmt: skip


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, 2) or (ord == 2 and axis is None and x.ndim > 1):
        raise ValueError("Only the Euclidean norm of np.linalg.norm can be differentiated here.")
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _var(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.mean(np.square(x - np.mean(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)


def _dot(a: Any, b: Any) -> Any:
    if np.ndim(a) > 2 or np.ndim(b) > 2:
        raise ValueError("np.dot of more than two axes cannot be differentiated here: use @ instead.")
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else a @ b


def _split(x: Any, sections: Any, axis: int = 0) -> Any:
    pieces = np.split(np.arange(x.shape[axis]), sections)
    before = (slice(None),) * (axis % x.ndim)
    return [x[(*before, slice(int(piece[0]), int(piece[-1]) + 1) if len(piece) else slice(0, 0))] for piece in pieces]


# Functions made of others: written out in NumPy, and differentiated as such.
WRITTEN_OUT: dict[Callable[..., Any], Callable[..., Any]] = {
    np.clip: lambda x, low, high: np.minimum(np.maximum(x, low), high),
    np.linalg.norm: _norm,
    np.var: _var,
    np.std: lambda x, axis=None, *, keepdims=False: np.sqrt(_var(x, axis, keepdims=keepdims)),
    np.dot: _dot,
    np.outer: lambda a, b: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)),
    np.sort: lambda x, axis=-1: np.take_along_axis(x, np.argsort(x, axis), axis),
    np.split: _split,
}


def rule_for(function: Callable[..., Any], position: int, index: int | None) -> Rule:
    """The rule for the array at `position` among the arguments, or at `index` within the list that stands there."""
    if function in RULES_FOR_MANY:
        return partial(RULES_FOR_MANY[function], position - 1 if index is None else index)
    rules = RULES[function]
    rule = rules[position] if position < len(rules) and index is None else None
    if rule is None:
        raise TypeError(f"{function.__name__} cannot be differentiated with respect to its argument {position + 1}.")
    return rule
