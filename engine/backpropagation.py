"""Backpropagation: the gradient of one number with respect to everything it was computed from, in one pass backward.

A function of plain NumPy runs on traced arrays (`engine/traced.py`), which record each step. `backward` walks that
record from the result to the inputs and applies the chain rule: gradient in = gradient out times local derivative,
summed over all uses. This is reverse-mode differentiation (Rumelhart, Hinton and Williams 1986, "Learning
representations by back-propagating errors"). The local derivatives of NumPy's functions are in `engine/derivatives.py`.

Left out: forward mode and second derivatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from engine.arrays import Array
from engine.derivatives import unbroadcast
from engine.formulas import describe, local_formula
from engine.traced import Traced, trace, tree_map

__all__ = [
    "Edge", "GradientCheck", "GradientRow", "Graph", "Node", "Traced", "backward", "gradient_check", "history", "trace",
    "tree_map", "value_and_grad", "worst_errors",
]  # fmt: skip


def backward(output: Traced, keep: bool = False) -> dict[int, Array]:
    """The gradient of a traced scalar with respect to its inputs (with `keep`, to every step too), by `order`.

    Newest first, so that each step has received all parts of its gradient before it hands them on. Without `keep` a
    step is forgotten as soon as it is done, and its memory freed.
    """
    gradients = {output.order: np.ones_like(output.value)}
    steps = history(output)
    while steps:
        step = steps.pop()
        gradient = gradients[step.order] if keep or not step.sources else gradients.pop(step.order)
        for source, _, rule in step.sources:
            part = unbroadcast(rule(gradient, step.value, *step.args, **step.kwargs), source.value)
            known = gradients.get(source.order)
            gradients[source.order] = part if known is None else known + part
        if not keep:
            step.sources, step.args = (), ()
    return gradients


def history(output: Traced) -> list[Traced]:
    """Everything the output was computed from, oldest first, the output last."""
    found: dict[int, Traced] = {}
    waiting = [output]
    while waiting:
        step = waiting.pop()
        if step.order not in found:
            found[step.order] = step
            waiting.extend(source for source, _, _ in step.sources)
    return [found[order] for order in sorted(found)]


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Any, Any]]:
    """A function that returns (f(*args), its gradient), for an f that returns one number.

    The gradient is with respect to argument `argnums`, which may be an array or dicts, lists and tuples of arrays, and
    has the same form; for several `argnums`, a tuple of gradients. Raises ValueError when f's result is not one number,
    TypeError for arguments that are not floating-point and for NumPy functions without a rule.
    """
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def run(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        inputs = {position: trace(args[position]) for position in chosen}
        output = f(*[inputs.get(position, arg) for position, arg in enumerate(args)], **kwargs)
        if np.shape(output) != ():
            raise ValueError(f"A gradient needs one number as the result, not an array of shape {np.shape(output)}.")
        gradients = backward(output) if isinstance(output, Traced) else {}
        results = tuple(tree_map(lambda leaf, _: _gradient(leaf, gradients), inputs[position]) for position in chosen)
        value = output.value[()] if isinstance(output, Traced) else output
        return value, results[0] if isinstance(argnums, int) else results

    return run


def _gradient(leaf: Traced, gradients: dict[int, Array]) -> np.ndarray:
    """The leaf's own copy; zeros where the result did not depend on it."""
    return np.array(gradients[leaf.order]) if leaf.order in gradients else np.zeros_like(leaf.value)


# The record as a graph to draw ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One step: its name, how it was computed (in names and in numbers), its value and its gradient."""

    index: int
    name: str
    operation: str  # "a · b"; empty for an input
    numbers: str  # "2 · 3"
    value: np.ndarray
    gradient: np.ndarray  # of the graph's result with respect to this step


@dataclass(frozen=True)
class Edge:
    """One use of a step by a later one."""

    source: int
    target: int
    formula: str  # the local derivative in names: "b" for the edge from a to a · b; empty where it is not one product
    local: np.ndarray | None  # its value, where it works entry by entry
    passed: np.ndarray  # the part of the source's gradient that came along this edge


