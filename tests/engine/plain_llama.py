"""A Llama written out once more, plainly: loops over tokens, heads and neurons, in float64, from a given stream on.

It shares nothing with the engine but the stored weights: no function of engine.block, engine.attention, engine.rope,
engine.feed_forward or engine.sampling is called. What the engine says of a model with a part switched off must agree.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from engine.model import Model
from engine.weights import Matrix

Off = Collection[tuple[object, ...]]
"""What is off: ("head", block, head), ("attention", block), ("ffn", block), ("norm", block, "attn" or "ffn"),
("residual", block, "attn" or "ffn"), ("rope",)."""


@dataclass
class Run:
    """The streams after each block from `first` on, and every attention map by (block, head)."""

    first: int
    streams: list[np.ndarray] = field(default_factory=list)
    scores: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    maps: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)


def run_from(model: Model, x: np.ndarray, first: int = 0, off: Off = (), pairs: str = "interleaved") -> Run:
    """From the stream before block `first` to the end; `pairs="half"` turns the wrong pairs."""
    c, found = model.config, Run(first)
    x = x.astype(np.float64)
    for i in range(first, c.layers):
        w = {name: stored(part) for name, part in vars(model.weights.blocks[i]).items()}
        normed = x if ("norm", i, "attn") in off else norm(x, w["attn_norm"], c.eps)
        added = np.zeros_like(x)
        for head in range(c.heads):
            out, found.scores[i, head], found.maps[i, head] = one_head(model, normed, w, head, off, pairs)
            if ("head", i, head) not in off and ("attention", i) not in off:
                added = added + out
        x = added if ("residual", i, "attn") in off else x + added
        normed = x if ("norm", i, "ffn") in off else norm(x, w["ffn_norm"], c.eps)
        written = np.zeros_like(x) if ("ffn", i) in off else np.stack([neurons(row, w) for row in normed])
        x = written if ("residual", i, "ffn") in off else x + written
        found.streams.append(x)
    return found


def one_head(model, normed, w, head, off, pairs):
    """What one query head adds to the stream, its scores (−∞ where it may not look), and its weights."""
    c, d = model.config, model.config.head_dim
    own = slice(head * d, head * d + d)
    group = head // (c.heads // c.kv_heads)
    shared = slice(group * d, group * d + d)
    tokens = len(normed)
    q = [turned(w["w_q"][own] @ normed[t], t, c, off, pairs) for t in range(tokens)]
    k = [turned(w["w_k"][shared] @ normed[t], t, c, off, pairs) for t in range(tokens)]
    v = [w["w_v"][shared] @ normed[t] for t in range(tokens)]
    scores, weights, out = np.full((tokens, tokens), -np.inf), np.zeros((tokens, tokens)), []
    for t in range(tokens):
        for s in range(t + 1):
            scores[t, s] = sum(a * b for a, b in zip(q[t], k[s], strict=True)) / math.sqrt(d)
        powers = [math.exp(score - scores[t].max()) for score in scores[t, : t + 1]]
        weights[t, : t + 1] = [power / math.fsum(powers) for power in powers]
        mixed = sum(weights[t, s] * v[s] for s in range(t + 1))
        out.append(w["w_o"][:, own] @ mixed)
    return np.stack(out), scores, weights


def neurons(x, w):
    """SwiGLU for one token: each neuron's value, times its gate, times the row that it writes."""
    gate, up = w["w_gate"] @ x, w["w_up"] @ x
    values = np.array([g / (1 + math.exp(-g)) * u if g > -700 else 0.0 for g, u in zip(gate, up, strict=True)])
    return w["w_down"] @ values


def norm(x, weight, eps):
    """RMSNorm, row by row."""
    return np.stack([row * weight / math.sqrt(sum(row * row) / len(row) + eps) for row in x])


def turned(vector, position, c, off, pairs):
    """RoPE as multiplication of complex numbers."""
    if ("rope",) in off:
        return vector
    half = len(vector) // 2
    angles = position * float(c.rope_base) ** (-np.arange(half) / half)
    if pairs == "half":
        z = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angles)
        return np.concatenate([z.real, z.imag])
    z = (vector[0::2] + 1j * vector[1::2]) * np.exp(1j * angles)
    return np.stack([z.real, z.imag], axis=-1).reshape(-1)


def logits(model: Model, stream: np.ndarray) -> np.ndarray:
    """Last norm and output matrix."""
    return norm(stream, stored(model.weights.final_norm), model.config.eps) @ stored(model.weights.embedding).T


def log_p(scores: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities of each row."""
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def stored(part):
    """A weight as the file stores it, (out, in), in float64."""
    return (part.rows if isinstance(part, Matrix) else part).astype(np.float64)
