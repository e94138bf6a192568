"""The real model: SmolLM2-135M-Instruct, run by the functions of the chapters.

A Llama: token embedding, 30 blocks (`engine.block.run_block`: RMSNorm, grouped-query attention with RoPE, SwiGLU), a
last RMSNorm, and the embedding table again as output matrix. Weights come from `engine.weights`. All in float32.

Sources: Touvron et al. 2023, arXiv:2302.13971 (Llama); Allal et al. 2025, arXiv:2502.02737 (SmolLM2). Left out:
training, and texts of different lengths in one batch.
"""

from __future__ import annotations

import dataclasses
import time
from collections import ChainMap
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.block import nothing_remembered, rms_norm, run_block
from engine.edits import Edit, EditingTap, first_edited_block
from engine.embeddings import lookup
from engine.kv_cache import KVCache
from engine.memo import Memo
from engine.rope import rotate
from engine.sampling import surprisal
from engine.tap import Tap, keep, prefixed
from engine.weights import SOURCES, Config, ModelBroken, ModelMissing, Weights, available, gguf_path, load_weights

__all__ = ["Model", "ModelBroken", "ModelMissing", "Step", "available", "load"]

Ids = Sequence[int] | np.ndarray  # token ids, whole numbers; an array may hold a batch of texts
TRACE_BYTES = 256 * 2**20  # what one process keeps of finished runs; a text of 16 tokens takes 23 MB
END_IDS = (0, 2)  # <|endoftext|> and <|im_end|>


@dataclass(frozen=True)
class Step:
    """One generated token."""

    id: int
    logits: Float[Array, "V"]  # what it was chosen from
    position: int  # its place in the text, prompt included
    computed: int  # positions the model ran for it: all of them without a cache
    seconds: float  # time the model took
    cache_bytes: int  # bytes of keys and values in use afterwards


