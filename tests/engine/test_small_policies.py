"""The small policies of post-training: each number by a second way."""

import numpy as np
import pytest

from engine.backpropagation import gradient_check, value_and_grad
from engine.grpo import (
    CHECKS,
    STARTS,
    SUMS,
    answer_logits,
    check,
    chosen,
    draw_groups,
    group_loss,
    kept_run,
    questions,
    reinforce,
    silence,
    taught,
)
from engine.optimizers import Adam
from engine.overoptimization import ERRORS, PROXIES, certainty, crowd, length, under_pressure, warmth
from engine.post_training import kl_divergence, kl_regularised_policy
from engine.preferences import (
    circles,
    dpo_run,
    fit_rewards,
    from_trail,
    ranking,
    win_probabilities,
)
from engine.sampling import log_softmax, softmax
from engine.small_policy import ANSWERS, FEATURES, LOGITS, QUALITY, REFERENCE, ascend

ALL = ranking((0, 1, 2, 4, 3))
BETAS = np.array([0.1, 0.5, 3.0])
LOGIT_TUPLE = tuple(LOGITS.tolist())


# Pairs ---------------------------------------------------------------------------------------------------------------


def test_trails_keep_the_latest_verdict_on_two_answers():
    assert from_trail("") == ()
    assert from_trail("1.5.7") == ((1, 0), (1, 2)), "1 beats 0 replaced 0 beats 1"
    assert from_trail("0.6.12.18.24") == (), "no answer against itself"


def test_verdicts_that_agree_by_half_give_the_log_odds():
    """3 of 4 say that 0 is better: the maximum likelihood is r0 − r1 = log 3."""
    rewards = fit_rewards(((0, 1), (0, 1), (0, 1), (1, 0)), 2, 2000).path[-1]
    assert rewards[0] - rewards[1] == pytest.approx(np.log(3), abs=1e-9)
    assert win_probabilities(rewards)[0, 1] == pytest.approx(0.75)


def test_fitted_rewards_satisfy_the_conditions_of_an_optimum():
    """At the maximum each answer wins as often as its rewards expect, less the pull (Bradley and Terry's equations)."""
    pairs, pull = (*ALL, (3, 0), (2, 1), (4, 2)), 0.05
    rewards = fit_rewards(pairs, 5, 4000, pull=pull).path[-1]
    beats = win_probabilities(rewards)
    for i in range(5):
        won = sum(w == i for w, _ in pairs)
        expected = sum(beats[i, lost if w == i else w] for w, lost in pairs if i in (w, lost))
        assert (won - expected) / len(pairs) == pytest.approx(pull * rewards[i], abs=1e-9)


def test_rewards_follow_a_ranking_and_a_circle_leaves_them_equal():
    assert np.argsort(-fit_rewards(ALL, 5).path[-1]).tolist() == [0, 1, 2, 4, 3]
    np.testing.assert_array_equal(fit_rewards(((0, 1), (1, 2), (2, 0)), 5).path, 0)
    np.testing.assert_array_equal(fit_rewards((), 5, 3).path, 0)


def test_circles_are_found():
    assert not np.any(circles(ALL, 5))
    found = circles(((0, 1), (1, 2), (2, 0), (3, 4)), 5)
    assert np.flatnonzero(np.diagonal(found)).tolist() == [0, 1, 2]


# DPO and the detour --------------------------------------------------------------------------------------------------


def test_dpo_equals_reward_model_and_leash_at_every_step():
    run = dpo_run(ALL, LOGIT_TUPLE, tuple(BETAS), 200)
    fitted = fit_rewards(ALL, 5, 200)
    for b, beta in enumerate(BETAS):
        np.testing.assert_allclose(run.rewards[:, b], fitted.path, atol=1e-12)
        np.testing.assert_allclose(run.losses[:, b], fitted.losses, atol=1e-12)
        for step in (0, 1, 17, 200):
            detour = kl_regularised_policy(REFERENCE, fitted.path[step], float(beta))
            np.testing.assert_allclose(np.exp(run.log_policy[step, b]), detour, atol=1e-12)


def test_each_beta_trains_by_itself():
    together = dpo_run(ALL, LOGIT_TUPLE, tuple(BETAS), 50, 1.0, tuple(map(tuple, FEATURES)))
    for b, beta in enumerate(BETAS):
        alone = dpo_run(ALL, LOGIT_TUPLE, (beta,), 50, 1.0, tuple(map(tuple, FEATURES)))
        np.testing.assert_allclose(together.log_policy[:, b], alone.log_policy[:, 0], atol=1e-12)


def test_with_shared_weights_a_chosen_answer_can_fall():
    run = dpo_run(((0, 1),), LOGIT_TUPLE, (0.5,), 300, 1.0, tuple(map(tuple, FEATURES)))
    assert run.margins[-1, 0, 0] > 3
    assert run.log_policy[-1, 0, 0] < run.log_policy[0, 0, 0]
    own = dpo_run(((0, 1),), LOGIT_TUPLE, (0.5,), 300)
    assert own.log_policy[-1, 0, 0] > own.log_policy[0, 0, 0]


def test_gradient_ascent_reaches_the_closed_form():
    path = ascend(REFERENCE, QUALITY, BETAS, Adam(0.1), 1500)
    for b, beta in enumerate(BETAS):
        np.testing.assert_allclose(path[-1, b], kl_regularised_policy(REFERENCE, QUALITY, float(beta)), atol=1e-3)


# The wrong reward ----------------------------------------------------------------------------------------------------


