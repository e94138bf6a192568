"""The residual stream looked at from outside: who wrote what into it, and what is missed when a part is switched off.

The stream after the last block is the embedding plus everything that 60 sublayers added, so that every share of it can
be told. Sources: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits" (the stream as a sum); Sun et
al. 2024, arXiv:2402.17762 (single huge numbers at the first token); Veit et al. 2016, arXiv:1605.06431 (residual
networks with blocks taken out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from engine import edits
from engine.arrays import Array
from engine.block import ffn_sublayer, rms_norm, run_block
from engine.edits import Edit
from engine.lens import AT_ONCE, Lens, logit_lens, residual_stream
from engine.model import Model
from engine.rope import rotate
from engine.sampling import log_softmax, surprisal


@dataclass(frozen=True)
class Contributions:
    """What each sublayer added to the stream of every token."""

    lengths: Float[Array, "rows T"]  # of the stream: the embedding, then after each block
    attention: Float[Array, "layers T"]  # length of what attention added
    ffn: Float[Array, "layers T"]
    embedding_share: Float[Array, "T"]  # of the last stream, measured along its own direction
    attention_shares: Float[Array, "layers T"]
    ffn_shares: Float[Array, "layers T"]  # all shares of a token sum to 1


def contributions(trace: Mapping[str, Array], layers: int) -> Contributions:
    """The stream as the sum it is. `trace` is `model.trace(ids)`.

    A part's share is its component along the last stream's direction, divided by that stream's length: negative where
    it points the other way.
    """
    streams = np.stack(residual_stream(trace, layers))
    attention = np.stack([trace[f"blk.{i}.attn.out"] for i in range(layers)])
    ffn = np.stack([trace[f"blk.{i}.ffn.out"] for i in range(layers)])
    along = streams[-1] / np.sum(streams[-1] ** 2, axis=-1, keepdims=True)
    embedding, attention_shares, ffn_shares = (np.sum(x * along, axis=-1) for x in (streams[0], attention, ffn))
    lengths, attention, ffn = (np.linalg.norm(x, axis=-1) for x in (streams, attention, ffn))
    return Contributions(lengths, attention, ffn, embedding, attention_shares, ffn_shares)


@dataclass(frozen=True)
class Outlier:
    """The one number of a token's stream that grows largest."""

    channel: int
    values: Float[Array, "rows"]
    shares: Float[Array, "rows"]  # of the squared length of the stream
    written_in: int  # the block that adds most to it
    erased_in: int  # the block that takes most away again
    by: tuple[str, str]  # the sublayers that did so: "attention" or "feed-forward"


def outlier(trace: Mapping[str, Array], layers: int, position: int = 0) -> Outlier:
    """Which channel holds a token's largest number, and which blocks put it there and took it away."""
    stream = np.stack([x[position] for x in residual_stream(trace, layers)])
    channel = int(np.argmax(np.max(np.abs(stream), axis=0)))
    values = stream[:, channel]
    sign = np.sign(values[np.argmax(np.abs(values))])
    names = ("attention", "feed-forward")
    added = sign * np.array([[trace[f"blk.{i}.{part}.out"][position, channel] for part in ("attn", "ffn")]
                             for i in range(layers)])  # fmt: skip
    most, least = (np.unravel_index(place, added.shape) for place in (np.argmax(added), np.argmin(added)))
    by = names[most[1]], names[least[1]]
    return Outlier(channel, values, values**2 / np.sum(stream**2, axis=-1), int(most[0]), int(least[0]), by)


PARTS = {
    "attention": "attention",
    "ffn": "the feed-forward network",
    "attention-norm": "the norm before attention",
    "ffn-norm": "the norm before the feed-forward network",
    "attention-residual": "the residual around attention",
    "ffn-residual": "the residual around the feed-forward network",
}
"""What can be switched off in a block, and what it is called."""


