"""Norms by what they promise, the block written out; ledgers against published totals and against arrays."""

from functools import partial

import numpy as np
import pytest

from engine.attention import attention
from engine.backpropagation import gradient_check
from engine.block import (
    CONFIGS,
    Block,
    active_parameters,
    layer_norm,
    parameter_ledger,
    prefill_flops,
    rms_norm,
    run_block,
    total_parameters,
)
from engine.feed_forward import parameter_count, swiglu
from engine.rope import rotate

rng = np.random.default_rng(11)
TAPS = [
    "attn.norm", "attn.q_raw", "attn.k_raw", "attn.v", "attn.q", "attn.k", "attn.scores", "attn.weights",
    "attn.output", "attn.out", "attn.resid", "ffn.norm", "ffn.gate", "ffn.up", "ffn.hidden", "ffn.out", "resid",
]  # fmt: skip


def test_norms_by_what_they_promise():
    x, ones = rng.normal(size=(3, 400)) * 7 + 2, np.ones(400)
    normed = layer_norm(x, ones, np.zeros(400), 1e-12)
    np.testing.assert_allclose(normed.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(normed.std(-1), 1)
    np.testing.assert_allclose(np.mean(rms_norm(x, ones, 1e-12) ** 2, axis=-1), 1)
    np.testing.assert_allclose(rms_norm(x * 1000, ones), rms_norm(x, ones), rtol=1e-6)
    centred = x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(normed, rms_norm(centred, ones, 1e-12))  # without a mean the two are one
    np.testing.assert_array_equal(rms_norm(np.zeros((1, 4)), np.ones(4)), 0)
    np.testing.assert_array_equal(layer_norm(np.full((1, 4), 3.0), np.ones(4), np.ones(4)), 1)


def random_block(heads=6, kv_heads=2, head_dim=4, width=12, hidden=16, dtype=np.float64):
    def random(*shape):
        return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(dtype)

    inner, shared = heads * head_dim, kv_heads * head_dim
    return Block(
        attn_norm=1 + random(width) / 3, w_q=random(width, inner), w_k=random(width, shared), w_v=random(width, shared),
        w_o=random(inner, width), ffn_norm=1 + random(width) / 3,
        w_gate=random(width, hidden), w_up=random(width, hidden), w_down=random(hidden, width),
    )  # fmt: skip


def turn_at(*positions):
    return partial(rotate, positions=np.array(positions))


def test_block_written_out_head_by_head():
    block, x = random_block(), rng.normal(size=(5, 12))
    normed = rms_norm(x, block.attn_norm)
    found = []
    for h in range(6):
        own, shared = slice(4 * h, 4 * h + 4), slice(4 * (h // 3), 4 * (h // 3) + 4)
        q, k = (rotate(normed @ w, np.arange(5)) for w in (block.w_q[:, own], block.w_k[:, shared]))
        found.append(attention(q, k, normed @ block.w_v[:, shared]).output @ block.w_o[own])
    middle = x + sum(found)
    after = middle + swiglu(rms_norm(middle, block.ffn_norm), block.w_gate, block.w_up, block.w_down)
    np.testing.assert_allclose(run_block(x, block, 6, turn_at(*range(5))), after, atol=1e-13)


def test_one_token_at_a_time_with_remembered_keys_equals_all_at_once():
    block, x = random_block(), rng.normal(size=(6, 12))
    whole = run_block(x, block, 6, turn_at(*range(6)))
    memory = {"k": np.zeros((2, 0, 4)), "v": np.zeros((2, 0, 4))}

    def remember(k, v):
        memory.update(k=np.concatenate([memory["k"], k], axis=1), v=np.concatenate([memory["v"], v], axis=1))
        return memory["k"], memory["v"]

    parts = [
        run_block(x[start:stop], block, 6, turn_at(*range(start, stop)), remember=remember)
        for start, stop in ((0, 3), (3, 4), (4, 6))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-13)


def test_a_batch_equals_its_texts_one_by_one():
    block, x = random_block(), rng.normal(size=(2, 5, 12))
    together = run_block(x, block, 6, turn_at(*range(5)))
    for text, out in zip(x, together, strict=True):
        np.testing.assert_allclose(run_block(text, block, 6, turn_at(*range(5))), out, atol=1e-13)


def test_later_tokens_change_nothing_before_them():
    block, x = random_block(), rng.normal(size=(5, 12))
    changed = np.where(np.arange(5)[:, None] == 3, 9.0, x)
    before, after = (run_block(stream, block, 6, turn_at(*range(5))) for stream in (x, changed))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (np.abs(before[3:] - after[3:]).max(-1) > 1e-3).all()


def test_the_tap_sees_every_step_by_name_and_can_switch_off():
    block, x = random_block(), rng.normal(size=(5, 12))
    seen = {}
    out = run_block(x, block, 6, turn_at(*range(5)), tap=lambda name, value: seen.setdefault(name, value))
    assert sorted(seen) == sorted(TAPS)
    np.testing.assert_array_equal(seen["resid"], out)
    np.testing.assert_allclose(seen["attn.resid"] - seen["attn.out"], x, atol=1e-14)
    np.testing.assert_allclose(seen["resid"] - seen["ffn.out"], seen["attn.resid"], atol=1e-14)
    assert seen["attn.weights"].shape == (6, 5, 5)
    assert seen["attn.output"].shape == (5, 24)
    off = run_block(x, block, 6, turn_at(*range(5)), tap=lambda name, value: value * (not name.endswith(".out")))
    np.testing.assert_array_equal(off, x)


def test_gradients_through_the_whole_block():
    block, x, target = random_block(2, 1, 2, 4, 3), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))

    def loss(x, weights):
        return np.sum((run_block(x, Block(**weights), 2, turn_at(0, 1, 2)) - target) ** 2)

    assert gradient_check(loss, (x, dict(vars(block)))).worst < 1e-6


def test_float32_all_the_way_and_float64_is_caught():
    block, x = random_block(dtype=np.float32), rng.normal(size=(5, 12)).astype(np.float32)
    seen = {}
    run_block(x, block, 6, turn_at(*range(5)), tap=lambda name, value: seen.setdefault(name, value))
    assert {value.dtype for value in seen.values()} == {np.dtype(np.float32)}
    with pytest.raises(TypeError, match="given float32 and came out as float64"):
        run_block(x, block, 6, lambda x: x * np.float64(1.0) * np.ones(4))


# Ledgers

PUBLISHED = {
    "SmolLM2-135M": 134_515_008,
    "GPT-2": 124_439_808,
    "Llama 3.1 8B": 8_030_261_248,
    "Llama 3.1 70B": 70_553_706_496,
    "Mistral 7B": 7_241_732_096,
    "Mixtral 8x7B": 46_702_792_704,
    "Gemma 2B": 2_506_172_416,
    "Gemma 2 9B": 9_241_705_984,
    "Qwen2.5 7B": 7_615_616_512,
}


def test_every_configuration_is_checked():
    assert CONFIGS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_ledger_sums_to_the_published_total(name):
    config = CONFIGS[name]
    assert sum(row.total for row in parameter_ledger(config)) == PUBLISHED[name] == config.parameters
    assert total_parameters(config) == PUBLISHED[name]
    assert all(row.total == row.count * row.copies for row in parameter_ledger(config))
    assert len({row.part for row in parameter_ledger(config)}) == len(parameter_ledger(config))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_feed_forward_rows_are_what_parameter_count_says(name):
    config = CONFIGS[name]
    rows = [row for row in parameter_ledger(config) if row.group == "feed-forward"]
    assert sum(row.total for row in rows) == config.layers * parameter_count(config)
    assert sum(row.active for row in rows) == config.layers * parameter_count(config, active=True)


def test_active_parameters():
    assert active_parameters(CONFIGS["Mixtral 8x7B"]) == 12_879_925_248
    assert all(active_parameters(c) == c.parameters for name, c in CONFIGS.items() if name != "Mixtral 8x7B")


def test_the_ledger_of_one_block_equals_the_sizes_of_its_arrays():
    block = random_block(9, 3, 64, 576, 1536, np.float32)
    per_block = [row for row in parameter_ledger(CONFIGS["SmolLM2-135M"]) if row.copies % 30 == 0]
    assert sum(row.count * (row.copies // 30) for row in per_block) == sum(w.size for w in vars(block).values())
    shapes = sorted(row.shape for row in per_block for _ in range(row.copies // 30))
    assert shapes == sorted(w.shape for w in vars(block).values())


def share(name, group):
    rows = parameter_ledger(CONFIGS[name])
    return sum(row.total for row in rows if row.group == group) / sum(row.total for row in rows)


def test_shares_of_smollm2_and_llama():
    assert [f"{share('SmolLM2-135M', g):.1%}" for g in ("embedding", "feed-forward", "attention")] == [
        "21.0%", "59.2%", "19.7%",
    ]  # fmt: skip
    assert f"{share('Llama 3.1 8B', 'feed-forward'):.0%}" == "70%"


def test_prefill_of_llama_does_not_quadruple_when_the_context_doubles():
    llama = CONFIGS["Llama 3.1 8B"]
    ratios = [prefill_flops(llama, 2 * t).total / prefill_flops(llama, t).total for t in (2048, 8192, 32768)]
    assert [f"{ratio:.2f}" for ratio in ratios] == ["2.07", "2.27", "2.76"]


def test_attention_is_half_the_work_of_llama_at_53248_tokens():
    for tokens, over_half in ((53_247, False), (53_248, True)):
        cost = prefill_flops(CONFIGS["Llama 3.1 8B"], tokens)
        assert (cost.scores_and_mix > cost.projections + cost.feed_forward) == over_half


def test_prefill_arithmetic_is_twice_the_parameters_for_a_token_without_the_past():
    config = CONFIGS["Mixtral 8x7B"]
    matrices = sum(row.active for row in parameter_ledger(config) if len(row.shape) == 2 and row.group != "embedding")
    cost = prefill_flops(config, 1)
    assert cost.total - cost.scores_and_mix == 2 * matrices