class Graph:
    """The computation of a traced scalar, every step with its value and its gradient, oldest first.

    Steps are named by `names`, then by the name an input was traced under, then v1, v2, ... in order of computation.
    """

    def __init__(self, output: Traced, names: Mapping[str, Traced] | None = None) -> None:
        if output.shape != ():
            raise ValueError(f"A graph with gradients needs one number as its result, not the shape {output.shape}.")
        self.value = output.value[()]
        self._steps = history(output)
        self._gradients = backward(output, keep=True)
        self._labels = _labels(self._steps, names or {})
        self._index = {step.order: index for index, step in enumerate(self._steps)}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(i, self._labels[step.order], *describe(step, self._labels), step.value, self.gradient(step))
            for i, step in enumerate(self._steps)
        )

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(
            Edge(self._index[source.order], self._index[step.order], local_formula(step, place, self._labels),
                 _local(step, source, rule), _apply(rule, self.gradient(step), step, source))
            for step in self._steps for source, place, rule in step.sources
        )  # fmt: skip

    def node(self, key: str | Traced) -> Node:
        """The node of that name, or of that traced array. Raises KeyError when it is not part of the graph."""
        if isinstance(key, Traced):
            return self.nodes[self._index[key.order]]
        found = [node for node in self.nodes if node.name == key]
        if not found:
            raise KeyError(key)
        return found[0]

    def gradient(self, key: str | Traced) -> np.ndarray:
        """The gradient of the graph's result with respect to that step; zeros if it does not depend on it."""
        if isinstance(key, Traced):
            return np.asarray(self._gradients.get(key.order, np.zeros_like(key.value)))
        return self.node(key).gradient


def _labels(steps: list[Traced], names: Mapping[str, Traced]) -> dict[int, str]:
    given = {step.order: name for name, step in names.items()}
    counter = itertools.count(1)
    return {step.order: given.get(step.order) or step.name or f"v{next(counter)}" for step in steps}


def _apply(rule: Callable[..., Any], gradient: Array, step: Traced, source: Traced) -> np.ndarray:
    return np.asarray(unbroadcast(rule(gradient, step.value, *step.args, **step.kwargs), source.value))


def _local(step: Traced, source: Traced, rule: Callable[..., Any]) -> np.ndarray | None:
    """d step / d source entry by entry, for functions that work entry by entry on arrays of one shape."""
    elementwise = isinstance(step.function, np.ufunc) and step.function is not np.matmul
    if step.shape != source.shape or not (elementwise or step.shape == ()):
        return None
    return _apply(rule, np.ones_like(step.value), step, source)


# Proof by a second way -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientRow:
    """One parameter's derivative, computed in two ways."""

    name: str
    index: tuple[int, ...]
    value: float
    analytic: float
    numeric: float
    relative_error: float


@dataclass(frozen=True)
class GradientCheck:
    """A row for every parameter, and the largest relative error among them."""

    rows: tuple[GradientRow, ...]
    worst: float


def gradient_check(f: Callable[..., Any], args: Any, eps: float = 1e-5) -> GradientCheck:
    """Backpropagation against (f(x + eps) - f(x - eps)) / (2 eps), in float64, one parameter at a time.

    `args` is the tuple of f's arguments (arrays, or dicts, lists and tuples of arrays); all are checked. The relative
    error divides by the larger of the two derivatives, or by 1e-4 where both are smaller: there the difference quotient
    is mostly rounding. Raises ValueError when eps is not above 0.
    """
    if not eps > 0:
        raise ValueError(f"The step eps must be above 0, not {eps}.")
    args = tree_map(lambda leaf, _: np.array(leaf, np.float64), tuple(args))
    _, gradients = value_and_grad(f, tuple(range(len(args))))(*args)
    analytic = _leaves(gradients)
    rows: list[GradientRow] = []
    for number, (name, leaf) in enumerate(_leaves(args)):
        for index in np.ndindex(leaf.shape):
            up, down = (float(f(*_nudged(args, number, index, step))) for step in (eps, -eps))
            exact, numeric = float(analytic[number][1][index]), (up - down) / (2 * eps)
            error = abs(exact - numeric) / max(abs(exact), abs(numeric), 1e-4)
            rows.append(GradientRow(name, index, float(leaf[index]), exact, numeric, error))
    return GradientCheck(tuple(rows), max((row.relative_error for row in rows), default=0.0))


def worst_errors(f: Callable[..., Any], args: Any, steps: Sequence[float]) -> np.ndarray:
    """The largest relative error for each eps: large steps err by truncation (as eps²), small ones by rounding."""
    return np.array([gradient_check(f, args, eps).worst for eps in steps])


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    tree_map(lambda leaf, path: found.append((path, leaf)), tree)
    return found


def _nudged(args: Any, number: int, index: tuple[int, ...], step: float) -> Any:
    """The same arguments with one entry of leaf `number` moved by `step`."""
    counter = itertools.count()

    def move(leaf: np.ndarray, path: str) -> np.ndarray:
        if next(counter) != number:
            return leaf
        moved = leaf.copy()
        moved[index] += step
        return moved

    return tree_map(move, args)
