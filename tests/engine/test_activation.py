"""Activations against math.erf, against their own derivatives, and at the ends of float32."""

import math
import warnings

import numpy as np
import pytest

from engine import activation
from engine.activation import ACTIVATIONS, derivative, erf, gelu, sigmoid, silu
from engine.backpropagation import value_and_grad

CASES = [(name, {}) for name in ACTIVATIONS] + [("gelu", {"approximate": "tanh"}), ("leaky_relu", {"slope": 0.2})]
AWKWARD = [0.0, -0.0, 1e-45, 1e-38, 6.0, -6.0, 10.0, -10.0, 88.8, -88.8, 1e19, -1e19, 3.4e38, -3.4e38]


def test_erf_equals_the_standard_library_to_rounding():
    x = np.concatenate([np.linspace(-8, 8, 20_001), [0.46875, -0.46875, 1e-300, 5.9999, 6.0001, 1e308]])
    reference = np.array([math.erf(value) for value in x])
    assert np.max(np.abs(erf(x) - reference)) < 3e-16


def test_gelu_of_1_23_in_both_forms():
    x = np.array(1.23)
    assert f"{gelu(x):.4f} {gelu(x, approximate='tanh'):.4f}" == "1.0955 1.0953"
    assert gelu(x) == pytest.approx(1.23 * 0.5 * math.erfc(-1.23 / math.sqrt(2)), abs=1e-15)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_derivative_equals_backpropagation_and_differences(name, options):
    x = np.random.default_rng(0).normal(size=60) * 3
    slopes = derivative(name, x, **options)
    _, traced = value_and_grad(lambda x: np.sum(ACTIVATIONS[name](x, **options)))(x)
    step = 1e-6
    differences = (ACTIVATIONS[name](x + step, **options) - ACTIVATIONS[name](x - step, **options)) / (2 * step)
    np.testing.assert_allclose(traced, slopes, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(slopes, differences, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "slope"), [("relu", 0), ("leaky_relu", 0.01), ("sigmoid", 0.25), ("silu", 0.5), ("gelu", 0.5), ("tanh", 1)]
)
def test_slope_at_zero(name, slope):
    zero = np.zeros(1)
    assert derivative(name, zero) == pytest.approx(slope, abs=1e-15)
    assert value_and_grad(lambda x: np.sum(ACTIVATIONS[name](x)))(zero)[1] == pytest.approx(slope, abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_finite_without_warnings_and_in_the_same_dtype(name, options, dtype):
    largest = np.finfo(dtype).max
    x = np.array([*AWKWARD, largest, -largest], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, slope = ACTIVATIONS[name](x, **options), derivative(name, x, **options)
    assert y.dtype == slope.dtype == dtype
    assert np.isfinite(y).all()
    assert np.isfinite(slope).all()
    scalar = ACTIVATIONS[name](np.array(0.5, dtype), **options)
    assert scalar.dtype == dtype
    assert scalar.shape == ()


def test_backpropagation_stays_finite_at_the_ends_of_float32():
    x = np.array(AWKWARD, np.float32)
    for name, options in CASES:
        _, gradient = value_and_grad(lambda x, f=ACTIVATIONS[name], o=options: np.sum(f(x, **o) * 1e-3))(x)
        assert np.isfinite(gradient).all(), name


def test_sigmoid_keeps_its_relative_precision_in_the_tail():
    x = np.array([-700.0, -40.0, -20.0])
    np.testing.assert_allclose(sigmoid(x), np.exp(x) / (1 + np.exp(x)), rtol=1e-15)
    assert sigmoid(np.float32([-80.0]))[0] > 0


def test_known_identities():
    x = np.linspace(-9, 9, 181)
    np.testing.assert_allclose(sigmoid(x) + sigmoid(-x), 1, atol=1e-15)
    np.testing.assert_allclose(np.tanh(x), 2 * sigmoid(2 * x) - 1, atol=1e-14)
    np.testing.assert_allclose(silu(x) - silu(-x), x, atol=1e-14)
    np.testing.assert_allclose(gelu(x) - gelu(-x), x, atol=1e-14)
    np.testing.assert_array_equal(erf(-x), -erf(x))


def test_unknown_names_get_a_sentence():
    with pytest.raises(ValueError, match="choose one of linear, relu"):
        derivative("softplus", np.zeros(1))
    with pytest.raises(ValueError, match="approximate must be"):
        gelu(np.zeros(1), approximate="erf")
    with pytest.raises(ValueError, match="approximate must be"):
        derivative("gelu", np.zeros(1), approximate="exact")


def test_every_activation_is_a_function_of_the_module():
    assert {name: getattr(activation, name) for name in ACTIVATIONS} == ACTIVATIONS