def part_off(part: str, block: int) -> Edit:
    """The edit that switches one part of one block off. Raises ValueError for a part that there is not."""
    switches: dict[str, Callable[[int], Edit]] = {
        "attention": edits.switch_off_attention,
        "ffn": edits.switch_off_ffn,
        "attention-norm": partial(edits.switch_off_norm, sublayer="attn"),
        "ffn-norm": partial(edits.switch_off_norm, sublayer="ffn"),
        "attention-residual": partial(edits.switch_off_residual, sublayer="attn"),
        "ffn-residual": partial(edits.switch_off_residual, sublayer="ffn"),
    }
    if part not in switches:
        raise ValueError(f"A block has no part called {part!r}; it has {', '.join(switches)}.")
    return switches[part](block)


LAST = slice(-1, None)


@dataclass(frozen=True)
class Ablation:
    """The model with a part off beside the model as it is."""

    lens_before: Lens  # of the last token
    lens_after: Lens
    log_p_before: Float[Array, "V"]  # of the next token
    log_p_after: Float[Array, "V"]
    divergence: float  # Kullback-Leibler, before to after, in nats
    surprisal_before: Float[Array, " predicted"]  # of the text's own tokens, the first left out
    surprisal_after: Float[Array, " predicted"]


def ablate(model: Model, ids: Sequence[int], part: str, block: int) -> Ablation:
    """Run a text with one part of one block off, and compare. Raises ValueError for an unknown part."""
    key, edit = tuple(map(int, ids)), part_off(part, block)

    def lens(name: tuple[str, ...], trace: Mapping[str, Array]) -> Lens:
        return Lens(
            *model.memo.get(("last lens", key, *name), lambda: tuple(vars(logit_lens(model, trace, LAST)).values()))
        )

    traces = model.trace(key), model.edited(key, edit, ("off", part, block))
    lenses = lens((), traces[0]), lens((part, str(block)), traces[1])
    before, after = (log_softmax(trace["logits"][-1]) for trace in traces)
    losses = (surprisal(trace["logits"][:-1], np.array(key[1:])) for trace in traces)
    return Ablation(*lenses, before, after, float(np.sum(np.exp(before) * (before - after))), *losses)


def sublayers_off(model: Model, ids: Sequence[int], start: int, stop: int) -> Float[Array, "blocks 2 predicted"]:
    """Surprisal of each token of a text with attention (0) or the feed-forward network (1) of one block off.

    For the blocks `start` to `stop` − 1, one at a time. All the experiments go through the later blocks side by side,
    as a batch, each from where it begins: together they cost a fraction of single runs.
    Raises ValueError for fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError("A loss needs at least two tokens: the first only serves to predict the second.")
    trace, eps = model.trace(ids), model.config.eps
    before = residual_stream(trace, model.config.layers)
    turn = partial(rotate, positions=np.arange(len(ids)), base=float(model.config.rope_base or 0))
    streams = np.empty((0, *before[0].shape), before[0].dtype)
    for i, block in enumerate(model.weights.blocks[start:], start):
        if len(streams):
            streams = run_block(streams, block, model.config.heads, turn, eps=eps)
        if i < stop:
            without_attention = before[i] + ffn_sublayer(before[i], block, eps=eps)
            streams = np.concatenate([streams, without_attention[None], trace[f"blk.{i}.attn.resid"][None]])
    rows = rms_norm(streams[:, :-1], model.weights.final_norm, eps).reshape(-1, streams.shape[-1])
    targets = np.tile(np.asarray(ids)[1:], len(streams))
    lost = [
        surprisal(rows[at : at + AT_ONCE] @ model.weights.unembedding.rows.T, targets[at : at + AT_ONCE])
        for at in range(0, len(rows), AT_ONCE)
    ]
    return np.concatenate(lost).reshape(stop - start, 2, -1)


def loss_changes(
    model: Model, ids: Sequence[int], start: int, stop: int, step: int
) -> tuple[float, Float[Array, "blocks 2"]]:
    """The loss of a text, and its change with each sublayer of the blocks off; kept, `step` blocks at a time."""
    key = tuple(map(int, ids))
    before = float(np.mean(surprisal(model.trace(key)["logits"][:-1], np.array(key[1:]))))
    parts = [
        model.memo.get(("sublayers off", key, i, i + step), partial(sublayers_off, model, key, i, i + step))
        for i in range(start, stop, step)
    ]
    return before, np.mean(np.concatenate(parts), axis=-1) - before