def test_proxies_count_what_they_say():
    assert length("one two three") == pytest.approx(0.3)
    assert warmth("Lovely! A wonderful day!") == 4
    assert certainty("Always do it, every time.") == 2


def test_length_helps_and_then_hurts_while_the_proxy_only_rises():
    proxy = np.array([PROXIES["length"](one.text) for one in ANSWERS])
    found = under_pressure(REFERENCE, proxy, QUALITY, 10.0 ** np.linspace(1.5, -1.5, 61))
    assert np.all(np.diff(found.proxy) > -1e-12)
    assert np.all(np.diff(found.divergence) > -1e-12)
    assert 10 < found.best < 50
    assert found.true[found.best] > found.true[0] + 0.5
    assert found.true[-1] < found.true[found.best] - 0.3


def test_only_heavy_errors_lead_astray():
    betas = 10.0 ** np.linspace(1.5, -1.5, 61)
    lost = {}
    for errors in ERRORS:
        falls = []
        for seed in range(6):
            true, proxy = crowd(errors, 0.5, seed)
            assert np.std(true) == pytest.approx(1, abs=0.06)
            found = under_pressure(np.full(len(true), 1 / len(true)), proxy, true, betas)
            falls.append(found.true[found.best] - found.true[-1])
        lost[errors] = np.mean(falls)
    assert lost["none"] < 1e-6
    assert lost["heavy"] > lost["normal"] + 0.2
    with pytest.raises(ValueError, match="one of"):
        crowd("loud", 0.5, 0)


# Rewards that can be checked -----------------------------------------------------------------------------------------


def test_questions_are_all_sums_once():
    learn, held = questions(3)
    assert len({tuple(q) for q in np.concatenate([learn, held]).tolist()}) == 100
    assert len(held) == 30


def test_checks():
    asked = np.array([[3, 4], [9, 9]])
    answers = np.array([[7, 8, 9], [18, 17, 0]])
    np.testing.assert_array_equal(check(answers, asked, "exact"), [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(check(answers, asked, "near"), [[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(check(answers, asked, "parity"), [[1, 0, 1], [1, 0, 1]])
    with pytest.raises(ValueError, match="checked by"):
        check(answers, asked, "luck")
    with pytest.raises(ValueError, match="starts as"):
        taught("well")


def test_draws_follow_the_policy():
    start, asked = taught("half"), np.array([[2, 3]])
    groups = draw_groups(start, asked, 20_000, np.random.default_rng(0))
    shares = np.bincount(groups.answers[0], minlength=SUMS) / 20_000
    np.testing.assert_allclose(shares, softmax(answer_logits(start, asked))[0], atol=0.015)


def test_group_loss_against_central_differences():
    start, asked = taught("half"), questions()[0][:3]
    groups = draw_groups(start, asked, 4, np.random.default_rng(1))
    old = chosen(log_softmax(answer_logits(start, asked)), groups.answers)
    moved = {**start, "b2": start["b2"] + 0.05 * np.sin(np.arange(SUMS))}
    shift = gradient_check(lambda b2: group_loss({**moved, "b2": b2}, groups, old, old - 0.2, 0.2, 0.1), (moved["b2"],))
    assert shift.worst < 1e-6


def test_the_first_gradient_is_that_of_the_policy_gradient():
    """With new = old and β = 0, GRPO's gradient is −mean(A ∇ log π): the ratio's derivative at 1."""
    start, asked = taught("half"), questions()[0][:5]
    groups = draw_groups(start, asked, 8, np.random.default_rng(2))
    old = chosen(log_softmax(answer_logits(start, asked)), groups.answers)

    def plain(b2):
        log_p = chosen(log_softmax(answer_logits({**start, "b2": b2}, asked)), groups.answers)
        return 0.0 - np.mean(groups.advantages * log_p)

    _, one = value_and_grad(lambda b2: group_loss({**start, "b2": b2}, groups, old, old, 0.2, 0.0))(start["b2"])
    _, other = value_and_grad(plain)(start["b2"])
    np.testing.assert_allclose(one, other, atol=1e-14)


def test_accuracy_rises_for_real_and_a_run_repeats_itself():
    run = kept_run("half", "exact", 8, 0.04, 0)
    assert run[-1].accuracy > run[0].accuracy + 0.25
    again = list(reinforce("half", "exact", 8, 0.04, rounds=5, seed=0))
    assert [moment.accuracy for moment in again] == [moment.accuracy for moment in run[:6]]


def test_groups_that_all_fail_move_nothing_without_a_leash():
    first = list(reinforce("wrong", "exact", 2, beta=0.0, rounds=3, seed=0))
    assert all(moment.silent == 1 for moment in first)
    assert first[-1].accuracy == pytest.approx(first[0].accuracy, abs=1e-12)


def test_a_leash_shortens_the_way():
    free, held = (kept_run("half", "exact", 8, beta, 0)[-1] for beta in (0.0, 2.0))
    assert held.divergence < free.divergence


def test_starts_and_checks_have_names():
    assert set(STARTS) == {"half", "none", "wrong"}
    assert set(CHECKS) == {"exact", "near", "parity"}


def test_silence_against_drawn_groups():
    drawn = np.random.default_rng(0).random((40_000, 8)) < 0.3
    share = np.mean(np.all(drawn, axis=1) | ~np.any(drawn, axis=1))
    assert silence(0.3, 8) == pytest.approx(share, abs=0.005)


def test_kl_of_a_policy_from_itself_is_zero():
    assert kl_divergence(REFERENCE, REFERENCE) == 0
