"""Sweeps: models side by side are the models alone, and the power law finds what was put in."""

import numpy as np
import pytest

from engine.corpora import corpus
from engine.sweep import power_law, rates, side_by_side, widths
from engine.training import Plan, train

PLAN = Plan(steps=6, batch=2, warmup=2, evaluate_every=3, held_out=2)


def test_side_by_side_is_the_same_as_one_after_the_other():
    c = corpus("grammar")
    entrants = widths(c, (8, 16), PLAN, context=8)
    together = list(side_by_side(c, entrants))
    for i, one in enumerate(entrants):
        alone = list(train(one.gpt, c, one.plan))
        assert [steps[i].loss for steps in together] == [step.loss for step in alone]
    assert entrants[0].tokens == 6 * 2 * 8
    assert entrants[1].compute == 6 * entrants[1].gpt.parameter_count * 96


def test_rates_share_everything_but_the_rate():
    tried = rates(corpus("grammar"), (1e-3, 1e-2), PLAN)
    assert [one.plan.learning_rate for one in tried] == [1e-3, 1e-2]
    assert tried[0].gpt == tried[1].gpt


def test_a_power_law_is_found_again():
    x = np.geomspace(1e3, 1e6, 6)
    found = power_law(x, 0.7 + 40 * x**-0.34, 0.7)
    assert found.exponent == pytest.approx(0.34)
    assert found.factor == pytest.approx(40)
    assert found.spread < 1e-12
    np.testing.assert_allclose(found.exponents_without, 0.34)
    np.testing.assert_allclose(found(x), 0.7 + 40 * x**-0.34)


def test_the_fit_is_least_squares_and_says_how_far_off_it_is():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 7)
    y = 3 * x**-0.5 * np.exp(rng.normal(size=7) * 0.1)
    found = power_law(x, y)
    design = np.column_stack([np.ones(7), -np.log(x)])
    (log_factor, exponent), left, *_ = np.linalg.lstsq(design, np.log(y), rcond=None)
    assert found.exponent == pytest.approx(exponent)
    assert found.factor == pytest.approx(np.exp(log_factor))
    assert found.spread == pytest.approx(np.sqrt(left[0] / 7))
    np.testing.assert_allclose(np.log(y / found(x)), found.residuals)
    assert np.ptp(found.exponents_without) > 0.01
    assert found.exponents_without[2] == pytest.approx(power_law(np.delete(x, 2), np.delete(y, 2)).exponent)


def test_what_has_no_power_law_gets_a_sentence():
    with pytest.raises(ValueError, match="three points"):
        power_law(np.array([1.0, 2.0]), np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match="no power law"):
        power_law(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 0.5]), 0.5)
