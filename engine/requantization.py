"""The whole model with other weights: every matrix rounded by a recipe, and the model run with what is left.

The codes are kept in a byte each (106 MB for SmolLM2) and become float32 one matrix at a time, when it is used: the
model never stands in memory a second time. Everything else is `engine.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.block import Block, rms_norm, run_block
from engine.edits import Trace
from engine.embeddings import lookup
from engine.memo import Memo
from engine.model import Ids, Model
from engine.quantization import Group, cast, nf4, nf4_table, quantize
from engine.rope import rotate
from engine.sampling import log_softmax, surprisal
from engine.weights import Matrix

PARTS = {
    "all": ("w_q", "w_k", "w_v", "w_o", "w_gate", "w_up", "w_down"),
    "attention": ("w_q", "w_k", "w_v", "w_o"),
    "ffn": ("w_gate", "w_up", "w_down"),
}


@dataclass(frozen=True)
class Recipe:
    """How matrices are rounded: "int" with `bits`, "nf4", "fp8_e4m3" or "bf16"; and which of them."""

    kind: str = "int"
    bits: int = 4
    symmetric: bool = True
    group: Group = 32
    parts: str = "all"

    @property
    def bits_per_weight(self) -> float:
        """With a scale of 16 bits for each group, and as many for a minimum; a scale a row or tensor is left out."""
        return self._code + (self._beside / self.group if isinstance(self.group, int) else 0.0)

    def stored_bits(self, rows: int, columns: int) -> int:
        """Bits of a whole matrix, every scale and minimum counted, also those of a row or of the matrix."""
        short = -(-columns // self.group) if isinstance(self.group, int) else 1
        groups = 1 if self.group == "tensor" else rows * short
        return rows * columns * self._code + groups * self._beside

    @property
    def _code(self) -> int:
        return {"nf4": 4, "fp8_e4m3": 8, "bf16": 16}.get(self.kind, self.bits)

    @property
    def _beside(self) -> int:
        """Bits of a group's scale, and of its minimum where it has one; floats have neither."""
        if self.kind in ("fp8_e4m3", "bf16"):
            return 0
        return 16 if self.symmetric or self.kind == "nf4" else 32


