"""Gates: by hand, against SwiGLU and the autodiff, and counted in the real model in two ways."""

import numpy as np
import pytest

from engine.activation import silu
from engine.backpropagation import value_and_grad
from engine.feed_forward import swiglu_steps
from engine.gates import (
    changes,
    effect,
    gated,
    histogram,
    off_shares,
    openings,
    share_below,
    strongest,
    with_activation,
    without_nearly_off,
)
from engine.neuron import FORMS, bend

rng = np.random.default_rng(0)


def test_a_gate_is_the_middle_of_swiglu():
    value, gate = rng.normal(size=(2, 5))
    x, eye = np.concatenate([gate, value])[None], np.eye(10)
    steps = swiglu_steps(x, eye[:, :5], eye[:, 5:], np.eye(5))
    np.testing.assert_array_equal(gated(value, gate).output, steps.hidden[0])


@pytest.mark.parametrize("form", FORMS)
def test_slopes_of_a_gate_equal_the_autodiff(form):
    value, gate = rng.normal(size=(2, 6)) * 2
    _, (by_value, by_gate) = value_and_grad(lambda v, g: np.sum(bend(form, g) * v), (0, 1))(value, gate)
    found = gated(value, gate, form)
    np.testing.assert_allclose(found.by_value, by_value, atol=1e-14)
    np.testing.assert_allclose(found.by_gate, by_gate, atol=1e-13)


def test_shares_and_counts_by_brute_force():
    x = rng.normal(size=(7, 50)).astype(np.float32)
    limits = np.array([0.0, 0.1, 0.5, float(np.abs(x).max()), 9.0], np.float32)
    np.testing.assert_allclose(share_below(x, limits), [(np.abs(x) < limit).mean() for limit in limits])
    found = histogram(x, -1, 1, 8)
    assert found.counts.sum() == x.size
    assert found.beyond == (np.abs(x) > 1).sum()
    inside = [((x >= a) & (x < b)).sum() for a, b in zip(found.edges[1:-2], found.edges[2:-1], strict=True)]
    np.testing.assert_array_equal(found.counts[1:-1], inside)


def test_the_strongest_in_order():
    x = rng.normal(size=(4, 9))
    found = strongest(x, 5)
    ranked = sorted(((i, j) for i, j in np.ndindex(x.shape)), key=lambda at: -abs(x[at]))[:5]
    assert [(token, neuron) for token, neuron, _ in found] == ranked
    assert [value for *_, value in found] == [x[at] for at in ranked]
    assert len(strongest(x, 99)) == x.size


@pytest.fixture(scope="module")
def text():
    from engine.model import load
    from engine.tokenization import encode

    return load(), tuple(encode("The capital of France is", "smollm2"))


@pytest.mark.model
def test_openings_times_values_are_what_the_model_passed_on(text):
    model, ids = text
    trace = model.trace(ids)
    for layer in (0, 11, 29):
        passed = openings(trace, layer) * trace[f"blk.{layer}.ffn.up"]
        np.testing.assert_array_equal(passed, trace[f"blk.{layer}.ffn.hidden"])
        share = off_shares(trace, [0.1], 30)[layer, 0]
        assert share == np.mean(np.abs(silu(trace[f"blk.{layer}.ffn.gate"])) < 0.1)


@pytest.mark.model
def test_the_same_activation_put_back_changes_nothing_and_threshold_zero_silences_nothing(text):
    model, ids = text
    plain = model.forward(ids)
    np.testing.assert_array_equal(model.forward(ids, edit=with_activation("silu", 30)), plain)
    np.testing.assert_array_equal(model.forward(ids, edit=without_nearly_off(0.0, 30)), plain)


@pytest.mark.model
def test_silenced_neurons_are_exactly_those_below_the_threshold(text):
    model, ids = text
    trace: dict = {}
    model.forward(ids, trace=trace, edit=without_nearly_off(0.1, 30))
    for layer in (0, 29):
        off = np.abs(openings(trace, layer)) < 0.1
        hidden = trace[f"blk.{layer}.ffn.hidden"]
        assert np.all(hidden[off] == 0)
        np.testing.assert_array_equal(hidden[~off], (openings(trace, layer) * trace[f"blk.{layer}.ffn.up"])[~off])


@pytest.mark.model
def test_the_effect_of_a_change_is_that_of_its_edit(text):
    model, ids = text
    plain = effect(model, ids, "none")
    assert plain["surprisals"].mean() == pytest.approx(float(model.loss(ids)), abs=1e-5)
    assert np.all(plain["off"] == 0)
    found = effect(model, ids, "below 0.2")
    assert found["surprisals"].mean() == pytest.approx(float(model.loss(ids, without_nearly_off(0.2, 30))), abs=1e-5)
    assert found["probabilities"].sum() == pytest.approx(1, abs=1e-4)
    first = np.mean(np.abs(openings(model.trace(ids), 0)) < 0.2)
    assert found["off"][0] == pytest.approx(first), "before the first silenced layer nothing has changed"


@pytest.mark.model
def test_a_model_trained_with_silu_breaks_with_relu(text):
    model, ids = text
    losses = [effect(model, ids, change)["surprisals"].mean() for change in ("none", "use gelu", "use relu")]
    assert losses[0] < losses[1] < losses[2] - 2


def test_changes_by_name():
    assert changes("none", 3) == {}
    assert set(changes("use relu", 2)) == {"blk.0.ffn.hidden", "blk.1.ffn.hidden"} == set(changes("below 0.1", 2))
    with pytest.raises(ValueError, match="no change called"):
        changes("double", 2)
