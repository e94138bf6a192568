"""Optimizers compared: each study against a second way to its numbers."""

import numpy as np
import pytest

from engine.backpropagation import gradient_check
from engine.curve_fit import TARGETS
from engine.curve_training import loss, start, train
from engine.descents import SURFACES, trajectory
from engine.ledger import CONFIGS, total_parameters
from engine.optimizer_study import (
    NAMES,
    NEURONS,
    PLACES,
    RATES,
    decay,
    edge_of_stability,
    first_steps,
    fit_losses,
    layer_gradient,
    levelled,
    named,
    race,
    scheduled,
    slots,
    state_numbers,
    sweep,
    written_step,
)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_the_edge_of_stability_divides_walks(name):
    edge = edge_of_stability(name, 100.0)
    below = trajectory(named(name, 0.99 * edge), "ravine", (0.0, 1.0), 3000)
    above = trajectory(named(name, 1.01 * edge), "ravine", (0.0, 1.0), 3000)
    assert below.diverged is None
    assert below.losses[-1] < 1e-6
    assert above.diverged is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_written_step_is_the_walks_step(name):
    """The gradients of the one are traced, those of the other written out by hand."""
    shown = written_step(named(name, 0.001, weight_decay=0.1), name, "rosenbrock", SURFACES["rosenbrock"].start, 7)
    walk = trajectory(named(name, 0.001, weight_decay=0.1), "rosenbrock", SURFACES["rosenbrock"].start, 7)
    np.testing.assert_allclose(shown.before, walk.points[6], rtol=1e-9)
    np.testing.assert_allclose(shown.after, walk.points[7], rtol=1e-9)
    np.testing.assert_allclose(shown.gradient, walk.gradients[6], rtol=1e-9)
    np.testing.assert_allclose([shown.loss, shown.loss_after], walk.losses[6:], rtol=1e-9)


def test_the_first_written_step_starts_from_nothing():
    shown = written_step(named("adam", 0.01, 0.9, 0.999), "adam", "bowl", (1.0, -1.0), 1)
    np.testing.assert_array_equal(shown.state_before["exp_avg"], [0, 0])
    np.testing.assert_allclose(shown.state_after["exp_avg"], 0.1 * shown.gradient, rtol=1e-12)
    np.testing.assert_allclose(shown.state_after["exp_avg_sq"], 0.001 * shown.gradient**2, rtol=1e-12)


def test_a_written_step_that_diverged_says_so():
    with pytest.raises(ValueError, match="diverged"):
        written_step(named("sgd", 0.2), "sgd", "rosenbrock", (-1.2, 1.0), 20)


def test_race_gives_each_its_rate():
    walks = race("bowl", ["sgd", "lion"], (1.0, 1.0), 1, lr=0.01, lr_rescaling=0.2)
    np.testing.assert_allclose(walks["sgd"].points[1], [0.9, 0.8])
    np.testing.assert_allclose(walks["lion"].points[1], [0.8, 0.8])


def test_first_steps_by_the_closed_form():
    """On a constant gradient the means are shares of it: (1 − β₁ᵗ) / √(1 − β₂ᵗ) without the correction, 1 with it."""
    found, t = first_steps(0.9, 0.999, 0, 50), np.arange(1, 51)
    np.testing.assert_allclose(found.corrected, 1, rtol=1e-6)
    np.testing.assert_allclose(found.uncorrected, (1 - 0.9**t) / np.sqrt(1 - 0.999**t), rtol=1e-6)


def test_decay_by_what_the_update_says():
    """AdamW's means follow (1 − ηλ)ᵗ for both groups; without decay the two optimizers are one."""
    found = decay(0.01, 0.5, 20, 100)
    for group in (found.large, found.small):
        np.testing.assert_allclose(group["adamw"], 0.995 ** np.arange(101), atol=0.03)
    assert found.large["adam"][-1] > 0.8 > 0.4 > found.small["adam"][-1]
    none = decay(0.01, 0.0, 20, 50)
    np.testing.assert_array_equal(none.large["adam"], none.large["adamw"])
    np.testing.assert_array_equal(none.small["adam"], none.small["adamw"])


