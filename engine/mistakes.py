"""Known mistakes, put into the engine on purpose: to see that the checks can fail, and which of them notices what.

Each mistake of a function is that function done wrongly, which the checks are then given in place of the right one.
Each mistake of the real model is an edit (`engine.edits`) of all its blocks. Several are the ones that implementations
of language models are known for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.activation import gelu, silu
from engine.attention import Attention, attention
from engine.block import layer_norm, rms_norm
from engine.edits import Edit, other_rope
from engine.feed_forward import swiglu
from engine.gates import with_activation
from engine.model import Ids, Model
from engine.multi_head import grouped_query_attention
from engine.proof_list import checks
from engine.proof_model import Differences, Stored, differences
from engine.proofs import Function, Measured, made
from engine.rope import rotate
from engine.sampling import softmax


@dataclass(frozen=True)
class Mistake:
    """A function, what is done in its place, and what is wrong with it in one sentence."""

    function: Function
    wrong: Function
    what: str


def other_pairs(x: Any, positions: Any, base: float = 10000.0, layout: str = "interleaved", scaling: Any = None) -> Any:
    """Half-split pairs where interleaved ones are asked for, and the other way round."""
    return rotate(x, positions, base, "half" if layout == "interleaved" else "interleaved", scaling)


def counted_from_one(x: Any, positions: Any, *args: Any, **options: Any) -> Any:
    """The first token at position 1."""
    return rotate(x, np.asarray(positions) + 1, *args, **options)


def without_maximum(q: Any, k: Any, v: Any, **options: Any) -> Attention:
    """Exponentials of the scores as they are."""
    return attention(q, k, v, **options, subtract_max=False)


def undivided(q: Any, k: Any, v: Any, scale: float | None = None, **options: Any) -> Attention:
    """Scores not divided by the square root of the width."""
    return attention(q, k, v, scale=1.0 if scale is None else scale, **options)


def one_too_far(q: Any, k: Any, v: Any, causal: bool = True, **options: Any) -> Attention:
    """A mask off by one: every token also sees the one after it."""
    queries, keys = q.shape[-2], k.shape[-2]
    next_too = np.tril(np.ones((queries, keys), bool), keys - queries + 1) if causal else np.ones((queries, keys), bool)
    hidden = np.where(next_too, 0.0, -np.inf).astype(q.dtype)
    bias = options.pop("bias", None)
    return attention(q, k, v, causal=False, bias=hidden if bias is None else hidden + bias, **options)


def in_half(q: Any, k: Any, v: Any, **options: Any) -> Attention:
    """Queries, keys and values rounded to 16 bits, and all sums in 16 bits."""
    found = attention(q.astype(np.float16), k.astype(np.float16), v.astype(np.float16), **options)
    return Attention(*(part.astype(q.dtype) for part in (found.scores, found.masked, found.weights, found.output)))


def one_float64(q: Any, k: Any, v: Any, **options: Any) -> Attention:
    """Right numbers, but a single float64 array on the way."""
    return attention(q * np.ones(1), k, v, **options)


def other_heads(q: Any, k: Any, v: Any, **options: Any) -> Attention:
    """Query head h reads key/value head h mod K, as if the heads took turns."""
    heads, shared = q.shape[-3], k.shape[-3]
    turns = np.arange(heads) % shared
    return attention(q, np.take(k, turns, axis=-3), np.take(v, turns, axis=-3), **options)


def always_tanh(x: Any, approximate: str = "none") -> Any:
    """GELU's approximation by tanh, whichever form is asked for."""
    return gelu(x, approximate="tanh")


def swapped(x: Any, w_gate: Any, w_up: Any, w_down: Any) -> Any:
    """Gate and up exchanged: SiLU of the wrong one."""
    return swiglu(x, w_up, w_gate, w_down)


