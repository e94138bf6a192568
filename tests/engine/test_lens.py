"""The logit lens ends where the model ends, and agrees with reading one block by hand."""

import numpy as np
import pytest

from engine.lens import logit_lens
from engine.model import load
from engine.sampling import softmax
from engine.tokenization import encode

pytestmark = pytest.mark.model


def test_last_row_is_the_model_itself() -> None:
    model = load()
    ids = encode("The capital of France is", "smollm2")
    lens = logit_lens(model, model.trace(ids))
    p = softmax(model.forward(ids))
    np.testing.assert_array_equal(lens.ids[-1], np.argmax(p, axis=-1))
    np.testing.assert_allclose(lens.probabilities[-1], np.max(p, axis=-1), rtol=1e-4)
    assert lens.ids.shape == (31, len(ids))


def test_a_middle_row_by_hand() -> None:
    model = load()
    ids = encode("The capital of France is", "smollm2")
    trace = model.trace(ids)
    lens = logit_lens(model, trace, slice(-1, None))
    x = np.asarray(trace["blk.19.resid"][-1], np.float64)
    normed = x / np.sqrt(np.mean(x * x) + model.config.eps) * np.asarray(model.weights.final_norm, np.float64)
    logits = np.asarray(model.weights.embedding, np.float64) @ normed
    assert lens.ids[20, 0] == int(np.argmax(logits))
    assert lens.norms[20, 0] == pytest.approx(float(np.sqrt(np.sum(x * x))), rel=1e-5)