def test_scheduled_walks_with_its_rates():
    run = scheduled("linear", "sgd", 50, peak=0.2, warmup=5)
    lengths = np.linalg.norm(np.diff(run.walk.points, axis=0), axis=1)
    np.testing.assert_allclose(lengths, run.rates * np.linalg.norm(run.walk.gradients, axis=1), rtol=1e-9)
    assert run.rates[0] == 0
    assert run.rates.max() == pytest.approx(0.2)


def test_layer_gradient_by_hand():
    """The same loss and numbers, differentiated on paper: 2 / (64 · rows) · (x Wᵀ − y)ᵀ x."""
    rng = np.random.default_rng(5)
    inputs = rng.standard_normal((64, 6)) * np.geomspace(1, 1 / 10, 6)
    outputs = inputs @ rng.standard_normal((6, 3))
    weights = 0.1 * rng.standard_normal((3, 6))
    expected = 2 / (64 * 3) * (inputs @ weights.T - outputs).T @ inputs
    np.testing.assert_allclose(layer_gradient(3, 6, 10, seed=5), expected, rtol=1e-10)


def test_levelled_starts_with_unit_length_and_draws_together():
    singular = levelled(layer_gradient(4, 6, 20), 5)
    assert np.sum(singular[0] ** 2) == pytest.approx(1)
    assert singular[0, 0] / singular[0, -1] > 20 > 2 > singular[-1, 0] / singular[-1, -1]


def test_state_is_counted():
    assert [slots(name) for name in NAMES] == [0, 1, 1, 1, 2, 2, 1, 1]
    assert slots("muon", matrix=False) == 2
    config = CONFIGS["SmolLM2-135M"]
    assert total_parameters(config) == 134_515_008
    assert state_numbers(config, "adamw") == 2 * 134_515_008
    outside = 49152 * 576 + 61 * 576  # the embedding, and two norms a block and one at the end
    assert state_numbers(config, "muon") == 134_515_008 + outside


def test_many_networks_at_once_are_each_their_own():
    networks = [start(4, seed) for seed in range(3)]
    x = np.linspace(-3, 3, 11)
    batch = {key: np.stack([p[key] for p in networks]) for key in networks[0]}
    np.testing.assert_allclose(fit_losses(batch, x, np.sin(x)), [loss(p, x, np.sin(x)) for p in networks], rtol=1e-12)


def test_fit_losses_against_central_difference():
    x = np.linspace(-3, 3, 7)
    one = {key: value[None] for key, value in start(3, 2).items()}
    assert gradient_check(lambda p: np.sum(fit_losses(p, x, np.sin(x))), (one,)).worst < 1e-6


@pytest.mark.parametrize(("name", "momentum"), [("sgd", 0.0), ("momentum", 0.9)])
def test_the_sweep_is_the_training_of_chapter_four(name, momentum):
    """Run for run: one network alone, with that chapter's own descent."""
    found = sweep("sine", 1, 40)
    x = np.linspace(-3, 3, PLACES)
    for rate in (1, 3):
        alone = train(TARGETS["sine"](x), NEURONS, rate=RATES[rate], steps=40, momentum=momentum, seed=1)
        np.testing.assert_allclose(found.curve(name, rate), alone.losses, rtol=1e-8)


def test_the_best_rate_is_never_one_that_diverged():
    found = sweep("sine", 0, 40)
    for name in NAMES:
        last = found.curve(name, found.best(name))[-1]
        assert np.isfinite(last)
        assert not np.any(found.losses[NAMES.index(name), :, -1] < last)


def test_no_such_optimizer():
    with pytest.raises(ValueError, match="no optimizer called"):
        named("adagrad", 0.1)
