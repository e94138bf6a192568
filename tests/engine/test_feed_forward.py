"""Feed-forward networks by hand, and counted."""

import math

import numpy as np
import pytest

from engine.activation import gelu, silu
from engine.backpropagation import gradient_check
from engine.feed_forward import (
    FeedForward,
    mixture_of_experts,
    mlp,
    mlp_steps,
    parameter_count,
    route,
    swiglu,
    swiglu_steps,
)
from engine.sampling import softmax

rng = np.random.default_rng(4)


def test_a_2_3_2_network_by_hand():
    x = np.array([1.0, -2.0])
    w1, b1 = np.array([[1.0, 0.0, 2.0], [0.5, 1.0, 1.0]]), np.array([0.5, 1.0, 0.0])
    w2, b2 = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.0, 1.0])
    steps = mlp_steps(x, w1, b1, w2, b2)
    np.testing.assert_array_equal(steps.hidden, [0.5, -1.0, 0.0])
    np.testing.assert_array_equal(steps.activated, [0.5, 0.0, 0.0])
    np.testing.assert_array_equal(steps.output, [0.5, 2.0])
    np.testing.assert_array_equal(mlp(x, w1, b1, w2, b2), steps.output)


def test_without_activation_two_layers_are_one_matrix():
    x, w1, w2 = rng.normal(size=(5, 4)), rng.normal(size=(4, 7)), rng.normal(size=(7, 3))
    b1, b2 = rng.normal(size=7), rng.normal(size=3)
    collapsed = x @ (w1 @ w2) + (b1 @ w2 + b2)
    np.testing.assert_allclose(mlp(x, w1, b1, w2, b2, "linear"), collapsed, atol=1e-13)
    assert np.abs(mlp(x, w1, b1, w2, b2, "gelu") - collapsed).max() > 0.1
    np.testing.assert_array_equal(mlp(x, w1, b1, w2, b2, "gelu"), gelu(x @ w1 + b1) @ w2 + b2)


def test_swiglu_by_hand_neuron_by_neuron():
    x, w_gate, w_up, w_down = rng.normal(size=3), *rng.normal(size=(2, 3, 5)), rng.normal(size=(5, 3))
    by_hand = np.zeros(3)
    for neuron in range(5):
        gate = sum(x[i] * w_gate[i, neuron] for i in range(3))
        up = sum(x[i] * w_up[i, neuron] for i in range(3))
        by_hand += gate / (1 + math.exp(-gate)) * up * w_down[neuron]
    np.testing.assert_allclose(swiglu(x, w_gate, w_up, w_down), by_hand, atol=1e-14)
    steps = swiglu_steps(x, w_gate, w_up, w_down)
    np.testing.assert_array_equal(steps.hidden, silu(steps.gate) * steps.up)


def test_a_tap_switches_a_neuron_off():
    x, w_gate, w_up, w_down = rng.normal(size=(2, 3)), *rng.normal(size=(2, 3, 5)), rng.normal(size=(5, 3))
    others = np.array([1, 1, 0, 1, 1])
    tapped = swiglu_steps(x, w_gate, w_up, w_down, tap=lambda name, v: v * others if name == "hidden" else v)
    keep = others == 1
    np.testing.assert_allclose(tapped.output, swiglu(x, w_gate[:, keep], w_up[:, keep], w_down[keep]), atol=1e-14)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_mixture_equals_all_experts_weighted(top_k):
    """The slow way: every expert computes every token, and what was not chosen counts zero."""
    x, router = rng.normal(size=(2, 6, 3)), rng.normal(size=(3, 4))
    experts = [tuple(rng.normal(size=s) for s in ((3, 5), (3, 5), (5, 3))) for _ in range(4)]
    probabilities = softmax(x @ router)
    threshold = np.sort(probabilities, axis=-1)[..., -top_k, None]
    kept = np.where(probabilities >= threshold, probabilities, 0)
    gates = kept / kept.sum(-1, keepdims=True)
    slow = sum(gates[..., e, None] * swiglu(x, *experts[e]) for e in range(4))
    np.testing.assert_allclose(mixture_of_experts(x, router, experts, top_k), slow, atol=1e-13)


def test_each_expert_computes_only_its_tokens():
    x, router = rng.normal(size=(10, 3)), rng.normal(size=(3, 4))
    computed = [0] * 4

    def counting(e):
        def expert(x):
            computed[e] += len(x)
            return x * (e + 1)

        return expert

    out = mixture_of_experts(x, router, [counting(e) for e in range(4)], 2)
    routing = route(x, router, 2)
    np.testing.assert_array_equal(computed, routing.load)
    assert sum(computed) == 20
    factors = np.sum(routing.weights * (routing.chosen + 1), axis=-1, keepdims=True)
    np.testing.assert_allclose(out, x * factors)


def test_routing_of_one_token():
    routing = route(np.array([[1.0]]), np.log(np.array([[1.0, 4.0, 2.0, 1.0]])), 2)
    np.testing.assert_allclose(routing.probabilities, [[1 / 8, 4 / 8, 2 / 8, 1 / 8]])
    np.testing.assert_array_equal(routing.chosen, [[1, 2]])
    np.testing.assert_allclose(routing.weights, [[2 / 3, 1 / 3]])
    np.testing.assert_array_equal(routing.load, [0, 1, 1, 0])
    np.testing.assert_array_equal(
        route(np.array([[0.0]]), np.ones((1, 4)), 3).chosen, [[0, 1, 2]]
    )  # equals: lower first


def test_gradients_reach_router_and_experts():
    x, router = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    experts = [[rng.normal(size=s) for s in ((3, 2), (3, 2), (2, 3))] for _ in range(3)]
    target = rng.normal(size=(4, 3))
    check = gradient_check(lambda x, r, e: np.sum((mixture_of_experts(x, r, e, 2) - target) ** 2), (x, router, experts))
    assert check.worst < 1e-6
    assert any(row.analytic for row in check.rows if row.name.startswith("1"))


def test_parameter_counts():
    assert parameter_count(FeedForward(4096, 14336)) == 176_160_768  # Llama 3.1 8B, a layer
    assert parameter_count(FeedForward(768, 3072, gated=False, bias=True)) == 4_722_432  # GPT-2
    mixtral = FeedForward(4096, 14336, experts=8, top_k=2)
    assert parameter_count(mixtral) == 8 * 176_160_768 + 4096 * 8
    assert parameter_count(mixtral, active=True) == 2 * 176_160_768 + 4096 * 8
    biased = FeedForward(3, 5, gated=True, bias=True)
    assert parameter_count(biased) == sum(a.size for a in (np.zeros((3, 5)), np.zeros(5)) * 2) + 5 * 3 + 3


def test_wrong_arguments_get_a_sentence():
    x, w = np.zeros((1, 2)), np.zeros((2, 2))
    with pytest.raises(ValueError, match="no activation 'cubic'; choose one of linear"):
        mlp(x, w, w[0], w, w[0], "cubic")
    with pytest.raises(ValueError, match="between 1 and 2 experts, not 3"):
        route(x, w, 3)
    with pytest.raises(ValueError, match="scores 2 experts, but 1 were given"):
        mixture_of_experts(x, w, [lambda x: x], 1)
