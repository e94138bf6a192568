"""The small GPT: its sizes, its start, its loss, and the gradient of all of it."""

import math

import numpy as np
import pytest

from engine.backpropagation import gradient_check, value_and_grad
from engine.corpora import corpus
from engine.gpt import GPT, NOT_COUNTED, loss


def small(**changes):
    """A GPT, weights in float64 and a batch, small enough to check every entry."""
    gpt = GPT(
        **{"vocabulary": 7, "layers": 2, "width": 8, "heads": 2, "kv_heads": 1, "hidden": 10, "context": 6} | changes
    )
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 7, (3, 7))
    parameters = {name: p + 0.3 * rng.normal(size=p.shape) for name, p in gpt.start(1, np.float64).items()}
    return gpt, parameters, windows[:, :-1], windows[:, 1:]


def test_gradient_of_every_parameter_against_central_differences():
    gpt, parameters, inputs, targets = small()
    assert gradient_check(lambda p: loss(p, gpt, inputs, targets), (parameters,)).worst < 1e-6


def test_gradient_of_the_default_size_along_random_directions():
    c = corpus("grammar")
    gpt = GPT(len(c.vocabulary))
    parameters = gpt.start(0, np.float64)
    inputs, targets = c.windows([0], 4, 64)
    _, gradient = value_and_grad(loss)(parameters, gpt, inputs, targets)
    rng, eps = np.random.default_rng(0), 1e-6
    for _ in range(5):
        direction = {name: rng.normal(size=p.shape) for name, p in parameters.items()}
        up, down = (
            loss({name: p + step * direction[name] for name, p in parameters.items()}, gpt, inputs, targets)
            for step in (eps, -eps)
        )
        exact = sum(np.vdot(gradient[name], direction[name]) for name in parameters)
        assert (up - down) / (2 * eps) == pytest.approx(exact, rel=1e-6)


def test_a_target_that_is_not_counted_has_no_part_in_the_loss():
    gpt, parameters, inputs, targets = small()
    masked = np.where(np.arange(6) < 4, targets, NOT_COUNTED)
    whole = loss(parameters, gpt, inputs[:, :4], targets[:, :4])  # causal: later tokens change nothing before them
    assert loss(parameters, gpt, inputs, masked) == pytest.approx(whole, abs=1e-12)
    with pytest.raises(ValueError, match="at least one"):
        loss(parameters, gpt, inputs, np.full_like(targets, NOT_COUNTED))


@pytest.mark.parametrize("name", ["grammar", "names"])
def test_the_loss_starts_at_the_logarithm_of_the_vocabulary(name):
    c = corpus(name)
    gpt = GPT(len(c.vocabulary))
    start = loss(gpt.start(3), gpt, *c.windows([0], 16, 64))
    assert float(start) == pytest.approx(math.log(len(c.vocabulary)), rel=0.02)


def test_parameters_are_counted_as_the_ledger_does_and_stay_in_their_precision():
    gpt = GPT(34)
    assert gpt.parameter_count == sum(p.size for p in gpt.start().values()) == 102_848
    inputs = np.zeros((2, 8), int)
    value, gradient = value_and_grad(loss)(gpt.start(), gpt, inputs, inputs)
    assert {np.asarray(value).dtype, *(g.dtype for g in gradient.values())} == {np.dtype(np.float32)}


def test_generation_with_a_cache_reads_the_same_logits_as_the_whole_text():
    gpt = GPT(34)
    model = gpt.model(gpt.start(2))
    steps = list(model.generate([1, 2, 3], 5, stop=()))
    text = [1, 2, 3] + [step.id for step in steps]
    whole = model.forward(text)
    for i, step in enumerate(steps):
        np.testing.assert_allclose(step.logits, whole[2 + i], atol=1e-5)


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"heads": 8}, {"layers": 0}, {"heads": 4, "width": 64, "kv_heads": 3}])
def test_sizes_that_cannot_be_built_are_refused(wrong):
    with pytest.raises(ValueError, match=r"\.$"):
        GPT(**{"vocabulary": 5, "width": 8, "heads": 2} | wrong)
