"""Checks against PyTorch and Hugging Face, whose results tests/references/make_function_goldens.py has stored.

Each entry: chapter, function, case, what it is compared with, the stored array, and how the function is called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from engine.activation import ACTIVATIONS, derivative, erf
from engine.attention import attention
from engine.backpropagation import value_and_grad
from engine.block import Block, layer_norm, rms_norm, run_block
from engine.feed_forward import mixture_of_experts, swiglu
from engine.multi_head import grouped_query_attention
from engine.proofs import Check, Function, given, golden, stored
from engine.rope import frequencies, rotate
from engine.sampling import (
    cross_entropy,
    entropy,
    log_softmax,
    min_p,
    repetition_penalty,
    softmax,
    top_k,
    top_p,
)

ATTEND, LLAMA = "torch scaled_dot_product_attention", "transformers LlamaRotaryEmbedding"
ANGLES = 2e-6  # there the angles are float32, so that position 223 is off by up to 1e-5 radians


def in_both(
    chapter: str, function: Function, case: str, against: str, name: str, run: Callable[[Function, type], Any]
) -> list[Check]:
    """The same comparison in float64 and in float32."""
    first = case + (", " if case else "")
    return [
        golden(chapter, function, f"{first}float64", against, name, lambda f: run(f, np.float64)),
        golden(chapter, function, f"{first}float32", against, f"{name}_f32", lambda f: run(f, np.float32)),
    ]


def one_activation(name: str, form: str = "") -> list[Check]:
    """Values in both types, and the slope."""
    options = {"approximate": form} if form else {}
    stored_as, case = (f"{name}_{form}", {"none": "exact form", "tanh": "tanh form"}[form]) if form else (name, "")
    against = f"torch {name}" if name != "linear" else "torch x · 1"
    slope = golden(
        "activation", derivative, f"of {name}{' in the ' + case if case else ''}", "torch autograd",
        f"{stored_as}_slope", lambda f: f(name, given("x"), **options),
    )  # fmt: skip
    values = in_both(
        "activation", ACTIVATIONS[name], case, against, stored_as, lambda f, dtype: f(given("x", dtype), **options)
    )
    return [*values, slope]


def qkv(dtype: type, few: str = "") -> list[np.ndarray]:
    return [given("q", dtype), given(f"{few}k", dtype), given(f"{few}v", dtype)]


def attentions(case: str, name: str, **options: Any) -> list[Check]:
    return in_both("attention", attention, case, ATTEND, name, lambda f, dtype: f(*qkv(dtype), **options).output)


def ropes(name: str, base: float, scaling: tuple[str, float] | None, positions: str = "positions") -> list[Check]:
    """Turned queries and keys, and the frequencies, for one kind of RoPE."""

    def turned(function: Function, part: str) -> np.ndarray:
        x, places = given(f"rope_{part}", np.float32), given(positions, np.int64)
        return np.asarray(function(x, places, base, layout="half", scaling=scaling))

    def speeds(function: Function) -> np.ndarray:
        return np.asarray(function(16, base, scaling), np.float32)

    return [
        golden("rope", rotate, f"{name}, queries", LLAMA, f"rope_{name}_q_f32", partial(turned, part="q"), ANGLES),
        golden("rope", rotate, f"{name}, keys", LLAMA, f"rope_{name}_k_f32", partial(turned, part="k"), ANGLES),
        golden("rope", frequencies, name, LLAMA, f"rope_{name}_frequencies_f32", speeds),
    ]


def llama_block() -> Block:
    """The weights that Hugging Face's block was given."""

    def weight(name: str) -> np.ndarray:
        return given(f"block_{name}.weight", np.float32).T

    w_q, w_k, w_v, w_o = (weight(f"self_attn.{part}_proj") for part in "qkvo")
    w_gate, w_up, w_down = (weight(f"mlp.{part}_proj") for part in ("gate", "up", "down"))
    first, second = weight("input_layernorm"), weight("post_attention_layernorm")
    return Block(first, w_q, w_k, w_v, w_o, second, w_gate, w_up, w_down)


def llama_ffn() -> list[np.ndarray]:
    block = llama_block()
    return [block.w_gate, block.w_up, block.w_down]


def mixtral_experts() -> list[list[np.ndarray]]:
    """Gate, up and down of each expert; Mixtral keeps gate and up in one matrix."""
    fused, down = given("moe_experts.gate_up_proj", np.float32), given("moe_experts.down_proj", np.float32)
    return [[*(half.T for half in np.split(both, 2)), out.T] for both, out in zip(fused, down, strict=True)]


