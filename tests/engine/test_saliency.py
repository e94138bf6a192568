"""The gradient of the real model's loss with respect to its input vectors: two ways to one number, and the mask."""

import numpy as np
import pytest

from engine.embeddings import lookup
from engine.model import load
from engine.saliency import nudge, token_saliency
from engine.tokenization import encode

pytestmark = pytest.mark.model

IDS = encode("The capital of France is Paris.", "smollm2")


@pytest.fixture(scope="module")
def model():
    return load()


def test_the_mean_loss_has_the_mean_of_the_single_gradients(model):
    mean = token_saliency(model, IDS)
    single = [token_saliency(model, IDS, target) for target in range(1, len(IDS))]
    assert mean.loss == pytest.approx(np.mean([one.loss for one in single]), rel=1e-5)
    average = np.mean([one.gradient for one in single], axis=0)
    assert np.linalg.norm(average - mean.gradient) < 1e-5 * np.linalg.norm(mean.gradient)


def test_only_earlier_tokens_have_a_gradient(model):
    for target in range(1, len(IDS)):
        norms = token_saliency(model, IDS, target).norms
        assert np.all(norms[:target] > 0)
        np.testing.assert_array_equal(norms[target:], 0)


def test_what_comes_after_the_target_changes_nothing(model):
    """The same number from the text cut off after the target: the causal mask once more."""
    whole, cut = token_saliency(model, IDS, 3), token_saliency(model, IDS[:4], 3)
    assert whole.loss == pytest.approx(cut.loss, rel=1e-5)
    np.testing.assert_allclose(whole.gradient[:4], cut.gradient, atol=1e-4 * np.abs(cut.gradient).max())


def test_the_surprisal_of_one_token_against_differences(model):
    found, x = token_saliency(model, IDS, 5), lookup(model.weights.embedding, np.array(IDS))
    direction = found.gradient / np.linalg.norm(found.gradient)
    step = np.float32(0.01)
    up, down = (float(model.loss(IDS, {"embed": x + sign * step * direction}, 5)) for sign in (1, -1))
    assert (up - down) / (2 * float(step)) == pytest.approx(np.linalg.norm(found.gradient), rel=2e-2)
    assert found.loss == pytest.approx(model.surprisal(IDS)[4], rel=1e-5)


def test_measures(model):
    found, x = token_saliency(model, IDS), lookup(model.weights.embedding, np.array(IDS))
    assert found.gradient.dtype == np.float32
    np.testing.assert_allclose(found.norms, np.linalg.norm(found.gradient, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.times_input, np.einsum("td,td->t", found.gradient, x), atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        found.gradient[0, 0] = 0


def test_a_small_nudge_keeps_its_promise_and_a_large_one_does_not(model):
    small, large = nudge(model, IDS, 0.0003), nudge(model, IDS, 0.1)
    assert small.promised < 0
    assert small.computed == pytest.approx(small.promised, rel=0.05)
    assert large.computed > 0 > large.promised
    assert nudge(model, IDS, 0.0).computed == pytest.approx(0, abs=1e-5)


def test_refusals(model):
    for target in (0, -1, len(IDS)):
        with pytest.raises(ValueError, match="positions 1 to"):
            token_saliency(model, IDS, target)
    with pytest.raises(ValueError, match="at least two tokens"):
        token_saliency(model, IDS[:1])
    with pytest.raises(ValueError, match="0 or more"):
        nudge(model, IDS, -0.1)
