"""Gates: one neuron that decides how much of another passes, alone, and by the thousand in the real model.

Source: Shazeer 2020, "GLU Variants Improve Transformer", arXiv:2002.05202; the first of them, with a sigmoid, is
Dauphin et al. 2016, arXiv:1612.08083. Neurons that are nearly off and what leaving them out costs: Liu et al. 2023,
"Deja Vu", arXiv:2310.17157.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.activation import silu
from engine.arrays import Array
from engine.edits import Edit, Seen, Trace
from engine.model import Model
from engine.neuron import bend, slope
from engine.sampling import softmax, surprisal


@dataclass(frozen=True)
class Gate:
    """value · activation(gate), and how fast it changes with both."""

    opening: Float[Array, "..."]  # activation(gate): the factor on the value
    output: Float[Array, "..."]
    by_value: Float[Array, "..."]  # ∂output / ∂value = the opening
    by_gate: Float[Array, "..."]  # ∂output / ∂gate = value times the slope of the activation at the gate


def gated(value: Float[Array, "..."], gate: Float[Array, "..."], form: str = "silu") -> Gate:
    """One gated neuron; value and gate broadcast. With "silu" this is the middle of SwiGLU."""
    opening = bend(form, gate)
    return Gate(opening, opening * value, opening + 0.0 * value, value * slope(form, gate))


# In the real model ---------------------------------------------------------------------------------------------------


def openings(trace: Mapping[str, Array], layer: int) -> Float[Array, "T F"]:
    """What SiLU makes of every gate of a layer: the factor by which each neuron's value passes."""
    return silu(trace[f"blk.{layer}.ffn.gate"])


def off_shares(trace: Mapping[str, Array], thresholds: Sequence[float], layers: int) -> Float[Array, "layers n"]:
    """The share of openings nearer to 0 than each threshold, over all tokens and neurons of each layer."""
    limits = np.asarray(thresholds, np.float32)
    return np.stack([share_below(openings(trace, layer), limits) for layer in range(layers)])


def share_below(opening: Float[Array, "..."], thresholds: Float[Array, "n"]) -> Float[Array, "n"]:
    """The share of openings whose size is less than each threshold; sorted once for all of them."""
    sizes = np.sort(np.abs(np.reshape(opening, -1)))
    return np.searchsorted(sizes, thresholds, side="left") / len(sizes)


@dataclass(frozen=True)
class Histogram:
    """How many values lie between each two edges; the first and last bin also hold what lies beyond."""

    edges: Float[Array, " edges"]
    counts: Any  # whole numbers, one fewer than edges
    beyond: int  # values outside the edges


def histogram(values: Float[Array, "..."], low: float | int, high: float | int, bins: int) -> Histogram:
    """Counts in equally wide bins from low to high."""
    flat = np.reshape(values, -1)
    counts, edges = np.histogram(np.clip(flat, low, high), bins=bins, range=(low, high))
    return Histogram(edges, counts, int(np.sum((flat < low) | (flat > high))))


def strongest(values: Float[Array, "T F"], k: int) -> list[tuple[int, int, float]]:
    """The k values of the largest size: (token, neuron, value), largest first."""
    flat = np.reshape(values, -1)
    k = min(k, len(flat))
    largest = np.argpartition(-np.abs(flat), k - 1)[:k]
    ordered = largest[np.argsort(-np.abs(flat[largest]), kind="stable")]
    return [(int(i) // values.shape[-1], int(i) % values.shape[-1], float(flat[i])) for i in ordered]


def effect(model: Model, ids: Sequence[int], change: str) -> dict[str, Array]:
    """What the model says after a change of all its gates, see `changes`.

    "probabilities" (V,) of the next token, "surprisals" of the text's own tokens in nats, and "off", the share of
    neurons of each layer that pass on exactly 0. Raises ValueError for an unknown change or fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError("A loss needs at least two tokens: the first only serves to predict the second.")
    layers = model.config.layers
    edit = changes(change, layers)
    trace: Any = Trace("blk.*.ffn.hidden", "logits") if edit else model.trace(ids)
    if edit:
        model.forward(ids, trace=trace, edit=edit)
    logits = trace["logits"]
    return {
        "probabilities": softmax(logits[-1]),
        "surprisals": surprisal(logits[:-1], np.asarray(ids)[1:]),
        "off": np.array([np.mean(trace[f"blk.{i}.ffn.hidden"] == 0) for i in range(layers)]),
    }


def changes(change: str, layers: int) -> Edit:
    """ "none"; "below 0.1": silence what is nearly off; "use relu": another activation than SiLU."""
    kind, _, what = change.partition(" ")
    if kind == "none":
        return {}
    if kind == "below":
        return without_nearly_off(float(what), layers)
    if kind == "use":
        return with_activation(what, layers)
    raise ValueError(f"There is no change called {change!r}.")


def without_nearly_off(threshold: float, layers: int) -> Edit:
    """The model with every neuron silent whose opening is nearer to 0 than the threshold, in all layers."""

    def silenced(gate: str) -> Callable[[Any, Seen], Any]:
        return lambda hidden, seen: np.where(np.abs(silu(seen[gate])) < threshold, np.float32(0), hidden)

    return {f"blk.{i}.ffn.hidden": silenced(f"blk.{i}.ffn.gate") for i in range(layers)}


def with_activation(form: str, layers: int) -> Edit:
    """The model with another activation on every gate than the SiLU it was trained with."""

    def other(block: int) -> Callable[[Any, Seen], Any]:
        gate, up = f"blk.{block}.ffn.gate", f"blk.{block}.ffn.up"
        return lambda hidden, seen: bend(form, seen[gate]) * seen[up]

    return {f"blk.{i}.ffn.hidden": other(i) for i in range(layers)}
