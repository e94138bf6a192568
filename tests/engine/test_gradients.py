"""The gradient of every differentiable engine function against central differences, in float64."""

from functools import partial

import numpy as np
import pytest

from engine.activation import ACTIVATIONS, derivative, erf
from engine.attention import attention
from engine.backpropagation import gradient_check, trace, value_and_grad
from engine.block import Block, layer_norm, rms_norm, run_block
from engine.embeddings import cosine_similarity, lookup
from engine.feed_forward import mixture_of_experts, mlp, swiglu
from engine.multi_head import grouped_query_attention, head_contributions, merge_heads, split_heads
from engine.rope import alibi_bias, rotate, sinusoids
from engine.sampling import (
    cross_entropy,
    entropy,
    log_softmax,
    min_p,
    repetition_penalty,
    softmax,
    surprisal,
    top_k,
    top_p,
)

LIMIT = 1e-6


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def one_number(result):
    """Every entry counts, with a weight of its own."""
    return np.sum(result * np.cos(np.arange(result.size)).reshape(result.shape))


X = normal(4, 6)
IDS = np.array([[1, 4, 0], [2, 2, 3]])
Q, K, V = normal(3, 4), normal(5, 4, seed=1), normal(5, 2, seed=2)  # three new queries, five keys
HEADS = normal(4, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 3, seed=2)  # four query heads share two key/value heads
EXPERTS = [[normal(6, 5, seed=s), normal(6, 5, seed=s + 1), normal(5, 6, seed=s + 2)] for s in (0, 3, 6)]
MIXTURE = (normal(2, 3, 6), normal(6, 3, seed=5))
POSITIONS = np.array([7, 8, 11, 30])

CASES = {
    **{name: (function, X) for name, function in ACTIVATIONS.items()},
    "gelu, tanh form": (partial(ACTIVATIONS["gelu"], approximate="tanh"), X),
    "leaky_relu, other slope": (partial(ACTIVATIONS["leaky_relu"], slope=0.3), X),
    "erf": (erf, np.linspace(-5, 5, 24)),
    "mlp": (mlp, X, normal(6, 8), normal(8), normal(8, 5), normal(5)),
    "mlp, gelu, batch": (
        partial(mlp, activation="gelu"),
        normal(2, 3, 4),
        normal(4, 5),
        normal(5),
        normal(5, 4),
        X[0, :4],
    ),
    "swiglu": (swiglu, X, normal(6, 8), normal(6, 8, seed=1), normal(8, 5)),
    "mixture_of_experts, 2 of 3": (partial(mixture_of_experts, top_k=2), *MIXTURE, EXPERTS),
    "mixture_of_experts, 1 of 3": (partial(mixture_of_experts, top_k=1), MIXTURE[0], MIXTURE[1], EXPERTS),
    "mixture_of_experts, all": (partial(mixture_of_experts, top_k=3), X, MIXTURE[1], EXPERTS),
    "softmax": (softmax, X),
    "softmax, temperature, axis": (partial(softmax, temperature=0.7, axis=0), X),
    "softmax, maximum left in": (partial(softmax, subtract_max=False), X),
    "log_softmax": (log_softmax, X),
    "cross_entropy": (lambda logits: cross_entropy(logits, IDS), normal(2, 3, 5)),
    "surprisal": (lambda logits: surprisal(logits, IDS), normal(2, 3, 5)),
    "entropy": (lambda logits: entropy(softmax(logits)), X),
    "top_k": (lambda logits: softmax(top_k(logits, 3)), X),
    "min_p": (lambda logits: softmax(min_p(logits, 0.3)), X),
    "repetition_penalty": (partial(repetition_penalty, ids=[1, 3], penalty=1.3), X),
    "attention, causal": (lambda q, k, v: attention(q, k, v).output, normal(5, 4, seed=7), K, V),
    "attention, offset": (lambda q, k, v: attention(q, k, v).output, Q, K, V),
    "attention, unmasked": (lambda q, k, v: attention(q, k, v, causal=False, scale=0.8).output, Q, K, V),
    "attention, biased": (lambda q, k, v, b: attention(q, k, v, bias=b).output, Q, K, V, normal(3, 5)),
    "attention, batch": (lambda q, k, v: attention(q, k, v).output, normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2)),
    "attention weights": (lambda q, k: attention(q, k, V).weights, Q, K),
    "attention, alibi": (lambda q, k, v: attention(q, k, v, bias=alibi_bias(2, 3, 5)).output, Q, K, V),
    "grouped-query attention": (lambda q, k, v: grouped_query_attention(q, k, v).output, *HEADS),
    "multi-query attention": (lambda q, k, v: grouped_query_attention(q, k[:1], v[:1]).output, *HEADS),
    "grouped-query, unmasked": (lambda q, k, v: grouped_query_attention(q, k, v, causal=False).weights, *HEADS),
    "split_heads": (partial(split_heads, heads=3), normal(2, 4, 6)),
    "merge_heads": (merge_heads, normal(2, 3, 4, 2)),
    "head_contributions": (head_contributions, normal(2, 3, 4, 2), normal(6, 5)),
    "rope, interleaved": (partial(rotate, positions=POSITIONS, layout="interleaved"), normal(2, 4, 6)),
    "rope, half": (partial(rotate, positions=POSITIONS, layout="half", base=100.0), normal(2, 4, 6)),
    "rope, linear": (partial(rotate, positions=POSITIONS, scaling=("linear", 4.0)), X),
    "rope, yarn": (partial(rotate, positions=POSITIONS, scaling=("yarn", 4.0, 64)), X),
    "sinusoids added": (lambda x: softmax(x + sinusoids(np.arange(4), 6)), X),
    "rms_norm": (rms_norm, X, normal(6, seed=1)),
    "layer_norm": (layer_norm, X, normal(6, seed=1), normal(6, seed=2)),
    "lookup": (lambda table: lookup(table, IDS), normal(5, 3)),
    "cosine_similarity": (cosine_similarity, normal(3, 4), normal(3, 4, seed=1)),
    "cosine_similarity, one against many": (cosine_similarity, normal(4), normal(3, 4, seed=1)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_central_difference(name):
    function, *args = CASES[name]
    check = gradient_check(lambda *values: one_number(function(*values)), args)
    assert max(abs(row.analytic) for row in check.rows) > 1e-3  # the check has something to compare
    assert check.worst < LIMIT, max(check.rows, key=lambda row: row.relative_error)


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


def test_one_block():
    block = parameters(5, 8, 4, 2, 3, 1, np.float64)["blocks"][0]

    def f(x, weights):
        turn = partial(rotate, positions=np.arange(3))
        return one_number(run_block(x, Block(**weights), 4, turn))

    assert gradient_check(f, (normal(3, 8), block)).worst < LIMIT


def test_a_tiny_language_model():
    p = parameters(5, 4, 2, 1, 3, 2, np.float64)
    ids = np.array([[0, 4, 1, 1, 3], [2, 2, 0, 4, 1]])
    assert gradient_check(lambda p: gpt_loss(p, ids, 2), (p,)).worst < LIMIT


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
        top_p(trace(X), 0.9)


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
