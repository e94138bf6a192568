"""Checks by a second way to the same number: written out step by step, another library that is installed, or counted.

Each entry: chapter, function, case, the second way, and how far the two are apart. A limit of 0 means: exactly equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import gguf
import numpy as np

from engine.activation import ACTIVATIONS, derivative, erf, gelu
from engine.attention import attention
from engine.backpropagation import value_and_grad
from engine.block import Block, rms_norm, run_block
from engine.bpe import train_bpe
from engine.embeddings import cosine_similarity, lookup, one_hot, pca
from engine.feed_forward import mlp, parameter_count, swiglu
from engine.kv_cache import KVCache, bytes_per_token, plan, positions_computed
from engine.ledger import CONFIGS, Config, total_parameters
from engine.multi_head import grouped_query_attention
from engine.proof_gradients import normal, small_block
from engine.proofs import Check, Function, largest_difference, relative_error, stored_json
from engine.quantization import cast, nf4_table, quantize, read_q4_1, read_q8_0
from engine.rope import rotate
from engine.sampling import entropy, sample, softmax, surprisal
from engine.tokenization import ENCODINGS, decode, encode, missing_bytes, token_bytes, tokens_by_merging

ROUNDING = 1e-13  # a few roundings of float64
PUBLISHED_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def way(
    chapter: str, function: Function, case: str, against: str, measure: Callable[[Function], float], limit: float = 0.0
) -> Check:
    return Check(chapter, function, case, against, measure, limit)


# Tokenization ---------------------------------------------------------------------------------------------------------


def hugging_face_strings() -> list[dict[str, Any]]:
    """Awkward strings, and the ids that Hugging Face's tokenizers gave them."""
    return list(stored_json("tokenization_smollm2")["cases"])


def differing(ours: Callable[[str], Any], pairs: Iterable[tuple[str, Any]]) -> float:
    """How many strings come out otherwise."""
    return float(sum(ours(text) != wanted for text, wanted in pairs))


def merged(function: Function, encoding: str) -> float:
    """Short strings that merging by rank, here in Python, cuts otherwise than tiktoken does."""
    texts = [case["text"] for case in hugging_face_strings() if 0 < len(case["text"].encode()) <= 40]
    pairs = [(text, [token_bytes(i, encoding) for i in encode(text, encoding)]) for text in texts]
    return differing(lambda text: function(text, encoding), pairs)


def there_and_back(function: Function, encoding: str) -> float:
    """Strings that decoding does not bring back, but for the bytes that the vocabulary has no token for."""
    lost = missing_bytes(encoding)
    texts = [case["text"] for case in hugging_face_strings() if lost.isdisjoint(case["text"].encode())]
    return differing(lambda text: function(encode(text, encoding), encoding), zip(texts, texts, strict=True))


def trained(function: Function) -> float:
    """The worked example of byte-pair encoding: aaabdaaabac becomes XdXac after three merges."""
    found = function("aaabdaaabac", 3)
    wanted = ((97, 97), (97, 98), (256, 257)), [258, 100, 258, 97, 99]
    return float((found.merges, found.encode("aaabdaaabac")) != wanted)


# Networks -------------------------------------------------------------------------------------------------------------


def slopes_agree(function: Function, name: str) -> float:
    x = np.linspace(-6, 6, 49) + 0.01
    traced = value_and_grad(lambda x: np.sum(ACTIVATIONS[name](x)))(x)[1]
    return largest_difference(function(name, x), traced)


def erf_by_the_standard_library(function: Function) -> float:
    x = np.concatenate([np.linspace(-8, 8, 2001), [0.46875, 5.9999, 6.0001]])
    return largest_difference(function(x), [math.erf(value) for value in x])


def gelu_by_its_definition(function: Function) -> float:
    x = np.linspace(-6, 6, 241)
    return largest_difference(function(x), [0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x])


def collapsed(function: Function) -> float:
    x, w1, b1, w2, b2 = normal(5, 4), normal(4, 7, seed=1), normal(7, seed=2), normal(7, 3, seed=3), normal(3, seed=4)
    return largest_difference(function(x, w1, b1, w2, b2, "linear"), x @ (w1 @ w2) + (b1 @ w2 + b2))


