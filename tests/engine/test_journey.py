"""What is kept of a run, stage by stage, against the model run plainly."""

from __future__ import annotations

import numpy as np
import pytest

from engine.journey import journey, lens_depths, strongest_neurons
from engine.lens import logit_lens
from engine.sampling import sample, softmax
from engine.tokenization import encode

IDS = encode("The animal did not cross the street because it was too", "smollm2")


@pytest.mark.model
@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 1), (1.0, 3)])
def test_the_tokens_are_those_that_generate_writes(smollm2, temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = list(smollm2.generate(IDS, 6, choose=lambda logits, ids: sample(logits, rng, temperature).token))
    stops = journey(smollm2, IDS, 6, temperature, seed)
    assert [stop.chosen for stop in stops] == [step.id for step in steps]
    assert [stop.cache_bytes for stop in stops] == [step.cache_bytes for step in steps]
    for stop, step in zip(stops, steps, strict=True):
        np.testing.assert_allclose(stop.logits, step.logits, atol=1e-3)
        assert stop.low <= stop.draw < stop.high
        assert stop.high - stop.low == pytest.approx(softmax(stop.logits, temperature)[stop.chosen], abs=1e-5)
    assert journey(smollm2, IDS, 6, temperature, seed) is stops


@pytest.mark.model
def test_every_stage_is_that_of_the_whole_text_read_at_once(smollm2) -> None:
    stops = journey(smollm2, IDS, 4, 0.0, 1)
    text = [*IDS, *(stop.chosen for stop in stops[:-1])]
    trace, last = smollm2.trace(text), stops[-1]
    assert [len(stop.read) for stop in stops] == [len(IDS), 1, 1, 1]
    assert last.position == len(text) - 1
    assert last.read.tolist() == [text[-1]]
    np.testing.assert_array_equal(last.embedding, smollm2.weights.embedding[text[-1]])
    np.testing.assert_allclose(last.logits, trace["logits"][-1], atol=2e-3)
    for i in (0, 14, 29):
        np.testing.assert_allclose(last.attention[i], trace[f"blk.{i}.attn.weights"][:, -1], atol=1e-4)
        np.testing.assert_allclose(last.hidden[i], trace[f"blk.{i}.ffn.hidden"][-1], atol=2e-3)
    np.testing.assert_allclose(last.attention.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(last.angles[:2], last.position * np.array([1, 100_000 ** (-1 / 32)]))
    lens = logit_lens(smollm2, trace, slice(-1, None))
    depths = lens_depths(30)
    assert depths == list(range(0, 31, 3))
    np.testing.assert_array_equal(last.lens_ids, lens.ids[depths, 0])
    np.testing.assert_allclose(last.lens_p, lens.probabilities[depths, 0], atol=1e-3)
    assert last.lens_ids[-1] == last.chosen


@pytest.mark.model
def test_the_strongest_neurons_are_the_largest(smollm2) -> None:
    stop = journey(smollm2, IDS, 1, 0.0, 1)[0]
    found = strongest_neurons(stop, 20, 7)
    sizes = np.sort(np.abs(stop.hidden[20]))[::-1][:7]
    np.testing.assert_array_equal([abs(value) for _, value in found], sizes)
    assert all(stop.hidden[20, neuron] == np.float32(value) for neuron, value in found)


@pytest.mark.model
def test_one_token_is_a_text_and_the_end_ends_it(smollm2) -> None:
    assert len(journey(smollm2, IDS[:1], 2, 0.0, 1)) == 2
    chat = encode("Hi", "smollm2")
    ended = journey(smollm2, [1, *chat, 2], 40, 0.0, 1)
    assert len(ended) <= 40
    with pytest.raises(ValueError, match="at least one token"):
        journey(smollm2, [], 2)