class Packed(Matrix):
    """A matrix kept as codes of one byte (floats: of two), which become float32 whenever it is used."""

    def __init__(self, codes: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> None:
        self.codes, self.decode = codes, decode
        self.shape, self.dtype, self.ndim = codes.shape[::-1], np.dtype(np.float32), 2

    @property
    def rows(self) -> np.ndarray:  # type: ignore[override]
        """The weights (out, in) that the codes stand for."""
        return self.decode(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes alone."""
        return self.codes.nbytes


def pack(rows: Float[Array, "out in"], recipe: Recipe) -> Packed:
    """A matrix rounded by a recipe. Raises ValueError for a kind that there is not."""
    if recipe.kind == "bf16":  # the upper half of a float32
        upper = (cast(rows, "bf16").view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        return Packed(upper, lambda codes: (codes.astype(np.uint32) << np.uint32(16)).view(np.float32))
    if recipe.kind == "fp8_e4m3":  # every FP8 number is a FP16 number
        return Packed(cast(rows, "fp8_e4m3").astype(np.float16), lambda codes: codes.astype(np.float32))
    if recipe.kind == "nf4":
        found, table = nf4(rows, group=recipe.group), nf4_table().astype(np.float32)
        return Packed(found.codes.astype(np.uint8), partial(_decoded, scale=found.scale, low=None, table=table))
    if recipe.kind != "int" or recipe.bits > 8:
        raise ValueError(f"There is no recipe {recipe.kind!r} with {recipe.bits} bits here.")
    found = quantize(rows, recipe.bits, symmetric=recipe.symmetric, group=recipe.group)
    low = None if recipe.symmetric else found.zero_point
    codes = found.codes.astype(np.int8 if recipe.symmetric else np.uint8)
    return Packed(codes, partial(_decoded, scale=found.scale, low=low))


def _decoded(
    codes: np.ndarray, scale: np.ndarray, low: np.ndarray | None, table: np.ndarray | None = None
) -> np.ndarray:
    """scale · code + low, or scale · table[code], in float32; `scale` and `low` have a number for each group."""
    width = codes.shape[-1]

    def spread(values: np.ndarray) -> np.ndarray:
        return values if values.ndim == 0 else np.repeat(values, -(-width // values.shape[-1]), axis=-1)[..., :width]

    values = (codes.astype(np.float32) if table is None else table[codes]) * spread(scale)
    return values if low is None else values + spread(low)


def pack_block(block: Block, recipe: Recipe) -> Block:
    """A block with the recipe's parts rounded; norms stay as they are."""
    chosen = PARTS[recipe.parts]
    packed: Any = {name: pack(getattr(block, name).rows, recipe) for name in chosen}
    return replace(block, **packed)


@dataclass(frozen=True)
class Stage:
    """How far the text has come: after block `block`, with both models."""

    block: int
    error: float  # RMS change of the block's matrices ÷ RMS of the weights
    drift: float  # mean over the tokens: length of the change of the stream ÷ its length


@dataclass(frozen=True)
class Requantised:
    """The model with rounded weights, and what it made of the text."""

    model: Model
    stages: tuple[Stage, ...]
    surprisals: Float[Array, " predicted"]
    before: Float[Array, " predicted"]  # of the weights as shipped
    divergence: float  # mean KL(shipped ‖ rounded) of the guesses, in nats

    @property
    def loss(self) -> float:
        """Mean surprisal with the rounded weights."""
        return float(np.mean(self.surprisals))

    @property
    def loss_before(self) -> float:
        """Mean surprisal with the weights as shipped."""
        return float(np.mean(self.before))


def requantise(model: Model, recipe: Recipe, ids: Ids) -> Iterator[Stage | Requantised]:
    """Round block after block while a text runs through the new blocks; at last the new model.

    Yields a `Stage` for each block, then one `Requantised`. Raises ValueError for fewer than two tokens.
    """
    text = np.asarray(ids)
    if len(text) < 2:
        raise ValueError("A loss needs at least two tokens: the first only serves to predict the second.")
    assert model.config.rope_base, "a Llama has RoPE"
    turn = partial(rotate, positions=np.arange(len(text)), base=model.config.rope_base)
    old, new = shipped(model, text), lookup(model.weights.embedding, text)
    blocks: list[Block] = []
    stages: list[Stage] = []
    for i, block in enumerate(model.weights.blocks):
        blocks.append(pack_block(block, recipe))
        new = run_block(new, blocks[-1], model.config.heads, turn, eps=model.config.eps)
        stages.append(Stage(i, _changed(block, blocks[-1], recipe), _drift(old[f"blk.{i}.resid"], new)))
        yield stages[-1]
    rounded = replace(model, weights=replace(model.weights, blocks=tuple(blocks)), memo=Memo(0))
    logits = rms_norm(new, model.weights.final_norm, model.config.eps) @ model.weights.unembedding
    before, after = surprisal(old["logits"][:-1], text[1:]), surprisal(logits[:-1], text[1:])
    yield Requantised(rounded, tuple(stages), after, before, divergence(old["logits"], logits))


def shipped(model: Model, ids: Ids) -> Mapping[str, np.ndarray]:
    """The stream after each block, and the logits, with the weights as they are; kept."""
    text = tuple(map(int, ids))

    def run() -> Mapping[str, np.ndarray]:
        trace = Trace("blk.*.resid", "logits")
        model.forward(text, trace=trace)
        return {name: value for name, value in trace.items() if ".attn." not in name}

    return model.memo.get(("shipped", text), run)


def divergence(old: Float[Array, "T V"], new: Float[Array, "T V"]) -> float:
    """Mean over positions of KL(old ‖ new) between the distributions of two rows of logits, in nats."""
    p, q = log_softmax(old), log_softmax(new)
    found = float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1, dtype=np.float64)))
    return max(0.0, found)  # it is never negative; its float32 terms may sum to a billionth below


def _changed(block: Block, packed: Block, recipe: Recipe) -> float:
    """RMS change ÷ RMS weight, over the block's rounded matrices; one row in eight is enough to tell."""
    change = size = 0.0
    for name in PARTS[recipe.parts]:
        rows, kept = getattr(block, name).rows[::8], getattr(packed, name)
        change += float(np.sum(np.square(kept.rows[::8] - rows)))
        size += float(np.sum(np.square(rows)))
    return float(np.sqrt(change / size))


def _drift(old: np.ndarray, new: np.ndarray) -> float:
    """The first token is left out: its stream is so long that it would hide all others."""
    apart, lengths = np.linalg.norm(new - old, axis=-1), np.linalg.norm(old, axis=-1)
    return float(np.mean((apart / lengths)[1:]))


def ladder(model: Model, ids: Ids, recipes: Sequence[Recipe]) -> Iterator[tuple[Recipe, Stage | Requantised]]:
    """`requantise` for one recipe after the other; each new model is let go before the next is made."""
    for recipe in recipes:
        for step in requantise(model, recipe, ids):
            yield recipe, step


def continuation(model: Model, ids: Ids, tokens: int) -> Iterator[int]:
    """What the model says after a text: the likeliest token each time."""
    for step in model.generate(ids, tokens):
        yield step.id