@dataclass(frozen=True, eq=False)
class Model:
    """The weights, and what can be done with them. Token ids in, logits out."""

    config: Config
    weights: Weights
    memo: Memo

    def forward(
        self,
        ids: Ids,
        cache: KVCache | None = None,
        trace: MutableMapping[str, Any] | None = None,
        edit: Edit | None = None,
        last_only: bool = False,
    ) -> Float[Array, "*batch T V"]:
        """Logits for the token after each position, (T, V); with `last_only` after the last, (1, V).

        Ids of the shape (B, T) are B texts of one length, and give (B, T, V); their cache is `new_cache(…, batch=B)`.

        With a `cache` the ids continue the text the cache holds. `trace` is filled with every activation by name:
        embed, positions, blk.0.attn.norm … (see `run_block`), blk.0.resid (the stream after block 0), …, final.norm,
        logits. `edit` replaces activations on the way, see `engine.edits`. Raises ValueError for an empty or too long
        text, unknown ids, and edits that do not fit.
        """
        start = cache.length if cache is not None else 0
        ids = self._checked(ids, start)
        tap = keep if trace is None and not edit else EditingTap(trace, edit or {})
        positions = tap("positions", np.arange(start, start + ids.shape[-1]))
        x = tap("embed", lookup(self.weights.embedding, ids))
        logits = self._from_block(0, x, positions, tap, cache, last_only)
        if isinstance(tap, EditingTap):
            tap.check_all_used()
        return logits

    def _from_block(
        self, first: int, x: Array, positions: np.ndarray, tap: Tap, cache: KVCache | None = None, last: bool = False
    ) -> Array:
        """Logits from the stream before block `first`."""
        assert self.config.rope_base, "a Llama has RoPE"
        turn = partial(rotate, positions=positions, base=self.config.rope_base)
        for i, block in enumerate(self.weights.blocks[first:], first):
            remember = partial(cache.extend, i) if cache is not None else nothing_remembered
            inside = prefixed(tap, f"blk.{i}.")
            x = run_block(x, block, self.config.heads, turn, eps=self.config.eps, remember=remember, tap=inside)
        if cache is not None:
            cache.advance(x.shape[-2])
        x = tap("final.norm", rms_norm(x[..., -1:, :] if last else x, self.weights.final_norm, self.config.eps))
        return tap("logits", x @ self.weights.unembedding)

    def trace(self, ids: Ids) -> Mapping[str, Array]:
        """Every activation of a text, read-only; kept, so that the second look at a sentence costs nothing.

        Takes 1.4 MB a token, so it is for sentences: `forward` with a `Trace` of chosen names is for longer texts.
        """
        key = tuple(map(int, ids))

        def run() -> Mapping[str, Array]:
            activations: dict[str, Array] = {}
            self.forward(key, trace=activations)
            for array in activations.values():
                array.setflags(write=False)
            return MappingProxyType(activations)

        return self.memo.get(("trace", key), run)

    def rerun(
        self, ids: Ids, before: Mapping[str, Array], edit: Edit, trace: MutableMapping[str, Any] | None = None
    ) -> Float[Array, "T V"]:
        """`forward` with an edit, from the trace of the run without: only the blocks from the first edited one on.

        `before` must hold the positions and the stream before that block, and what the edit asks of earlier ones.
        """
        first = first_edited_block(edit, self.config.layers)
        if not first:
            return self.forward(ids, trace=trace, edit=edit)
        tap = EditingTap(trace, edit, seen=before)
        logits = self._from_block(first, before[f"blk.{first - 1}.resid"], before["positions"], tap)
        tap.check_all_used()
        return logits

    def edited(self, ids: Ids, edit: Edit, key: Hashable) -> Mapping[str, Array]:
        """Every activation of a run with an edit, read-only and kept: `trace(ids)` as it is after the experiment.

        Blocks before the first edited one are not run again, so that an edit of a late block costs little. `key` says
        what the edit does: two different edits of one text need two keys. Raises ValueError as `forward` does.
        """
        text = tuple(map(int, ids))
        before = self.trace(text)

        def run() -> dict[str, Array]:
            activations: dict[str, Array] = {}
            self.rerun(text, before, edit, activations)
            for array in activations.values():
                array.setflags(write=False)
            return activations

        return ChainMap(self.memo.get(("edited", text, key), run), before)  # type: ignore[arg-type]

    def surprisal(self, ids: Ids, edit: Edit | None = None) -> Float[Array, " predicted"]:
        """-log p of each token given those before it, in nats; the first token has none.

        Raises ValueError for fewer than two tokens.
        """
        if len(ids) < 2:
            raise ValueError("A loss needs at least two tokens: the first only serves to predict the second.")
        return surprisal(self.forward(ids, edit=edit)[:-1], np.asarray(ids)[1:])

    def loss(self, ids: Ids, edit: Edit | None = None, target: int | None = None) -> Float[Array, ""]:
        """Mean surprisal in nats a token: the next-token cross entropy. exp of it is the perplexity.

        With `target`, the surprisal of the token at that position alone. Raises ValueError for a position without one.
        """
        surprisals = self.surprisal(ids, edit)
        if target is not None and not 0 < target < len(ids):
            raise ValueError(f"The model guesses the tokens at positions 1 to {len(ids) - 1}, not the one at {target}.")
        return np.mean(surprisals) if target is None else surprisals[target - 1]

    def embedding_gradient(self, ids: Ids, target: int | None = None) -> tuple[float, Float[Array, "T D"]]:
        """The loss, and its gradient with respect to the input vectors, through all blocks; read-only, and kept.

        The loss is the mean over the text, or with `target` the surprisal of the token at that position.
        """
        key = tuple(map(int, self._checked(ids, 0)))

        def run() -> tuple[float, Float[Array, "T D"]]:
            x = lookup(self.weights.embedding, np.array(key))
            loss, gradient = value_and_grad(lambda embed: self.loss(key, {"embed": embed}, target))(x)
            gradient.setflags(write=False)
            return float(loss), gradient

        return self.memo.get(("embedding_gradient", str(self.weights.embedding.dtype), key, target), run)

    def generate(
        self,
        ids: Ids,
        tokens: int = 64,
        choose: Callable[[np.ndarray, list[int]], int] = lambda logits, ids: int(np.argmax(logits)),
        cached: bool = True,
        edit: Edit | None = None,
        stop: Collection[int] = END_IDS,
    ) -> Iterator[Step]:
        """Up to `tokens` more tokens, one `Step` each, the last being one of `stop` if the model ends the text itself.

        `choose(logits (V,), ids so far)` picks the next id, the likeliest unless given. `cached=False` runs the whole
        text anew for every token. Ends where the context is full. Raises ValueError as `forward` does.
        """
        text = self._checked(ids, 0).tolist()
        tokens = min(tokens, self.config.context - len(text))
        cache = self.new_cache(len(text) + tokens) if cached else None
        fresh = text
        for _ in range(tokens):
            start = time.perf_counter()
            logits = self.forward(fresh, cache, edit=edit, last_only=True)[0]
            seconds = time.perf_counter() - start
            chosen = int(choose(logits, text))
            yield Step(chosen, logits, len(text), len(fresh), seconds, cache.nbytes if cache else 0)
            if chosen in stop:
                return
            text = [*text, chosen]
            fresh = [chosen] if cached else text

    def new_cache(self, capacity: int, batch: int | None = None) -> KVCache:
        """An empty KV cache for `capacity` positions, of one text or of a `batch` of texts."""
        c = self.config
        return KVCache(c.layers, c.kv_heads, capacity, c.head_dim, self.weights.embedding.dtype, batch)

    def astype(self, dtype: type) -> Model:
        """The same model with weights converted, for checks in float64 (1.1 GB)."""
        return dataclasses.replace(self, weights=self.weights.astype(dtype), memo=Memo(TRACE_BYTES))

    def _checked(self, ids: Ids, start: int) -> np.ndarray:
        array = np.asarray(ids)
        if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "iu":
            raise ValueError("The model needs at least one token id, as a list of whole numbers.")
        if array.min() < 0 or array.max() >= self.config.vocabulary:
            raise ValueError(f"Token ids lie between 0 and {self.config.vocabulary - 1}.")
        if start + array.shape[-1] > self.config.context:
            raise ValueError(
                f"The text has {start + array.shape[-1]} tokens; the model reads only {self.config.context}."
            )
        return array


def load(name: str = "smollm2") -> Model:
    """The model; loaded at the first call in a process. Raises ModelMissing or ModelBroken."""
    gguf_path(name)
    return _load(name)


@lru_cache(maxsize=1)
def _load(name: str) -> Model:
    return Model(SOURCES[name].config, load_weights(name), Memo(TRACE_BYTES))
