"""An array that remembers how it was made: the record on which backpropagation walks back.

`Traced` follows NumPy's own dispatch (`__array_ufunc__`, `__array_function__`), so any function in plain NumPy runs on
it untouched: give it arrays and it computes, give it traced arrays and it also leaves a record. What does not depend on
a traced array stays a plain array and is not recorded.

Left out: writing into traced arrays, and tracing twice for second derivatives.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from engine.arrays import Array
from engine.derivatives import CONSTANT, RULES, RULES_FOR_MANY, WRITTEN_OUT, rule_for

_clock = itertools.count()


class Traced(NDArrayOperatorsMixin):
    """An array with its history: the function that made it, all its arguments, and the traced ones among them."""

    __slots__ = ("__weakref__", "args", "function", "kwargs", "name", "order", "sources", "value")

    shape: tuple[int, ...]  # these, and an array's methods, are set at the end of this file
    dtype: np.dtype[Any]
    ndim: int
    size: int

    def __init__(
        self, value: Any, function: Any = None, args: Any = (), kwargs: Any = None, sources: Any = (), name: str = ""
    ) -> None:
        self.value = np.asarray(value)
        self.function, self.args, self.kwargs = function, args, kwargs or {}
        self.sources: Any = sources  # for each traced argument: the array, its place, the rule for its gradient
        self.name = name
        self.order = next(_clock)  # always later than what it was computed from

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            raise TypeError(f"np.{ufunc.__name__} into an existing array cannot be traced: make a new array.")
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} cannot be traced: use np.sum, np.max or the like.")
        return record(ufunc, args, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return record(function, args, kwargs)

    def __getitem__(self, index: Any) -> Any:
        return record(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("A traced array cannot be written into: build a new one with np.where, np.stack or the like.")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("A traced array cannot become a plain one, its history would be lost (np.stack joins several).")

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"


def record(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Compute with the plain values, and remember how."""
    if function in WRITTEN_OUT:
        return WRITTEN_OUT[function](*args, **kwargs)
    plain = [_plain(arg) for arg in args]
    if function in CONSTANT:
        return function(*plain, **{name: _plain(arg) for name, arg in kwargs.items()})
    _check(function, kwargs)
    value = function(*plain, **kwargs)
    if value.dtype.kind != "f":  # whole numbers and truth values have no derivative
        return value
    sources = [(source, place, rule_for(function, place, index)) for source, place, index in _traced(args)]
    return Traced(value, function, plain, kwargs, sources)


def trace(tree: Any, name: str = "") -> Any:
    """Traced stand-ins, in the same form, for an array or for dicts, lists and tuples of arrays, named by their place.

    Raises TypeError for anything that is not floating-point.
    """
    return tree_map(_input, tree, name)


def tree_map(function: Callable[[Any, str], Any], tree: Any, path: str = "") -> Any:
    """function(leaf, path) for every leaf of nested dicts, lists and tuples; a path reads like `blocks.0.w_q`."""
    if isinstance(tree, dict):
        return {key: tree_map(function, item, f"{path}.{key}".lstrip(".")) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)([tree_map(function, item, f"{path}.{i}".lstrip(".")) for i, item in enumerate(tree)])
    return tree if tree is None else function(tree, path)


def _input(leaf: Any, name: str) -> Traced:
    kind = np.asarray(leaf).dtype
    if kind.kind != "f":
        raise TypeError(f"Only floating-point numbers have gradients, not {kind} {name}".strip() + ".")
    return Traced(leaf, name=name)


def _plain(arg: Any) -> Any:
    if isinstance(arg, Traced):
        return arg.value
    if isinstance(arg, (list, tuple)) and any(isinstance(item, Traced) for item in arg):
        return [item.value if isinstance(item, Traced) else item for item in arg]
    return arg


def _traced(args: Any) -> Iterator[tuple[Traced, int, int | None]]:
    """The traced arrays among the arguments, with their place, and their place within a list of arrays."""
    for position, arg in enumerate(args):
        if isinstance(arg, Traced):
            yield arg, position, None
        elif isinstance(arg, (list, tuple)):
            yield from ((item, position, i) for i, item in enumerate(arg) if isinstance(item, Traced))


def _check(function: Callable[..., Any], kwargs: Any) -> None:
    name = getattr(function, "__name__", str(function))
    if function not in RULES and function not in RULES_FOR_MANY:
        raise TypeError(f"The NumPy function {name} has no derivative rule here (engine/derivatives.py).")
    if any(isinstance(arg, Traced) for arg in kwargs.values()):
        raise TypeError(f"Give traced arrays to {name} by position, not by keyword.")
    if unknown := kwargs.keys() - {"axis", "keepdims", "shape", "axes"}:
        raise TypeError(f"{name} cannot be traced with the option {', '.join(sorted(unknown))}.")


# The attributes and methods of an array, each through the NumPy function of the same name ----------------------------


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def _shape_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """x.reshape(2, 3) and x.reshape((2, 3)) alike."""
    return lambda self, *shape: function(self, shape[0] if len(shape) == 1 else shape or None)


def _attribute(name: str) -> property:
    return property(lambda self: getattr(self.value, name))


for _name in ("shape", "dtype", "ndim", "size"):
    setattr(Traced, _name, _attribute(_name))
for _name in ("sum", "mean", "max", "min", "var", "std", "clip", "cumsum", "ravel", "squeeze", "swapaxes", "take",
              "dot", "repeat", "astype", "copy", "argmax", "argmin", "argsort", "any", "all"):  # fmt: skip
    setattr(Traced, _name, _method(getattr(np, _name)))
for _name in ("reshape", "transpose"):
    setattr(Traced, _name, _shape_method(getattr(np, _name)))
setattr(Traced, "T", property(np.transpose))  # noqa: B010 - mypy does not follow assignments to a class
setattr(Traced, "mT", property(lambda self: np.swapaxes(self, -1, -2)))  # noqa: B010
Array.register(Traced)  # type: ignore[attr-defined]