def centred(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    """The mean subtracted as well, which is what layer norm does."""
    return layer_norm(x, weight, weight * 0, eps)


def no_square_root(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    """Divided by the mean square instead of its root."""
    return x / (np.mean(x * x, axis=-1, keepdims=True) + float(eps)) * weight


def half_differentiated(logits: Any, temperature: float = 1.0, axis: int = -1, subtract_max: bool = True) -> Any:
    """The right shares, but backpropagation takes the sum below the line for a constant."""
    divided = logits / float(temperature)
    powers = np.exp(divided - np.max(getattr(divided, "value", divided), axis=axis, keepdims=True))
    return powers / np.sum(getattr(powers, "value", powers), axis=axis, keepdims=True)


MISTAKES = {
    "pairs": Mistake(rotate, other_pairs, "RoPE turns the wrong pairs"),
    "from one": Mistake(rotate, counted_from_one, "RoPE counts from 1"),
    "maximum": Mistake(attention, without_maximum, "attention forgets to subtract the maximum"),
    "scale": Mistake(attention, undivided, "attention forgets to divide by √d"),
    "mask": Mistake(attention, one_too_far, "the causal mask is off by one"),
    "half": Mistake(attention, in_half, "attention computes in 16 bits"),
    "float64": Mistake(attention, one_float64, "a float64 array slips into attention"),
    "heads": Mistake(grouped_query_attention, other_heads, "query heads read the wrong key/value heads"),
    "gelu": Mistake(gelu, always_tanh, "GELU always in its tanh form"),
    "gate": Mistake(swiglu, swapped, "gate and up are exchanged"),
    "centre": Mistake(rms_norm, centred, "RMSNorm subtracts the mean"),
    "root": Mistake(rms_norm, no_square_root, "RMSNorm forgets the square root"),
    "constant": Mistake(softmax, half_differentiated, "backpropagation through softmax stops half way"),
}


def with_mistake(name: str) -> list[Measured]:
    """Every hand-sized check of the function, made with the mistake. Raises ValueError for an unknown one."""
    if name not in MISTAKES:
        raise ValueError(f"There is no mistake called {name}.")
    mistake = MISTAKES[name]
    return [made(check, mistake.wrong) for check in checks() if check.function is mistake.function]


# In the real model ----------------------------------------------------------------------------------------------------


def _in_all_blocks(model: Model, part: str, patch: Callable[[str], Callable[[Any, Any], Any]]) -> Edit:
    return {f"blk.{i}.{part}": patch(f"blk.{i}.") for i in range(model.config.layers)}


def _swapped_gates(model: Model) -> Edit:
    def other_way(block: str) -> Callable[[Any, Any], Any]:
        return lambda hidden, seen: silu(seen[f"{block}ffn.up"]) * seen[f"{block}ffn.gate"]

    return _in_all_blocks(model, "ffn.hidden", other_way)


def _undivided_scores(model: Model) -> Edit:
    factor = np.float32(model.config.head_dim**0.5)
    return _in_all_blocks(model, "attn.scores", lambda block: lambda scores, seen: scores * factor)


def _half_stream(model: Model) -> Edit:
    return _in_all_blocks(
        model, "resid", lambda block: lambda stream, seen: stream.astype(np.float16).astype(np.float32)
    )


def _other_eps(model: Model) -> Edit:
    """The norm before every attention with a smaller ε than the model was trained with."""
    blocks = model.weights.blocks

    def renormed(i: int) -> Callable[[Any, Any], Any]:
        before = f"blk.{i - 1}.resid" if i else "embed"
        return lambda value, seen: rms_norm(seen[before], blocks[i].attn_norm, 1e-6)

    return {f"blk.{i}.attn.norm": renormed(i) for i in range(model.config.layers)}


def _seeing_ahead(model: Model) -> Edit:
    """Each token also attends to the next one; the weights are made anew from the scores."""

    def ahead(block: str) -> Callable[[Any, Any], Any]:
        def weights(value: Any, seen: Any) -> Any:
            scores = seen[f"{block}attn.scores"]
            visible = np.tril(np.ones(scores.shape[-2:], bool), 1)
            return softmax(np.where(visible, scores, np.float32(-np.inf)))

        return weights

    return _in_all_blocks(model, "attn.weights", ahead)


MODEL_MISTAKES: dict[str, tuple[str, Callable[[Model], Edit]]] = {
    "none": ("nothing is wrong", lambda model: {}),
    "pairs": (
        "RoPE turns half-split pairs, not interleaved ones",
        lambda model: other_rope(model.config, layout="half"),
    ),
    "base": ("RoPE with the base 10,000 for 100,000", lambda model: other_rope(model.config, base=10_000.0)),
    "scale": ("scores are not divided by √64", _undivided_scores),
    "ahead": ("each token sees the one after it", _seeing_ahead),
    "gate": ("gate and up are exchanged", _swapped_gates),
    "gelu": ("GELU for SiLU", lambda model: with_activation("gelu", model.config.layers)),
    "eps": ("the norms before attention use ε = 10⁻⁶, not 10⁻⁵", _other_eps),
    "half": ("the stream is rounded to 16 bits after every block", _half_stream),
}


def broken_run(model: Model, ids: Ids, name: str) -> dict[str, np.ndarray]:
    """Logits and streams of a run with a mistake in every block; kept by the model's memo.

    Raises ValueError for an unknown mistake.
    """
    if name not in MODEL_MISTAKES:
        raise ValueError(f"There is no mistake called {name}.")
    text = tuple(map(int, ids))

    def run() -> dict[str, np.ndarray]:
        trace: dict[str, np.ndarray] = {}
        model.forward(text, trace=trace, edit=MODEL_MISTAKES[name][1](model))
        return {key: value for key, value in trace.items() if key == "logits" or key.endswith(".resid")}

    return dict(model.memo.get(("mistake", text, name), run))


def broken_differences(model: Model, golden: Stored, name: str) -> Differences:
    """How far the broken model is from Hugging Face on a stored text; kept."""
    found: Differences = model.memo.get(
        ("mistake, differences", golden.text, name), lambda: differences(broken_run(model, golden.ids, name), golden)
    )
    return found
