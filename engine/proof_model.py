"""Checks of the real model: against Hugging Face on the same dequantised weights, and against itself two ways.

What Hugging Face computes for twelve texts has been stored by tests/references/make_smollm2_goldens.py, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import attention
from engine.model import Model, load
from engine.proofs import REFERENCE, TWO_WAYS, Check, largest_difference, relative_error, stored, stored_json_of
from engine.rope import rotate
from engine.sampling import log_softmax

LOG_P = 1e-3  # nats, both sides in float32
COLUMNS = 2e-3  # of logits
STREAM = 1e-4  # relative to the stream's largest number
SHIFT = 1000  # positions; angles of float32 are then exact to a few 1e-5
HUGGING_FACE = "transformers LlamaForCausalLM"


@dataclass(frozen=True)
class Stored:
    """What is stored of one text."""

    text: str
    ids: np.ndarray
    top_ids: np.ndarray  # (T, 20) the likeliest next tokens at every position
    top_log_p: np.ndarray
    surprisal: np.ndarray  # of each token given those before
    columns: np.ndarray  # (T, 32) of the logits
    stream: np.ndarray  # (5, 576) the residual stream after some blocks, at the last position


def texts() -> dict[str, str]:
    """The twelve texts by name."""
    return dict(stored_json_of("smollm2")["prompts"])


def stored_of(name: str) -> Stored:
    """Everything stored of one of the texts. Raises ValueError for another name."""
    if name not in texts():
        raise ValueError(f"There is no stored text called {name}.")
    parts = ("ids", "top_ids", "top_log_p", "surprisal", "columns", "stream")
    return Stored(texts()[name], *(stored("smollm2")[f"{name}.{part}"] for part in parts))


@dataclass(frozen=True)
class Differences:
    """How far a run of the model is from Hugging Face's."""

    log_p: Float[Array, "T"]  # the largest difference among the 20 likeliest tokens, at each position
    choices: int  # positions at which another token is the likeliest
    columns: float  # the largest difference of 32 logits at every position
    stream: float  # of the residual stream after five blocks, relative
    loss: float  # mean surprisal, ours
    their_loss: float

    @property
    def passed(self) -> bool:
        """Everything within its limit?"""
        near = np.max(self.log_p) <= LOG_P and abs(self.loss - self.their_loss) <= LOG_P
        return bool(near and not self.choices and self.columns <= COLUMNS and self.stream <= STREAM)


def differences(trace: Mapping[str, Array], golden: Stored) -> Differences:
    """Of a run on the stored text, which may be one with an edit; `trace` needs the logits, and the streams."""
    log_p = log_softmax(trace["logits"])
    off = np.abs(np.take_along_axis(log_p, golden.top_ids, -1) - golden.top_log_p)
    blocks = stored("smollm2")["stream_after"]
    streams = [
        relative_error(trace[f"blk.{block}.resid"][-1], stream)
        for block, stream in zip(blocks, golden.stream, strict=True)
    ]
    own = -np.take_along_axis(log_p[:-1], golden.ids[1:, None].astype(int), -1)
    return Differences(
        log_p=np.max(off, axis=-1),
        choices=int(np.sum(np.argmax(log_p, -1) != golden.top_ids[:, 0])),
        columns=largest_difference(trace["logits"][:, stored("smollm2")["column_ids"]], golden.columns),
        stream=max(streams),
        loss=float(np.mean(own)) if len(own) else 0.0,
        their_loss=float(np.mean(golden.surprisal)) if len(golden.surprisal) else 0.0,
    )


def of_text(name: str) -> Differences:
    """The model as it is, on one of the stored texts."""
    golden = stored_of(name)
    return differences(load().trace(golden.ids), golden)


# Two ways to one number, for any text ---------------------------------------------------------------------------------


def cached_difference(model: Model, ids: Sequence[int]) -> float:
    """Token by token with the KV cache, against the whole text at once: largest difference of a log-probability."""
    cache = model.new_cache(len(ids))
    rows = [model.forward(np.array([i]), cache) for i in ids]
    return largest_difference(log_softmax(np.concatenate(rows)), log_softmax(model.trace(ids)["logits"]))


def stream_difference(model: Model, ids: Sequence[int]) -> float:
    """The embedding plus everything the blocks say they added, against the stream after the last block; relative."""
    trace, layers = model.trace(ids), model.config.layers
    added = [trace[f"blk.{i}.{part}.out"].astype(np.float64) for i in range(layers) for part in ("attn", "ffn")]
    return relative_error(trace["embed"] + sum(added), trace[f"blk.{layers - 1}.resid"])