def neuron_by_neuron(function: Function) -> float:
    x, w_gate, w_up, w_down = normal(3), normal(3, 5, seed=1), normal(3, 5, seed=2), normal(5, 3, seed=3)
    out = np.zeros(3)
    for i in range(5):
        gate, up = float(x @ w_gate[:, i]), float(x @ w_up[:, i])
        out = out + gate / (1 + math.exp(-gate)) * up * w_down[i]
    return largest_difference(function(x, w_gate, w_up, w_down), out)


def three_matrices(function: Function) -> float:
    """Llama 3.1 8B: gate, up and down of 4096 × 14336 in one layer."""
    return float(abs(function(CONFIGS["Llama 3.1 8B"]) - 3 * 4096 * 14336))


# Embeddings and sampling ----------------------------------------------------------------------------------------------


def rows_as_products(function: Function) -> float:
    table, ids = normal(9, 5), np.array([3, 0, 8, 3])
    return largest_difference(function(table, ids), one_hot(ids, 9).astype(float) @ table)


def cosine_by_hand(function: Function) -> float:
    a, b = normal(6), normal(6, seed=1)
    by_hand = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return abs(float(function(a, b)) - by_hand)


def pca_by_eigenvectors(function: Function) -> float:
    """Share of variance of each component, from the eigenvalues of the covariance matrix."""
    x = normal(20, 6)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    return largest_difference(function(x, 3).explained_variance_ratio, values[:3] / values.sum())


def huge_logits(function: Function) -> float:
    """Logits of ±10 000 in float32, whose exponentials no float can hold."""
    wanted = [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0.0]
    return largest_difference(function(np.array([1e4, 1e4 - 1, -1e4], np.float32)), wanted)


def surprisal_by_hand(function: Function) -> float:
    logits, ids = normal(4, 6), np.array([1, 5, 0, 2])
    by_hand = [-math.log(math.exp(row[i]) / sum(map(math.exp, row))) for row, i in zip(logits, ids, strict=True)]
    return largest_difference(function(logits, ids), by_hand)


def shares_of_many_draws(function: Function) -> float:
    """4 000 seeded draws: how far the largest count is from its expected one, in standard deviations."""
    rng, p = np.random.default_rng(0), np.array([0.5, 0.3, 0.15, 0.05])
    draws = [function(np.log(p), rng).token for _ in range(4_000)]
    counts = np.bincount(draws, minlength=4)
    return float(np.max(np.abs(counts - 4_000 * p) / np.sqrt(4_000 * p * (1 - p))))


# Attention, heads, positions, block -----------------------------------------------------------------------------------


def one_by_one(function: Function) -> float:
    q, k, v = (normal(2, 7, 4, seed=seed) for seed in range(3))
    steps = [function(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1]).output for t in range(7)]
    return largest_difference(function(q, k, v).output, np.concatenate(steps, axis=1))


def large_scores(function: Function) -> float:
    """Scores of 400 in float32, where the exponential ends at 88.7."""
    q = np.full((2, 4), 10.0, np.float32)
    return largest_difference(function(q, q, q, scale=1.0).output, q)


def permuted(function: Function) -> float:
    """Without a mask attention knows no order: permuted tokens give permuted outputs."""
    q, k, v, order = normal(5, 4), normal(5, 4, seed=1), normal(5, 4, seed=2), np.array([3, 0, 4, 1, 2])
    mixed = function(q[order], k[order], v[order], causal=False).output
    return largest_difference(mixed, function(q, k, v, causal=False).output[order])


def copied_heads(function: Function) -> float:
    q, k, v = normal(9, 5, 8), normal(3, 5, 8, seed=1), normal(3, 5, 8, seed=2)
    reads = np.arange(9) // 3
    return largest_difference(function(q, k, v).output, attention(q, k[reads], v[reads]).output)


def offset_alone(function: Function) -> float:
    """The same distance of 7, from position 0 to position 8000: how much the score changes."""
    q, k = normal(1, 16), normal(1, 16, seed=1)
    scores = [
        function(q, np.array([shift + 7.0]), 1e5) @ function(k, np.array([float(shift)]), 1e5).T
        for shift in (0, 1, 100, 8000)
    ]
    return largest_difference(scores, scores[0])


