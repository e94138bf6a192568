"""One neuron and a chain of them: by hand, against the autodiff, against differences."""

import math

import numpy as np
import pytest

from engine.activation import gelu
from engine.backpropagation import value_and_grad
from engine.feed_forward import mlp
from engine.neuron import FORMS, bend, chain, neuron, slope

X, W = np.array([0.7, -0.25, 0.45]), np.array([1.1, -0.85, 0.55])


def test_the_usual_neuron_by_hand():
    found = neuron(X, W, 0.0, "gelu")
    np.testing.assert_allclose(found.products, [0.77, 0.2125, 0.2475], atol=1e-15)
    assert found.total == pytest.approx(1.23)
    assert f"{found.output:.4f}" == "1.0955"
    assert f"{neuron(X, W, 0.0, 'gelu_tanh').output:.4f}" == "1.0953"


@pytest.mark.parametrize("form", FORMS)
def test_a_neuron_is_a_feed_forward_network_of_one(form):
    name, options = FORMS[form]
    if options:
        return
    one, zero = np.ones((1, 1)), np.zeros(1)
    assert neuron(X, W, -0.4, form).output == pytest.approx(mlp(X, W[:, None], np.array([-0.4]), one, zero, name)[0])


@pytest.mark.parametrize("bias", [-2.0, -1.23, 0.0, 0.3])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_equal_the_autodiff(form, bias):
    found = neuron(X, W, bias, form)
    output, (by_input, by_weight) = value_and_grad(lambda x, w: bend(form, np.sum(x * w) + bias), (0, 1))(X, W)
    assert output == pytest.approx(float(found.output), abs=1e-15)
    np.testing.assert_allclose(found.by_input, by_input, atol=1e-14)
    np.testing.assert_allclose(found.by_weight, by_weight, atol=1e-14)


def test_the_two_forms_of_gelu_differ_by_less_than_a_thousandth():
    x = np.linspace(-6, 6, 4001)
    off = np.abs(bend("gelu", x) - bend("gelu_tanh", x))
    assert 4e-4 < off.max() < 5e-4
    np.testing.assert_array_equal(bend("gelu", x), gelu(x))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0), (-1.7, 0.4), (0.3, -0.2)])
def test_the_reach_of_a_chain_is_its_derivative(form, weight, bias):
    found = chain(0.6, 7, weight, bias, form)
    _, gradient = value_and_grad(lambda x: _last(x, 7, weight, bias, form))(np.array(0.6))
    assert found.reach[-1] == pytest.approx(float(gradient), rel=1e-12, abs=1e-15)
    if form not in ("relu", "leaky_relu"):
        step = 1e-5
        ends = [chain(0.6 + d, 7, weight, bias, form).values[-1] for d in (step, -step)]
        assert found.reach[-1] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-9)


def _last(x, layers, weight, bias, form):
    for _ in range(layers):
        x = bend(form, weight * x + bias)
    return x


def test_a_chain_of_sigmoids_loses_at_least_three_quarters_a_layer():
    found = chain(0.5, 30, 1.0, 0.0)
    assert np.all(found.reach <= 0.25 ** np.arange(1, 31))
    assert np.all(chain(0.5, 30, 1.0, 0.0, "relu").reach == 1.0)
    assert slope("sigmoid", np.zeros(1))[0] == 0.25
    assert chain(0.5, 1, 1.0, 0.0).values[0] == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_unknown_forms_get_a_sentence():
    with pytest.raises(ValueError, match="choose one of linear"):
        bend("swish", X)
