"""The objectives of post-training: against PyTorch, against central differences, and by a second way each."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.backpropagation import gradient_check, value_and_grad
from engine.post_training import (
    bradley_terry_loss,
    clipped_gain,
    distillation_loss,
    dpo_loss,
    group_advantages,
    grpo_loss,
    kl_divergence,
    kl_estimate,
    kl_objective,
    kl_regularised_policy,
    lora,
    masked_loss,
)
from engine.sampling import log_softmax, softmax

GOLDENS = dict(np.load(Path(__file__).parents[1] / "goldens" / "post_training.npz"))
DPO = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")

LOSSES = {
    "bradley_terry": (bradley_terry_loss, ("chosen", "rejected")),
    "dpo_0.1": (partial(dpo_loss, beta=0.1), DPO),
    "dpo_2.0": (partial(dpo_loss, beta=2.0), DPO),
    "distillation_0.5": (partial(distillation_loss, temperature=0.5), ("student", "teacher")),
    "distillation_1.0": (partial(distillation_loss, temperature=1.0), ("student", "teacher")),
    "distillation_4.0": (partial(distillation_loss, temperature=4.0), ("student", "teacher")),
    "grpo": (
        lambda policy, reference: grpo_loss(
            policy, GOLDENS["in_old"].astype(policy.dtype), reference, GOLDENS["advantages"].astype(policy.dtype)
        ),
        ("policy", "reference"),
    ),
    "masked": (lambda logits: masked_loss(logits, GOLDENS["in_targets"], GOLDENS["in_counts"]), ("logits",)),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@each_loss
def test_losses_equal_pytorch(name):
    function, inputs = LOSSES[name]
    arrays = [GOLDENS[f"in_{name}_{part}"] for part in inputs]
    assert float(function(*arrays)) == pytest.approx(float(GOLDENS[name]), rel=1e-12)
    single = function(*[array.astype(np.float32) for array in arrays])
    assert single.dtype == np.float32
    assert float(single) == pytest.approx(float(GOLDENS[f"{name}_f32"]), rel=2e-6)


@each_loss
def test_gradients_equal_pytorch(name):
    function, inputs = LOSSES[name]
    arrays = [GOLDENS[f"in_{name}_{part}"] for part in inputs]
    _, gradients = value_and_grad(function, tuple(range(len(inputs))))(*arrays)
    for part, gradient in zip(inputs, gradients, strict=True):
        np.testing.assert_allclose(gradient, GOLDENS[f"grad_{name}_{part}"], rtol=1e-10, atol=1e-15)


@each_loss
def test_gradients_against_central_differences(name):
    function, inputs = LOSSES[name]
    shapes = [GOLDENS[f"in_{name}_{part}"].shape for part in inputs]
    small = [normal(*shape, seed=i + 1) * 0.3 for i, shape in enumerate(shapes)]
    assert gradient_check(function, tuple(small)).worst < 1e-6


def test_gradient_of_the_regularised_policy_its_objective_and_lora():
    reference, reward = softmax(normal(5)), normal(5, seed=1)
    weights = np.arange(5.0)
    policy = gradient_check(lambda p, r: np.sum(weights * kl_regularised_policy(p, r, 0.7)), (reference, reward))
    objective = gradient_check(lambda z, r: kl_objective(softmax(z), reference, r, 0.7), (normal(5, seed=2), reward))
    change = gradient_check(
        lambda w, a, b: np.sum(np.sin(lora(w, a, b, 8))), (normal(4, 3), normal(4, 2, seed=1), normal(2, 3, seed=2))
    )
    assert max(policy.worst, objective.worst, change.worst) < 1e-6


def test_group_advantages_equal_pytorch_and_are_zero_without_differences():
    np.testing.assert_allclose(group_advantages(GOLDENS["in_rewards"]), GOLDENS["advantages"], atol=1e-12)
    assert not np.any(group_advantages(np.full((3, 4), 0.1)))


def test_lora_equals_two_linear_layers_in_both_layouts():
    w, a, b, x = (GOLDENS[f"in_lora_{name}"] for name in "wabx")
    np.testing.assert_allclose(x @ lora(w.T, a.T, b.T, 6), GOLDENS["lora_out"], rtol=1e-12)
    np.testing.assert_allclose(x @ lora(w, a, b, 6).T, GOLDENS["lora_out"], rtol=1e-12)
    np.testing.assert_array_equal(lora(w.T, a.T, 0 * b.T, 6), w.T)


def test_the_closed_form_is_better_than_anything_near_it():
    reference, reward = softmax(normal(6)), normal(6, seed=3)
    for beta in (0.05, 0.5, 5.0):
        best = kl_regularised_policy(reference, reward, beta)
        value = kl_objective(best, reference, reward, beta)
        # the largest value is known, too: β log Σ π_ref exp(r / β)
        assert value == pytest.approx(beta * np.log(np.sum(reference * np.exp(reward / beta))), rel=1e-10)
        for seed in range(50):
            other = softmax(np.log(best) + 0.1 * normal(6, seed=seed))
            assert kl_objective(other, reference, reward, beta) <= value + 1e-12


def test_the_regularised_policy_at_its_limits():
    reference, reward = np.array([0.5, 0.3, 0.2, 0.0]), np.array([1.0, 2.0, 0.0, 99.0])
    np.testing.assert_allclose(kl_regularised_policy(reference, reward, 1e9), reference, atol=1e-6)
    np.testing.assert_allclose(kl_regularised_policy(reference, reward, 1e-9), [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        kl_regularised_policy(reference, reward + 7, 0.3), kl_regularised_policy(reference, reward, 0.3)
    )


def test_dpo_sees_only_differences_and_starts_at_log_2():
    chosen, rejected = -10 * np.random.default_rng(0).random((2, 6))
    assert dpo_loss(chosen, rejected, chosen, rejected, 0.3) == pytest.approx(np.log(2))
    moved = dpo_loss(chosen - 3, rejected - 3, chosen, rejected, 0.3)
    assert moved == pytest.approx(np.log(2)), "both may fall together"


def test_distillation_at_high_temperature_matches_logits():
    """Hinton et al. 2015, equation 4: for a high temperature the gradient is (z − v) / V for centred logits."""
    student, teacher = normal(7), normal(7, seed=1)
    _, gradient = value_and_grad(distillation_loss)(student, teacher, 1e4)
    centred = (student - student.mean()) - (teacher - teacher.mean())
    np.testing.assert_allclose(gradient, centred / 7, rtol=2e-3, atol=1e-5)


def test_the_kl_estimate_is_right_on_average():
    policy, reference = softmax(normal(6)), softmax(normal(6, seed=1))
    estimates = kl_estimate(np.log(policy), np.log(reference))
    assert np.all(estimates >= 0)
    assert np.sum(policy * estimates) == pytest.approx(kl_divergence(policy, reference), rel=1e-12)


def test_clipping_takes_away_the_reason_to_go_on():
    slope = value_and_grad(lambda ratio, a: np.sum(clipped_gain(ratio, a, 0.2)))
    ratios = np.array([0.7, 1.0, 1.3])
    np.testing.assert_array_equal(slope(ratios, np.ones(3))[1], [1, 1, 0])
    np.testing.assert_array_equal(slope(ratios, -np.ones(3))[1], [0, -1, -1])


def test_masking_is_the_mean_over_what_counts():
    logits, targets = normal(6, 9), np.arange(6)
    counts = np.array([0, 0, 1, 0, 1, 1])
    by_hand = -np.mean(log_softmax(logits)[[2, 4, 5], [2, 4, 5]])
    assert masked_loss(logits, targets, counts) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kl_regularised_policy(np.ones(2) / 2, np.ones(2), 0), "above 0"),
        (lambda: distillation_loss(np.ones(2), np.ones(2), 0), "above 0"),
        (lambda: masked_loss(np.ones((2, 3)), np.array([0, 1]), np.zeros(2)), "has to count"),
        (lambda: lora(np.ones((4, 3)), np.ones((5, 2)), np.ones((2, 3)), 1), "does not fit"),
    ],
)
def test_wrong_arguments_get_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