def copied_heads_difference(model: Model, ids: Sequence[int]) -> float:
    """Nine query heads on three key/value heads, against nine on nine with the keys and values copied, all blocks."""
    trace, config = model.trace(ids), model.config
    reads = np.arange(config.heads) // (config.heads // config.kv_heads)
    worst = 0.0
    for i in range(config.layers):
        q, k, v, kept = (trace[f"blk.{i}.attn.{part}"] for part in ("q", "k", "v", "weights"))
        worst = max(worst, largest_difference(attention(q, k[reads], v[reads]).weights, kept))
    return worst


def shifted_difference(model: Model, ids: Sequence[int]) -> float:
    """Queries and keys of block 0 turned SHIFT positions further on: largest difference of an attention weight."""
    trace, config = model.trace(ids), model.config
    assert config.rope_base
    positions = trace["positions"] + SHIFT
    q, k = (rotate(trace[f"blk.0.attn.{part}_raw"], positions, config.rope_base) for part in "qk")
    reads = np.arange(config.heads) // (config.heads // config.kv_heads)
    return largest_difference(attention(q, k[reads], k[reads]).weights, trace["blk.0.attn.weights"])


def other_types(model: Model, ids: Sequence[int]) -> float:
    """Activations that are not float32, positions aside: one of float64 would slow everything after it."""
    trace = model.trace(ids)
    return float(sum(value.dtype != np.float32 for name, value in trace.items() if name != "positions"))


WAYS_OF_A_TEXT: dict[str, tuple[Callable[[Model, Sequence[int]], float], str, float]] = {
    "with the KV cache": (cached_difference, "without it", LOG_P),
    "sum of what blocks add": (stream_difference, "the stream after the last block", STREAM),
    "nine heads on three": (copied_heads_difference, "keys and values copied", 1e-5),
    "1,000 positions later": (shifted_difference, "where they are", 1e-3),
    "numbers that are not float32": (other_types, "none", 0.0),
}
"""Name -> what is measured on a text, what it is compared with, and the limit."""


# The checks -----------------------------------------------------------------------------------------------------------


def greedy_difference(name: str, run: Any = None) -> float:
    """Tokens of the greedy continuation that differ from Hugging Face's, of 20 at most."""
    golden = stored("smollm2")[f"{name}.greedy"].tolist()[:20]
    found = [step.id for step in load().generate(stored_of(name).ids, len(golden))]
    return float(sum(a != b for a, b in zip(found, golden, strict=False)) + abs(len(found) - len(golden)))


def gradient_difference(name: str, run: Any = None) -> float:
    """Of the loss with respect to the input vectors, through all blocks: length of the difference, relative."""
    golden = stored("smollm2")[f"{name}.gradient"]
    _, gradient = load().embedding_gradient(stored_of(name).ids)
    return float(np.linalg.norm(gradient - golden) / np.linalg.norm(golden))


def _against(case: str, limit: float, measure: Callable[..., float], function: Any = Model.forward) -> Check:
    return Check("model", function, case, HUGGING_FACE, measure, limit, REFERENCE)


def _of(name: str, part: Callable[[Differences], float]) -> Callable[[Any], float]:
    return lambda function: float(part(of_text(name)))


def _names(part: str) -> list[str]:
    return [name for name in texts() if f"{name}.{part}" in stored("smollm2")]


def _two_ways(case: str, function: Callable[[Model, Sequence[int]], float], against: str, limit: float) -> Check:
    ids = stored_of("sentence").ids[:12]
    return Check("model", Model.forward, case, against, lambda f: function(load(), ids.tolist()), limit, TWO_WAYS)


def model_checks() -> list[Check]:
    """Everything that is checked of SmolLM2."""
    found = []
    for name in texts():
        found += [
            _against(f"log-probabilities, {name}", LOG_P, _of(name, lambda d: np.max(d.log_p))),
            _against(f"likeliest tokens that differ, {name}", 0.0, _of(name, lambda d: d.choices)),
            _against(f"logits, {name}", COLUMNS, _of(name, lambda d: d.columns)),
            _against(f"residual stream, {name}", STREAM, _of(name, lambda d: d.stream)),
            _against(f"loss, {name}", LOG_P, _of(name, lambda d: abs(d.loss - d.their_loss))),
        ]
    for name in _names("greedy"):
        found.append(
            _against(f"greedy tokens that differ, {name}", 0.0, partial(greedy_difference, name), Model.generate)
        )
    for name in _names("gradient"):
        measure = partial(gradient_difference, name)
        found.append(_against(f"gradient at the input, {name}", 1e-3, measure, Model.embedding_gradient))
    return found + [_two_ways(case, *rest) for case, rest in WAYS_OF_A_TEXT.items()]