def mixture(run: Function) -> np.ndarray:
    return np.asarray(run(given("moe", np.float32), given("moe_gate.weight", np.float32).T, mixtral_experts(), 2))


def a_block(run: Function) -> np.ndarray:
    turn = partial(rotate, positions=np.arange(6), layout="half")
    return np.asarray(run(given("block", np.float32), llama_block(), 6, turn))


def logits(dtype: type = np.float64) -> np.ndarray:
    return given("logits", dtype)


def normed(run: Function, dtype: type, *names: str) -> np.ndarray:
    return np.asarray(run(given("stream", dtype), *(given(f"norm_{name}", dtype) for name in names)))


def filtered(function: Function, against: str, argument: Any) -> Check:
    name = function.__name__
    return golden("sampling", function, "", f"transformers {against}", name, lambda f: f(logits(), argument))


REFERENCES: list[Check] = [
    *(check for name in ACTIVATIONS if name != "gelu" for check in one_activation(name)),
    *one_activation("gelu", "none"),
    *one_activation("gelu", "tanh"),
    golden("activation", erf, "float64", "torch erf", "erf", lambda f: f(given("x")), 1e-15),
    golden("activation", erf, "float32", "torch erf", "erf_f32", lambda f: f(given("x", np.float32))),
    golden("activation", erf, "its slope", "torch autograd", "erf_slope",
           lambda f: value_and_grad(lambda x: np.sum(f(x)))(given("x"))[1]),
    golden("feed-forward", swiglu, "", "transformers LlamaMLP", "swiglu_f32",
           lambda f: f(given("block", np.float32), *llama_ffn())),
    golden("feed-forward", mixture_of_experts, "2 of 5", "transformers MixtralSparseMoeBlock", "moe_f32", mixture),
    *in_both("sampling", softmax, "", "torch softmax", "softmax", lambda f, dtype: f(logits(dtype))),
    golden("sampling", softmax, "temperature 0.35", "torch softmax", "softmax_cold",
           lambda f: f(logits(), temperature=0.35)),
    golden("sampling", softmax, "over columns", "torch softmax", "softmax_columns", lambda f: f(logits(), axis=0)),
    golden("sampling", softmax, "maximum left in", "torch softmax", "softmax",
           lambda f: f(logits(), subtract_max=False)),
    golden("sampling", log_softmax, "", "torch log_softmax", "log_softmax", lambda f: f(logits())),
    *in_both("sampling", cross_entropy, "", "torch cross_entropy", "cross_entropy",
             lambda f, dtype: f(logits(dtype), given("targets", np.int64))),
    golden("sampling", entropy, "", "torch Categorical.entropy", "entropy", lambda f: f(softmax(logits()))),
    filtered(top_k, "TopKLogitsWarper", 4),
    filtered(top_p, "TopPLogitsWarper", 0.9),
    filtered(min_p, "MinPLogitsWarper", 0.05),
    golden("sampling", repetition_penalty, "", "transformers RepetitionPenaltyLogitsProcessor", "repetition_penalty",
           lambda f: f(logits(), stored("functions")["in_seen"][0].tolist(), 1.3)),
    *attentions("causal", "attention"),
    *attentions("without a mask", "attention_all", causal=False),
    *attentions("not divided by √d", "attention_unscaled", scale=1.0),
    golden("attention", attention, "two new queries, five keys", ATTEND, "attention_last_two",
           lambda f: f(given("q")[:, :, -2:], given("k"), given("v")).output),
    *in_both("multi-head", grouped_query_attention, "6 on 2 heads", f"{ATTEND}, enable_gqa", "attention_grouped",
             lambda f, dtype: f(*qkv(dtype, "few_")).output),
    *in_both("multi-head", grouped_query_attention, "6 on 6 heads", ATTEND, "attention",
             lambda f, dtype: f(*qkv(dtype)).output),
    *ropes("plain", 1e4, None),
    *ropes("smollm2", 1e5, None),
    *ropes("linear", 1e4, ("linear", 4.0)),
    *ropes("ntk", 1e4, ("ntk", 4.0), "positions_ntk"),
    *in_both("block", layer_norm, "", "torch layer_norm", "layer_norm",
             lambda f, dtype: normed(f, dtype, "weight", "bias")),
    *in_both("block", rms_norm, "", "torch rms_norm", "rms_norm", lambda f, dtype: normed(f, dtype, "weight")),
    golden("block", rms_norm, "Llama's", "transformers LlamaRMSNorm", "rms_norm_llama_f32",
           lambda f: normed(f, np.float32, "weight")),
    golden("block", run_block, "one whole block", "transformers LlamaDecoderLayer", "block_f32", a_block),
]  # fmt: skip
