"""Neurons of a feed-forward network, one by one: how much each adds to the output, and which tokens it speaks for.

The down-projection has one row for each neuron. What the network writes is the sum of these rows, each times what its
neuron does. Seen so, a layer is a memory: a neuron that recognises something (a key) and a row that it then adds (a
value). Source: Geva et al. 2021, arXiv:2012.14913; rows read as pushes on the vocabulary: Geva et al. 2022,
arXiv:2203.14680; a sublayer's direct part of the logits: Elhage et al. 2021, "A mathematical framework for transformer
circuits".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.continuation import logits_of, run_rest
from engine.edits import EditingTap
from engine.model import Model


@dataclass(frozen=True)
class Neurons:
    """All neurons of one layer at one token."""

    hidden: Float[Array, "F"]  # what each neuron does
    lengths: Float[Array, "F"]  # length of what it adds to the output
    shares: Float[Array, "F"]  # the part of that which points along the whole output; together 1
    order: Int[Array, "F"]  # from the largest share to the smallest
    half: int  # how many of the largest shares make half of the output

    def carried(self, count: int) -> float:
        """What the `count` largest shares sum to."""
        return float(np.sum(self.shares[self.order[:count]]))


def contribution(model: Model, layer: int, neuron: int, hidden: Float[Array, "F"]) -> Float[Array, "D"]:
    """What one neuron adds to the layer's output: its row of the down-projection times what it does."""
    return row(model, layer, neuron) * hidden[neuron]


def row(model: Model, layer: int, neuron: int) -> Float[Array, "D"]:
    """The neuron's row of the layer's down-projection (F, D). Raises ValueError for a neuron that is not there."""
    stored: Any = model.weights.blocks[layer].w_down  # kept as its transpose
    if not 0 <= neuron < stored.rows.shape[1]:
        raise ValueError(f"The neurons of a layer are numbered 0 to {stored.rows.shape[1] - 1}; there is no {neuron}.")
    return np.ascontiguousarray(stored.rows[:, neuron])


def neurons(model: Model, trace: Mapping[str, Array], layer: int, position: int) -> Neurons:
    """Every neuron's part in what the feed-forward network of `layer` writes at one token."""
    stored: Any = model.weights.blocks[layer].w_down
    hidden, output = trace[f"blk.{layer}.ffn.hidden"][position], trace[f"blk.{layer}.ffn.out"][position]
    lengths = np.abs(hidden) * np.sqrt(np.einsum("df,df->f", stored.rows, stored.rows))
    shares = hidden * (output @ stored.rows) / np.sum(output * output)
    order = np.argsort(-shares, kind="stable")
    half = int(np.argmax(np.cumsum(shares[order]) >= 0.5)) + 1
    return Neurons(hidden, lengths, shares, order, half)


@dataclass(frozen=True)
class Push:
    """What a vector, added to the last stream, does to the logits directly, less its mean over the vocabulary."""

    logits: Float[Array, "V"]
    up: Int[Array, "k"]  # the tokens it raises most
    down: Int[Array, "k"]  # the tokens it lowers most


def direct_push(model: Model, written: Float[Array, "D"], last: Float[Array, "D"], k: int = 10) -> Push:
    """The term of the logits that is due to `written`: written / rms(last) · norm weight, times the output matrix.

    `last` is the stream after the last block, whose size the last norm divides by. These terms of the embedding and of
    all sublayers sum to the logits. A constant over all tokens, which no probability notices, is taken off. Neglected:
    what later layers make of it.
    """
    size = np.sqrt(np.mean(last * last) + np.float32(model.config.eps))
    scaled = written / size * model.weights.final_norm
    logits = (scaled[None] @ model.weights.unembedding)[0]
    logits = logits - np.mean(logits)
    return Push(logits, _largest(logits, k), _largest(-logits, k))


def _largest(values: Float[Array, "V"], k: int) -> Int[Array, "k"]:
    found = np.argpartition(-values, k)[:k]
    return found[np.argsort(-values[found], kind="stable")]


def without_neuron(
    model: Model, trace: Mapping[str, Array], layer: int, neuron: int, position: int
) -> Float[Array, "V"]:
    """The logits after `position` when the model runs with that neuron switched off, at every token."""
    row(model, layer, neuron)  # is there such a neuron?
    before = trace[f"blk.{layer - 1}.resid" if layer else "embed"][: position + 1]
    name = f"blk.{layer}.ffn.hidden"

    def off(value: Array, seen: Any) -> Array:
        return value * (np.arange(value.shape[-1]) != neuron).astype(value.dtype)

    stream = run_rest(model, before, layer, np.arange(position + 1), tap=EditingTap(None, {name: off}))
    return logits_of(model, stream[-1:])[0]


@lru_cache(maxsize=1)
def _mean_token(model: Model) -> Float[Array, "D"]:
    table: Any = model.weights.unembedding
    return np.mean(table.rows, axis=0)


def pushes_on(model: Model, trace: Mapping[str, Array], layer: int, position: int, token: int) -> Float[Array, "F"]:
    """Every neuron's direct push on the logit of one token: entry `token` of `direct_push`, without the others."""
    stored: Any = model.weights.blocks[layer].w_down
    table: Any = model.weights.unembedding
    last = trace[f"blk.{model.config.layers - 1}.resid"][position]
    size = np.sqrt(np.mean(last * last) + np.float32(model.config.eps))
    reader = (table.rows[token] - _mean_token(model)) * model.weights.final_norm / size
    return trace[f"blk.{layer}.ffn.hidden"][position] * (reader @ stored.rows)
