"""What a block of a published model is made of: every part with what goes in, what comes out, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass

from engine.ledger import Config, parameter_ledger

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """One part of a block for T tokens. `ins` and `outs` name each array and give its shape."""

    name: str
    ins: tuple[tuple[str, Shape], ...]
    outs: tuple[tuple[str, Shape], ...]
    parameters: int = 0
    active: int = 0  # those that work on one token; fewer only for experts
    arrays: tuple[tuple[str, Shape, int], ...] = ()  # its weights: name, shape, copies in one block


def block_parts(config: Config, tokens: int) -> tuple[Part, ...]:
    """The parts of one block in the order in which they run. Raises ValueError for fewer than one token."""
    if tokens < 1:
        raise ValueError("A block needs at least one token.")
    return (*_attention_parts(config, tokens), *_feed_forward_parts(config, tokens))


def outside_parts(config: Config, tokens: int) -> tuple[Part, ...]:
    """What stands before the first block and after the last."""
    stream, ids = ("stream", (tokens, config.width)), ("ids", (tokens,))
    parts = [_part(config, "token embedding", [ids], [stream], ["token embedding"])]
    if config.rope_base is None:
        parts.append(_part(config, "position embedding", [("positions", (tokens,))], [stream], ["position embedding"]))
    norms = ["final norm", "final norm weight", "final norm bias"]
    logits = ("logits", (tokens, config.vocabulary))
    parts.append(_part(config, "final norm", [stream], [("normed", stream[1])], norms))
    return (*parts, _part(config, "output layer", [("normed", stream[1])], [logits], ["output layer"]))


def _attention_parts(c: Config, tokens: int) -> list[Part]:
    stream, normed = ("stream", (tokens, c.width)), ("normed", (tokens, c.width))
    q, k, v = (
        (name, (heads, tokens, c.head_dim))
        for name, heads in zip("QKV", (c.heads, c.kv_heads, c.kv_heads), strict=True)
    )
    found, added = ("found", (tokens, c.heads * c.head_dim)), ("added", (tokens, c.width))
    parts = [_norm(c, "attention norm", stream, normed)]
    parts += [
        _part(c, name, [normed], [out], [name, f"{name} bias"])
        for name, out in (("query", q), ("key", k), ("value", v))
    ]
    if c.rope_base is not None:
        parts.append(Part("rope", (q, k), (q, k)))
    parts.append(Part("attention", (q, k, v), (found,)))
    parts.append(_part(c, "attention output", [found], [added], ["attention output", "attention output bias"]))
    if c.norms_per_block == 4:
        parts.append(_norm(c, "attention post-norm", added, ("normed", added[1])))
    return [*parts, Part("attention sum", (stream, added), (stream,))]


def _feed_forward_parts(c: Config, tokens: int) -> list[Part]:
    stream, normed = ("stream", (tokens, c.width)), ("normed", (tokens, c.width))
    working = (c.top_k, tokens, c.hidden) if c.experts > 1 else (tokens, c.hidden)
    gate, up, hidden, added = ("gate", working), ("up", working), ("hidden", working), ("added", (tokens, c.width))
    parts = [_norm(c, "feed-forward norm", stream, normed)]
    if c.experts > 1:
        parts.append(_part(c, "router", [normed], [("scores", (tokens, c.experts))], ["router"]))
    if c.gated:
        parts.append(_part(c, "gate", [normed], [gate], ["gate", "gate bias"]))
    parts.append(_part(c, "up", [normed], [up], ["up", "up bias"]))
    parts.append(Part("activation", (gate, up) if c.gated else (up,), (hidden,)))
    parts.append(_part(c, "down", [hidden], [added], ["down", "down bias"]))
    if c.norms_per_block == 4:
        parts.append(_norm(c, "feed-forward post-norm", added, ("normed", added[1])))
    return [*parts, Part("feed-forward sum", (stream, added), (stream,))]


def _part(
    config: Config, name: str, ins: list[tuple[str, Shape]], outs: list[tuple[str, Shape]], wanted: list[str]
) -> Part:
    """A part with its weights out of the model's ledger; in the ledger a block's arrays are counted once a layer."""
    rows = [row for row in parameter_ledger(config) if row.part in wanted]
    share = 1 if name in ("token embedding", "position embedding", "final norm", "output layer") else config.layers
    arrays = tuple((row.part, row.shape, row.copies // share) for row in rows)
    totals = sum(row.total for row in rows) // share, sum(row.active for row in rows) // share
    return Part(name, tuple(ins), tuple(outs), *totals, arrays)


def _norm(config: Config, name: str, stream: tuple[str, Shape], normed: tuple[str, Shape]) -> Part:
    """One of the norms of a block, which all have the same size."""
    rows = [row for row in parameter_ledger(config) if row.part.startswith("block norm")]
    arrays = tuple((row.part, row.shape, 1) for row in rows)
    count = sum(row.count for row in rows)
    return Part(name, (stream,), (normed,), count, count, arrays)
