"""Gradients where a check entry by entry is not enough: at kinks and far out, of whole models, of the real one.

The gradient of every differentiable engine function against central differences is in engine/proof_gradients.py, which
test_proofs.py walks through.
"""

from functools import partial

import numpy as np
import pytest

from engine.activation import ACTIVATIONS, derivative
from engine.backpropagation import gradient_check, trace, value_and_grad
from engine.block import Block, rms_norm, run_block
from engine.embeddings import lookup
from engine.proofs import SLOPE
from engine.rope import rotate
from engine.sampling import cross_entropy, top_p


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activation_slopes_agree_with_backpropagation(name, dtype):
    """Two ways to one number; at 0 too, where a smooth function must not show a seam."""
    x = np.array([-1e4, -30, -3, -1, -0.4, -1e-3, 0, 1e-3, 0.4, 1, 3, 30, 1e4], dtype)
    gradient = value_and_grad(lambda x: np.sum(ACTIVATIONS[name](x)))(x)[1]
    np.testing.assert_allclose(gradient, derivative(name, x), rtol=2e-5 if dtype == np.float32 else 1e-9, atol=2e-6)


def test_gelu_tanh_form_far_out():
    x = np.array([-1e4, -12.0, 0, 12.0, 1e4], np.float32)
    gradient = value_and_grad(lambda x: np.sum(ACTIVATIONS["gelu"](x, approximate="tanh")))(x)[1]
    np.testing.assert_allclose(gradient, [0, 0, 0.5, 1, 1], atol=1e-6)


# Whole models --------------------------------------------------------------------------------------------------------


def parameters(vocabulary: int, width: int, heads: int, kv_heads: int, hidden: int, blocks: int, dtype: type) -> dict:
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * shape[0] ** -0.5).astype(dtype)

    head = width // heads

    def block() -> dict[str, np.ndarray]:
        return {
            "attn_norm": np.ones(width, dtype) + matrix(width), "w_q": matrix(width, width),
            "w_k": matrix(width, kv_heads * head), "w_v": matrix(width, kv_heads * head), "w_o": matrix(width, width),
            "ffn_norm": np.ones(width, dtype), "w_gate": matrix(width, hidden), "w_up": matrix(width, hidden),
            "w_down": matrix(hidden, width),
        }  # fmt: skip

    return {"embedding": matrix(vocabulary, width), "blocks": [block() for _ in range(blocks)],
            "norm": np.ones(width, dtype)}  # fmt: skip


def gpt_loss(p: dict, ids: np.ndarray, heads: int):
    """A Llama-style language model: every part of it an engine function."""
    x = lookup(p["embedding"], ids[..., :-1])
    turn = partial(rotate, positions=np.arange(ids.shape[-1] - 1))
    for block in p["blocks"]:
        x = run_block(x, Block(**block), heads, turn)
    return cross_entropy(rms_norm(x, p["norm"]) @ p["embedding"].T, ids[..., 1:])


def test_a_tiny_language_model():
    p = parameters(5, 4, 2, 1, 3, 2, np.float64)
    ids = np.array([[0, 4, 1, 1, 3], [2, 2, 0, 4, 1]])
    assert gradient_check(lambda p: gpt_loss(p, ids, 2), (p,)).worst < SLOPE


def test_a_larger_one_in_float32():
    """Too many parameters for one difference each: the slope along random directions, against float64."""
    ids = np.random.default_rng(1).integers(0, 65, (4, 33))
    single, double = (parameters(65, 64, 4, 2, 128, 2, dtype) for dtype in (np.float32, np.float64))
    double = value_like(single, double)
    loss32, grad32 = value_and_grad(gpt_loss)(single, ids, 4)
    loss64, grad64 = value_and_grad(gpt_loss)(double, ids, 4)
    assert loss32.dtype == np.float32
    assert loss32 == pytest.approx(loss64, rel=1e-6)
    for (name, ours), (_, exact) in zip(leaves(grad32), leaves(grad64), strict=True):
        assert ours.dtype == np.float32, name
        assert np.max(np.abs(ours - exact)) < 2e-5 * np.max(np.abs(exact)), name
    rng = np.random.default_rng(2)
    for _ in range(3):
        directions = [rng.normal(size=leaf.shape) for _, leaf in leaves(double)]
        up, down = (gpt_loss(moved(double, directions, step), ids, 4) for step in (1e-5, -1e-5))
        slope = sum(np.sum(g * d) for (_, g), d in zip(leaves(grad64), directions, strict=True))
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-6)


def leaves(tree) -> list[tuple[str, np.ndarray]]:
    found = []
    trace_like(tree, lambda path, leaf: found.append((path, leaf)) or leaf)
    return found


def trace_like(tree, function, path=""):
    if isinstance(tree, dict):
        return {key: trace_like(item, function, f"{path}.{key}") for key, item in tree.items()}
    if isinstance(tree, list):
        return [trace_like(item, function, f"{path}.{i}") for i, item in enumerate(tree)]
    return function(path, tree)


def value_like(single, double):
    """The float32 numbers themselves, in float64."""
    numbers = iter(leaves(single))
    return trace_like(double, lambda path, leaf: next(numbers)[1].astype(np.float64))


def moved(tree, directions, step):
    direction = iter(directions)
    return trace_like(tree, lambda path, leaf: leaf + step * next(direction))


def test_top_p_is_for_plain_arrays():
    """Top-p sums probabilities in float64, outside any gradient; asked for one, it says so instead of losing it."""
    with pytest.raises(TypeError, match="cannot become a plain one"):
        top_p(trace(np.ones((4, 6))), 0.9)


# The real model ------------------------------------------------------------------------------------------------------


@pytest.mark.model
def test_real_model_input_gradient():
    """Through all 30 blocks: float32 against float64, and float64 against central differences along directions."""
    from engine.model import available, load
    from engine.tokenization import encode

    if not available("smollm2"):
        pytest.skip("SmolLM2's file is not installed")
    model = load("smollm2")
    ids = encode("The capital of France is Paris.", "smollm2")
    loss, gradient = model.embedding_gradient(ids)
    assert gradient.dtype == np.float32
    assert gradient.shape == (len(ids), 576)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.any(gradient[:-1] != 0, axis=-1))
    np.testing.assert_array_equal(gradient[-1], 0)  # nothing is predicted from the last token
    assert loss == pytest.approx(float(model.loss(ids)), rel=1e-6)

    double = model.astype(np.float64)
    loss64, gradient64 = double.embedding_gradient(ids)
    assert loss == pytest.approx(loss64, rel=1e-3)
    assert np.linalg.norm(gradient - gradient64) < 1e-3 * np.linalg.norm(gradient64)
    x = lookup(double.weights.embedding, np.array(ids))
    for seed in range(2):
        direction = np.random.default_rng(seed).normal(size=x.shape)
        up, down = (float(double.loss(ids, edit={"embed": x + step * direction})) for step in (1e-6, -1e-6))
        assert np.sum(gradient64 * direction) == pytest.approx((up - down) / 2e-6, rel=1e-6)
