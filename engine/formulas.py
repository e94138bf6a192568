"""How a recorded step is written out: its operation and its local derivatives, in names and in numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.traced import Traced

# function: (the operation, its derivative by each argument); {0}, {1} are the arguments, {y} the result.
FORMULAS: dict[Callable[..., Any], tuple[str, tuple[str, ...]]] = {
    np.add: ("{0} + {1}", ("1", "1")),
    np.subtract: ("{0} − {1}", ("1", "−1")),
    np.multiply: ("{0} · {1}", ("{1}", "{0}")),
    np.divide: ("{0} / {1}", ("1 / {1}", "−{0} / {1}²")),
    np.power: ("{0} ^ {1}", ("{1} · {0} ^ ({1} − 1)", "{y} · log {0}")),
    np.negative: ("−{0}", ("−1",)),
    np.square: ("{0}²", ("2 · {0}",)),
    np.sqrt: ("√{0}", ("1 / (2 · {y})",)),
    np.exp: ("exp {0}", ("{y}",)),
    np.log: ("log {0}", ("1 / {0}",)),
    np.sin: ("sin {0}", ("cos {0}",)),
    np.cos: ("cos {0}", ("−sin {0}",)),
    np.tanh: ("tanh {0}", ("1 − {y}²",)),
    np.absolute: ("|{0}|", ("sign of {0}",)),
    np.maximum: ("max({0}, {1})", ("1 where {0} is larger, else 0", "1 where {1} is at least as large, else 0")),
    np.minimum: ("min({0}, {1})", ("1 where {0} is smaller, else 0", "1 where {1} is at most as large, else 0")),
    np.matmul: ("{0} @ {1}", ("{1}", "{0}")),
    np.sum: ("sum of {0}", ("1",)),
    np.mean: ("mean of {0}", ("1 / count",)),
    np.max: ("maximum of {0}", ("1 at the maximum, else 0",)),
    np.reshape: ("{0} in another shape", ("1",)),
    operator.getitem: ("entries of {0}", ("1 for each entry picked, else 0",)),
}


def describe(step: Traced, labels: dict[int, str]) -> tuple[str, str]:
    """The operation of a step in names and in numbers: ("a · b", "2 · (−3)"). Two empty texts for an input."""
    if step.function is None:
        return "", ""
    name = getattr(step.function, "__name__", "function")
    template = FORMULAS.get(step.function, (name + " {0}", ()))[0]
    return _fill(template, _names(step, labels), "y"), _fill(template, [_value(arg) for arg in step.args], "y")


def local_formula(step: Traced, place: int, labels: dict[int, str]) -> str:
    """The derivative of a step by its argument at `place`, in names; empty where there is no short way to write it."""
    formulas = FORMULAS.get(step.function, ("", ()))[1]
    if place >= len(formulas):
        return ""
    names = _names(step, labels)
    if step.function is np.power and place == 0 and np.ndim(step.args[1]) == 0 and names[1] == _value(step.args[1]):
        return _power_rule(names[0], float(step.args[1]))
    return _fill(formulas[place], names, labels[step.order])


def _power_rule(base: str, exponent: float) -> str:
    if exponent in (1.0, 2.0):
        return "1" if exponent == 1.0 else f"2 · {base}"
    return f"{_value(exponent)} · {base} ^ {_value(exponent - 1)}"


def number(value: Any) -> str:
    """Four significant digits with a true minus sign; the shape, for an array."""
    value = np.asarray(value)
    if value.ndim:
        return " × ".join(str(size) for size in value.shape) + " array"
    return f"{float(value) + 0.0:.4g}".replace("-", "−")  # + 0.0: no minus sign at 0


def _names(step: Traced, labels: dict[int, str]) -> list[str]:
    """Each argument by its label where it is traced, by its value where it is a constant."""
    names = [_value(arg) for arg in step.args]
    for source, place, _ in step.sources:
        names[place] = labels[source.order]
    return names


def _value(arg: Any) -> str:
    if isinstance(arg, (int, float, np.ndarray, np.generic)):
        text = number(arg)
        return f"({text})" if text.startswith("−") else text
    return "…"


def _fill(template: str, arguments: list[str], result: str) -> str:
    return template.format(*arguments, "", y=result)
