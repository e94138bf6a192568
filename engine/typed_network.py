"""A network of two inputs, three hidden neurons and two outputs whose weights a reader types."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engine.arrays import Array
from engine.feed_forward import Mlp, mlp_steps

INPUTS, HIDDEN, OUTPUTS = 2, 3, 2
LARGEST = 1000.0

Layer = tuple[np.ndarray, np.ndarray]  # weights (in, out) and biases (out,)


@dataclass(frozen=True)
class TypedNetwork:
    """The weights as used, and every step of the run."""

    x: Float[Array, "2"]
    w1: Float[Array, "2 3"]
    b1: Float[Array, "3"]
    w2: Float[Array, "3 2"]
    b2: Float[Array, "2"]
    steps: Mlp
    suppressed: Bool[Array, "3"]  # hidden neurons that let less than half of a negative sum through


def read_layer(text: str, inputs: int, outputs: int, name: str) -> Layer:
    """Lines of numbers -> weights and biases. One line for each input; one more, if there is one, for the biases.

    Raises ValueError, in a plain sentence, for anything else.
    """
    lines = [line for line in re.split(r"[\n;]+", text.replace("−", "-")) if line.strip()]
    if len(lines) not in (inputs, inputs + 1):
        raise ValueError(
            f"{name} needs {inputs} lines of numbers, or {inputs + 1} with the biases; it has {len(lines)}."
        )
    rows = [_numbers(line, outputs, f"Line {i + 1} of {name}") for i, line in enumerate(lines)]
    biases = rows[inputs] if len(rows) > inputs else [0.0] * outputs
    return np.array(rows[:inputs]), np.array(biases)


def _numbers(line: str, count: int, name: str) -> list[float]:
    words = [word for word in re.split(r"[\s,]+", line) if word]
    if len(words) != count or not all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", word, re.ASCII) for word in words):
        raise ValueError(f"{name} needs {count} numbers with spaces between them, such as 0.5 -1 2.")
    values = [float(word) for word in words]
    if max(map(abs, values)) > LARGEST:
        raise ValueError(f"{name} has a number beyond ±{LARGEST:g}.")
    return values


def places() -> dict[str, str]:
    """Every weight and bias by a short name: "w1:0:2" is the weight from the first input to the third neuron."""
    named = {f"w1:{i}:{j}": f"x{i + 1} → h{j + 1}" for i in range(INPUTS) for j in range(HIDDEN)}
    named |= {f"b1:{j}": f"bias of h{j + 1}" for j in range(HIDDEN)}
    named |= {f"w2:{j}:{k}": f"h{j + 1} → o{k + 1}" for j in range(HIDDEN) for k in range(OUTPUTS)}
    return named | {f"b2:{k}": f"bias of o{k + 1}" for k in range(OUTPUTS)}


def run_typed(
    x1: float | int,
    x2: float | int,
    first: str,
    second: str,
    activation: str = "relu",
    place: str = "w1:0:0",
    nudge: float | int = 0.0,
) -> TypedNetwork:
    """Run the typed weights, the one at `place` moved by `nudge`. Raises ValueError for weights that do not fit."""
    w1, b1 = read_layer(first, INPUTS, HIDDEN, "W1")
    w2, b2 = read_layer(second, HIDDEN, OUTPUTS, "W2")
    parts = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    name, *at = place.split(":")
    parts[name][tuple(map(int, at))] += nudge
    x = np.array([x1, x2], dtype=np.float64)
    steps = mlp_steps(x, w1, b1, w2, b2, activation)
    suppressed = (steps.hidden <= 0) & (steps.activated >= steps.hidden / 2)
    return TypedNetwork(x, w1, b1, w2, b2, steps, suppressed)