def complex_numbers(function: Function) -> float:
    x, positions = normal(3, 5, 8), np.array([0, 1, 5, 2.5, -7])
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * positions[:, None] * 10000.0 ** (-np.arange(4) / 4))
    return largest_difference(function(x, positions), np.stack([turned.real, turned.imag], -1).reshape(x.shape))


def reordered_pairs(function: Function) -> float:
    x, positions = normal(4, 12), np.arange(4) * 3
    order = np.arange(12).reshape(6, 2).T.reshape(-1)  # 0 2 4 … 1 3 5 …: from interleaved to half-split
    half = function(x[:, order], positions, layout="half")
    return largest_difference(half, function(x, positions, layout="interleaved")[:, order])


def published(function: Function, config: Config) -> float:
    return float(abs(function(config) - config.parameters))


def mean_square_is_one(function: Function) -> float:
    normed = function(normal(3, 400) * 7 + 2, np.ones(400), 1e-14)
    return largest_difference(np.mean(normed**2, axis=-1), 1.0)


def head_by_head(function: Function) -> float:
    """A block as its definition says, one head at a time."""
    block, x = Block(**small_block()), normal(5, 8)
    normed, turn, found = rms_norm(x, block.attn_norm), partial(rotate, positions=np.arange(5)), []
    for h in range(4):
        own, shared = slice(2 * h, 2 * h + 2), slice(2 * (h // 2), 2 * (h // 2) + 2)
        q, k = turn(normed @ block.w_q[:, own]), turn(normed @ block.w_k[:, shared])
        found.append(attention(q, k, normed @ block.w_v[:, shared]).output @ block.w_o[own])
    middle = x + sum(found)
    after = middle + swiglu(rms_norm(middle, block.ffn_norm), block.w_gate, block.w_up, block.w_down)
    return largest_difference(function(x, block, 4, turn), after)


# KV cache and quantization --------------------------------------------------------------------------------------------


def bytes_of_the_arrays(function: Function) -> float:
    """For every published model: the formula against an allocated cache of three positions."""
    off = 0.0
    for config in CONFIGS.values():
        cache = KVCache(config.layers, config.kv_heads, 3, config.head_dim, np.float16)
        off = max(off, abs(cache.keys.nbytes + cache.values.nbytes - 3 * function(config, 2)))
    return off


def counted_positions(function: Function) -> float:
    sizes = [(p, g, cached) for p in (1, 7, 30) for g in (0, 1, 12) for cached in (True, False)]
    return float(max(abs(function(p, g, c) - int(plan(p, g, c).computed.sum())) for p, g, c in sizes if g or c))


def codes_by_definition(function: Function, bits: int) -> float:
    """Groups of 32, symmetric: scale = max|x| / (2^(bits − 1) − 1), codes rounded half to even."""
    x = normal(4, 64)
    groups = x.reshape(-1, 32)
    scale = np.max(np.abs(groups), axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    by_definition = (np.rint(groups / scale) * scale).reshape(x.shape)
    return largest_difference(function(x, bits, group=32).dequantized, by_definition)


def halves(function: Function) -> float:
    x = normal(2000).astype(np.float32) * 10.0 ** np.linspace(-7, 4, 2000, dtype=np.float32)
    return largest_difference(function(x, "fp16"), x.astype(np.float16).astype(np.float32))


def blocks_by_gguf(function: Function, kind: gguf.GGMLQuantizationType, head: int, size: int) -> float:
    """200 blocks of random bytes under sensible scales, against the package `gguf`."""
    rng = np.random.default_rng(0)
    scales = rng.normal(size=(200, head)).astype(np.float16).view(np.uint8)
    data = np.concatenate([scales, rng.integers(0, 256, (200, size - 2 * head), np.uint8)], axis=1)
    ours = np.stack([function(row.tobytes()).dequantized for row in data])
    return largest_difference(ours, gguf.dequantize(data, kind).reshape(ours.shape))


Q4_1, Q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0

WAYS: list[Check] = [
    way("tokenization", encode, "smollm2, strings that differ", "transformers tokenizers",
        lambda f: differing(lambda text: f(text, "smollm2"), ((c["text"], c["ids"]) for c in hugging_face_strings()))),
    *(way("tokenization", tokens_by_merging, f"{name}, strings that differ", "tiktoken", partial(merged, encoding=name))
      for name in ENCODINGS),
    *(way("tokenization", decode, f"{name}, strings that differ", "the text itself",
          partial(there_and_back, encoding=name)) for name in ENCODINGS),
    way("tokenization", train_bpe, "aaabdaaabac", "worked by hand", trained),
    way("embeddings", lookup, "", "one-hot rows times the table", rows_as_products),
    way("embeddings", cosine_similarity, "", "sums in plain Python", cosine_by_hand, ROUNDING),
    way("embeddings", pca, "", "eigenvalues of the covariance", pca_by_eigenvectors, ROUNDING),
    *(way("activation", derivative, f"of {name}", "backpropagation", partial(slopes_agree, name=name), ROUNDING)
      for name in ACTIVATIONS),
    way("activation", erf, "", "math.erf", erf_by_the_standard_library, 3e-16),
    way("activation", gelu, "exact form", "math.erfc", gelu_by_its_definition, ROUNDING),
    way("feed-forward", mlp, "no activation", "one collapsed matrix", collapsed, ROUNDING),
    way("feed-forward", swiglu, "", "neuron by neuron", neuron_by_neuron, ROUNDING),
    way("feed-forward", parameter_count, "Llama 3.1 8B, a layer", "3 · 4096 · 14336", three_matrices),
    way("sampling", softmax, "logits of ±10,000, float32", "math.exp", huge_logits, 1e-7),
    way("sampling", surprisal, "", "math.log and math.exp", surprisal_by_hand, ROUNDING),
    way("sampling", entropy, "16 equal shares", "log 16", lambda f: abs(float(f(np.full(16, 1 / 16))) - math.log(16)),
        ROUNDING),
    way("sampling", sample, "4,000 draws, in σ", "expected counts", shares_of_many_draws, 4.0),
    way("attention", attention, "queries one by one", "all at once", one_by_one, ROUNDING),
    way("attention", attention, "scores of 400, float32", "by hand", large_scores, 1e-6),
    way("attention", attention, "no mask, permuted tokens", "permuted outputs", permuted, ROUNDING),
    way("multi-head", grouped_query_attention, "9 on 3 heads", "keys and values copied", copied_heads, ROUNDING),
    way("rope", rotate, "distance of 7 anywhere", "the same score", offset_alone, 1e-10),
    way("rope", rotate, "interleaved pairs", "complex multiplication", complex_numbers, ROUNDING),
    way("rope", rotate, "half-split pairs", "interleaved, reordered", reordered_pairs, ROUNDING),
    *(way("block", total_parameters, name, "the published total", partial(published, config=config))
      for name, config in CONFIGS.items()),
    way("block", rms_norm, "mean of the squares", "1", mean_square_is_one, 1e-12),
    way("block", run_block, "one block", "written out head by head", head_by_head, ROUNDING),
    way("kv-cache", bytes_per_token, "nine models", "bytes of allocated arrays", bytes_of_the_arrays),
    way("kv-cache", positions_computed, "", "counted in the plan", counted_positions),
    way("kv-cache", positions_computed, "10,581 + 63 tokens", "summed step by step",
        lambda f: float(abs(f(10_581, 63, False) - sum(10_581 + i for i in range(1, 64))))),
    *(way("quantization", quantize, f"{bits} bits, groups of 32", "the definition",
          partial(codes_by_definition, bits=bits), ROUNDING) for bits in (8, 4, 3, 2)),
    way("quantization", cast, "to fp16", "NumPy's float16", halves),
    way("quantization", nf4_table, "", "Dettmers et al. 2023", lambda f: relative_error(f(), PUBLISHED_NF4), 1e-6),
    way("quantization", read_q4_1, "200 blocks", "the package gguf",
        partial(blocks_by_gguf, kind=Q4_1, head=2, size=20)),
    way("quantization", read_q8_0, "200 blocks", "the package gguf",
        partial(blocks_by_gguf, kind=Q8_0, head=1, size=34)),
]  # fmt: skip
