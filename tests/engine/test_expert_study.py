"""The batch of experts: its gates and output against the definition, its limits at both ends."""

import numpy as np
import pytest

from engine.expert_study import TOKENS, expert_batch
from engine.feed_forward import parameter_count, swiglu
from engine.ledger import CONFIGS, active_parameters, total_parameters


def test_gates_are_the_renormalised_best_probabilities():
    batch = expert_batch(8, 2, alike=0.3, seed=3)
    p = np.exp(batch.scores) / np.exp(batch.scores).sum(axis=1, keepdims=True)
    kept = np.where(p >= np.sort(p, axis=1)[:, -2:-1], p, 0)
    np.testing.assert_allclose(batch.gates, kept / kept.sum(axis=1, keepdims=True), atol=1e-12)
    np.testing.assert_array_equal(batch.routing.load, np.count_nonzero(batch.gates, axis=0))
    assert batch.routing.load.sum() == 2 * TOKENS
    assert batch.all_experts == 4 * batch.multiplications


def test_the_output_is_the_gated_sum_of_all_experts():
    """The random stream again, from the seed: every expert on every token, weighed by its gate."""
    batch, rng = expert_batch(5, 3, seed=4), np.random.default_rng(4)
    rng.normal(size=12), rng.normal(size=(16, 12)), rng.normal(size=(12, 5))
    total = np.zeros((16, 12))
    for expert in range(5):
        inward = rng.normal(size=(2, 12, 24)) / np.sqrt(12)
        down = rng.normal(size=(24, 12)) / np.sqrt(24)
        total += batch.gates[:, expert : expert + 1] * swiglu(batch.x, inward[0], inward[1], down)
    np.testing.assert_allclose(batch.output, total, atol=1e-12)


def test_tokens_that_are_all_alike_go_the_same_way():
    batch = expert_batch(8, 2, alike=1.0, seed=1)
    assert sorted(batch.routing.load) == [0] * 6 + [TOKENS] * 2
    assert batch.imbalance == pytest.approx(4)
    assert expert_batch(8, 8, seed=1).imbalance == 1


def test_mixtral_and_llama_in_numbers():
    mixtral, llama = CONFIGS["Mixtral 8x7B"], CONFIGS["Llama 3.1 8B"]
    assert (total_parameters(mixtral), active_parameters(mixtral)) == (46_702_792_704, 12_879_925_248)
    assert parameter_count(llama) == 3 * 4096 * 14336 == 176_160_768
    assert round(32 * parameter_count(llama) / total_parameters(llama), 2) == 0.70
