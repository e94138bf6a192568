""" "Three, two, one, …": a network of 45 parameters that learns one next token, small enough to draw every edge.

Three tokens, each looked up as a vector of 2 numbers; their 6 numbers feed 3 hidden neurons with tanh; those feed one
logit for each of the 4 tokens of the vocabulary. The same `lookup`, `softmax` and `cross_entropy` as in the real model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import Graph, trace
from engine.embeddings import lookup
from engine.formulas import number
from engine.sampling import cross_entropy, softmax

VOCABULARY = ("three", "two", "one", "liftoff")
PROMPT = ("three", "two", "one")
WIDTH, HIDDEN = 2, 3

Parameters = dict[str, np.ndarray]


def tiny_network(seed: int = 0) -> Parameters:
    """Random parameters: the embedding table (4, 2), w1 (6, 3), b1 (3), w2 (3, 4), b2 (4); float64."""
    rng = np.random.default_rng(seed)
    inputs = len(PROMPT) * WIDTH
    return {
        "embedding": rng.normal(0, 1, (len(VOCABULARY), WIDTH)),
        "w1": rng.normal(0, 1 / np.sqrt(inputs), (inputs, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(0, 1 / np.sqrt(HIDDEN), (HIDDEN, len(VOCABULARY))),
        "b2": np.zeros(len(VOCABULARY)),
    }


@dataclass(frozen=True)
class Forward:
    """Every intermediate of the forward pass, named."""

    inputs: Float[Array, " inputs"]  # the three embeddings end to end
    sums: Float[Array, " hidden"]  # weighted sums of the hidden neurons
    hidden: Float[Array, " hidden"]  # tanh of those
    logits: Float[Array, " vocabulary"]
    probabilities: Float[Array, " vocabulary"]
    loss: Float[Array, ""]  # −log of the target's probability


def forward(parameters: dict[str, Any], prompt: Sequence[str], target: str) -> Forward:
    """From three tokens to the loss against the target token. Raises ValueError for words outside the vocabulary."""
    inputs, sums, hidden, logits = layers(parameters, prompt)
    return Forward(inputs, sums, hidden, logits, softmax(logits), loss_against(logits, [target]))


def layers(parameters: dict[str, Any], prompt: Sequence[str]) -> tuple[Array, Array, Array, Array]:
    """From three tokens to the logits: inputs, sums, hidden, logits."""
    inputs = np.reshape(lookup(parameters["embedding"], token_ids(prompt)), -1)
    sums = inputs @ parameters["w1"] + parameters["b1"]
    hidden = np.tanh(sums)
    return inputs, sums, hidden, hidden @ parameters["w2"] + parameters["b2"]


def loss_against(logits: Float[Array, " vocabulary"], targets: Sequence[str]) -> Float[Array, ""]:
    """The cross entropy of one guess against each target, averaged, in nats."""
    rows = np.tile(np.reshape(logits, (1, -1)), (len(targets), 1))
    return cross_entropy(rows, token_ids(targets))


def token_ids(words: Sequence[str]) -> np.ndarray:
    """The id of each word: its place in the vocabulary."""
    for word in words:
        if word not in VOCABULARY:
            raise ValueError(f"“{word}” is not in this network's vocabulary of {len(VOCABULARY)} words.")
    return np.array([VOCABULARY.index(word) for word in words])


@dataclass(frozen=True)
class Unit:
    """A neuron to draw: layer 0 the inputs, 1 the hidden neurons, 2 the logits."""

    name: str
    label: str
    layer: int
    value: float
    gradient: float  # ∂loss / ∂value
    formula: str  # how that gradient came about, in numbers


@dataclass(frozen=True)
class Link:
    """A weight to draw, from one neuron to another."""

    name: str
    source: str
    target: str
    weight: float
    gradient: float  # ∂loss / ∂weight
    formula: str  # the chain rule for it, in numbers


@dataclass(frozen=True)
class Step:
    """One training step: forward, backward, update."""

    parameters: Parameters
    values: Forward  # plain arrays
    gradients: dict[str, np.ndarray]  # by parameter name and by the name of an intermediate
    graph: Graph
    updated: Parameters
    loss_before: float
    loss_after: float
    prompt: tuple[str, ...]
    target: str

    @property
    def units(self) -> tuple[Unit, ...]:
        return _units(self)

    @property
    def links(self) -> tuple[Link, ...]:
        return _links(self)


def training_step(
    parameters: Parameters, prompt: Sequence[str] = PROMPT, target: str = "liftoff", learning_rate: float = 0.5
) -> Step:
    """One step of gradient descent: parameter − learning_rate · gradient, for every parameter."""
    if len(prompt) != len(PROMPT):
        raise ValueError(f"This network reads {len(PROMPT)} tokens, not {len(prompt)}.")
    traced = trace(parameters)
    steps: Any = forward(traced, prompt, target)  # the same fields, holding traced arrays
    named = {field.name: getattr(steps, field.name) for field in fields(steps)}
    graph = Graph(steps.loss, named)
    gradients = {name: graph.gradient(array) for name, array in {**traced, **named}.items()}
    values = Forward(**{name: array.value for name, array in named.items()})
    updated = {name: array - learning_rate * gradients[name] for name, array in parameters.items()}
    loss_after = float(forward(updated, prompt, target).loss)
    return Step(parameters, values, gradients, graph, updated, float(values.loss), loss_after, tuple(prompt), target)


def trajectory(
    parameters: Parameters,
    steps: int,
    prompt: Sequence[str] = PROMPT,
    target: str = "liftoff",
    learning_rate: float = 0.5,
) -> tuple[Step, ...]:
    """`steps` training steps in a row, each starting from the parameters that the one before left."""
    taken: list[Step] = []
    for _ in range(steps):
        taken.append(training_step(taken[-1].updated if taken else parameters, prompt, target, learning_rate))
    return tuple(taken)


def loss_of(parameters: dict[str, Any], prompt: Sequence[str] = PROMPT, target: str = "liftoff") -> Float[Array, ""]:
    """The loss alone, for `gradient_check(loss_of, (parameters,))`."""
    return loss_against(layers(parameters, prompt)[-1], [target])


def _units(step: Step) -> tuple[Unit, ...]:
    """Each neuron's gradient written out: by its outgoing weights, or for a logit as probability minus 1 or 0."""
    v, g, p, wanted = step.values, step.gradients, step.parameters, VOCABULARY.index(step.target)
    inputs = [
        Unit(f"x{i}", f"{step.prompt[i // WIDTH]}[{i % WIDTH}]", 0, float(x), float(g["inputs"][i]),
             _sum_of_products(g["sums"], p["w1"][i]))
        for i, x in enumerate(v.inputs)
    ]  # fmt: skip
    hidden = [
        Unit(f"h{i}", f"hidden {i}", 1, float(h), float(g["hidden"][i]), _sum_of_products(g["logits"], p["w2"][i]))
        for i, h in enumerate(v.hidden)
    ]
    logits = [
        Unit(f"z{i}", VOCABULARY[i], 2, float(z), float(g["logits"][i]),
             f"{number(v.probabilities[i])} − {int(i == wanted)}")
        for i, z in enumerate(v.logits)
    ]  # fmt: skip
    return (*inputs, *hidden, *logits)


def _links(step: Step) -> tuple[Link, ...]:
    """Each weight's gradient is the gradient of the sum it feeds times the value it multiplies."""
    v, g, p = step.values, step.gradients, step.parameters
    layers = (("w1", "x", "h", v.inputs, g["sums"]), ("w2", "h", "z", v.hidden, g["logits"]))
    return tuple(
        Link(f"{name}[{i},{j}]", f"{source}{i}", f"{target}{j}", float(p[name][i, j]), float(g[name][i, j]),
             f"{_bracketed(after[j])} · {_bracketed(before[i])}")
        for name, source, target, before, after in layers
        for i, j in np.ndindex(p[name].shape)
    )  # fmt: skip


def _sum_of_products(gradients: np.ndarray, weights: np.ndarray) -> str:
    return " + ".join(f"{_bracketed(a)} · {_bracketed(b)}" for a, b in zip(gradients, weights, strict=True))


def _bracketed(value: Any) -> str:
    text = number(value)
    return f"({text})" if text.startswith("−") else text
