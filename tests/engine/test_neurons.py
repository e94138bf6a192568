"""Single neurons: their sum is the layer, their direct pushes with all others' are the logits, off is really off."""

import numpy as np
import pytest

from engine.model import load
from engine.neurons import contribution, direct_push, neurons, pushes_on, row, without_neuron
from engine.tokenization import encode

pytestmark = pytest.mark.model

IDS = encode("The animal did not cross the street because it was too", "smollm2")


@pytest.fixture(scope="module")
def model():
    return load()


def test_all_contributions_sum_to_the_layers_output(model):
    trace = model.trace(IDS)
    for layer, position in ((0, 0), (12, 4), (29, 10)):
        hidden, output = trace[f"blk.{layer}.ffn.hidden"][position], trace[f"blk.{layer}.ffn.out"][position]
        every = np.array([contribution(model, layer, j, hidden) for j in range(1536)])
        np.testing.assert_allclose(every.sum(axis=0), output, atol=1e-4 * np.abs(output).max())
        found = neurons(model, trace, layer, position)
        np.testing.assert_allclose(found.lengths, np.linalg.norm(every, axis=1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.shares, every @ output / (output @ output), atol=1e-5)
        assert found.shares.sum() == pytest.approx(1, abs=1e-3)


def test_half_of_the_output_is_carried_by_the_fewest_neurons(model):
    found = neurons(model, model.trace(IDS), 20, -1)
    assert np.all(np.diff(found.shares[found.order]) <= 0)
    assert found.carried(found.half) >= 0.5 > found.carried(found.half - 1)
    assert found.carried(1536) == pytest.approx(1, abs=1e-3)


def test_the_direct_pushes_of_everything_written_sum_to_the_logits(model):
    trace, last = model.trace(IDS), 10
    parts = [trace["embed"][last]]
    parts += [trace[f"blk.{i}.{sublayer}.out"][last] for i in range(30) for sublayer in ("attn", "ffn")]
    stream = trace["blk.29.resid"][last]
    total = sum(direct_push(model, part, stream).logits.astype(np.float64) for part in parts)
    logits = trace["logits"][last].astype(np.float64)
    np.testing.assert_allclose(total, logits - logits.mean(), atol=2e-3)


def test_the_tokens_pushed_most(model):
    stream = model.trace(IDS)["blk.29.resid"][-1]
    push = direct_push(model, row(model, 22, 5), stream, k=7)
    order = np.argsort(-push.logits, kind="stable")
    np.testing.assert_array_equal(push.up, order[:7])
    np.testing.assert_array_equal(push.down, order[::-1][:7])
    assert push.logits.mean() == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="numbered 0 to 1535"):
        row(model, 22, 1536)


@pytest.mark.parametrize(("layer", "position"), [(0, 3), (17, 10)])
def test_a_neuron_switched_off_against_a_run_without_its_row(model, layer, position):
    def off(value, seen):
        gone = value.copy()
        gone[:, 40] = 0
        return gone

    expected = model.forward(IDS[: position + 1], edit={f"blk.{layer}.ffn.hidden": off})[-1]
    np.testing.assert_allclose(without_neuron(model, model.trace(IDS), layer, 40, position), expected, atol=2e-3)


def test_pushes_on_one_token_are_entries_of_the_whole(model):
    trace = model.trace(IDS)
    hidden, stream = trace["blk.24.ffn.hidden"][-1], trace["blk.29.resid"][-1]
    pushes = pushes_on(model, trace, 24, -1, 2009)
    for neuron in (0, 652, 1535):
        whole = direct_push(model, contribution(model, 24, neuron, hidden), stream)
        assert pushes[neuron] == pytest.approx(whole.logits[2009], abs=1e-4)
    output = direct_push(model, trace["blk.24.ffn.out"][-1], stream)
    assert pushes.sum() == pytest.approx(output.logits[2009], abs=1e-2)
