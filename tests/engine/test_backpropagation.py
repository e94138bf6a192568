"""Every derivative rule against central differences, the graph against hand calculation, and what must not happen."""

import gc
import itertools
import operator
import time
import weakref
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.activation import relu, sigmoid
from engine.backpropagation import Graph, Traced, gradient_check, history, trace, value_and_grad
from engine.derivatives import CONSTANT, RULES, RULES_FOR_MANY, WRITTEN_OUT
from engine.expression import MAX_CHARACTERS, expression_graph, parse
from engine.tiny_network import VOCABULARY, forward, loss_of, tiny_network, training_step, trajectory


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, shape)


def weighted(result):
    """One number from any result, with a different weight on every entry."""
    return np.sum(result * np.cos(np.arange(result.size)).reshape(result.shape).astype(result.dtype))


A, B, ROW, CUBE = normal(3, 4), normal(3, 4, seed=1), normal(4, seed=2), normal(2, 3, 4, seed=3)
P = positive(3, 4)
IDS = np.array([[2, 0, 2], [1, 2, -1]])

# function: calls that between them use each argument and option.
CALLS = {
    np.add: [(np.add, A, ROW), (np.add, ROW, A), (np.add, A, normal(3, 1))],
    np.subtract: [(np.subtract, A, ROW), (np.subtract, normal(1, 4), A)],
    np.multiply: [(np.multiply, A, ROW), (np.multiply, normal(), A), (lambda x: 3 * x, A)],
    np.divide: [(np.divide, A, P), (lambda x: 1 / x, P)],
    np.power: [
        (np.power, P, B),
        (lambda x: x**3, A),
        (lambda x: x**0.5, P),
        (lambda x: x**-2.0, P),
        (lambda x: x**0, A),
        (lambda x: 2.0**x, A),
    ],
    np.matmul: [
        (np.matmul, A, B.T),
        (np.matmul, CUBE, normal(4, 5)),
        (np.matmul, CUBE, normal(2, 4, 5)),
        (np.matmul, normal(5, 3), CUBE),
        (np.matmul, normal(2, 1, 5, 3), normal(4, 3, 2)),
        (np.matmul, A, ROW),
        (np.matmul, ROW, B.T),
        (np.matmul, ROW, normal(4, seed=9)),
        (np.matmul, CUBE, ROW),
        (np.matmul, normal(3), CUBE),
    ],
    np.maximum: [(np.maximum, A, B), (np.maximum, A, 0.1), (np.maximum, ROW, A)],
    np.minimum: [(np.minimum, A, B), (np.minimum, 0.1, A)],
    np.logaddexp: [(np.logaddexp, A, B), (np.logaddexp, A, 0.0)],
    np.negative: [(np.negative, A)],
    np.positive: [(np.positive, A)],
    np.absolute: [(np.absolute, A)],
    np.square: [(np.square, A)],
    np.sqrt: [(np.sqrt, P)],
    np.reciprocal: [(np.reciprocal, P)],
    np.exp: [(np.exp, A)],
    np.expm1: [(np.expm1, A)],
    np.log: [(np.log, P)],
    np.log2: [(np.log2, P)],
    np.log1p: [(np.log1p, P)],
    np.sin: [(np.sin, A)],
    np.cos: [(np.cos, A)],
    np.tanh: [(np.tanh, A)],
    np.where: [(lambda a, b: np.where(B > 0, a, b), A, ROW), (lambda a: np.where(a > 0, a, 0.0), A)],
    np.sum: [
        (np.sum, A),
        (lambda x: np.sum(x, axis=1), CUBE),
        (lambda x: np.sum(x, (0, -1)), CUBE),
        (lambda x: x.sum(axis=-1, keepdims=True), CUBE),
        (lambda x: np.sum(x, axis=None, keepdims=True), CUBE),
    ],
    np.mean: [(np.mean, A), (lambda x: np.mean(x, axis=(0, 2)), CUBE), (lambda x: x.mean(-1, keepdims=True), CUBE)],
    np.max: [(np.max, A), (lambda x: np.max(x, axis=-1), CUBE), (lambda x: x.max(axis=0, keepdims=True), CUBE)],
    np.min: [(np.min, A), (lambda x: np.min(x, axis=(0, 1)), CUBE)],
    np.cumsum: [(lambda x: np.cumsum(x, axis=1), CUBE), (lambda x: np.cumsum(x, -1), CUBE)],
    np.reshape: [
        (lambda x: np.reshape(x, (4, 6)), CUBE),
        (lambda x: x.reshape(4, -1), CUBE),
        (lambda x: x.reshape((6, 4)), CUBE),
    ],
    np.ravel: [(np.ravel, CUBE)],
    np.squeeze: [(np.squeeze, normal(1, 3, 1)), (lambda x: np.squeeze(x, axis=2), normal(1, 3, 1))],
    np.expand_dims: [(lambda x: np.expand_dims(x, (0, -2)), A)],
    np.swapaxes: [(lambda x: np.swapaxes(x, 0, -1), CUBE), (lambda x: x.mT, CUBE)],
    np.moveaxis: [(lambda x: np.moveaxis(x, 0, -1), CUBE)],
    np.transpose: [(np.transpose, CUBE), (lambda x: x.transpose(2, 0, 1), CUBE), (lambda x: x.T, A)],
    np.broadcast_to: [(lambda x: np.broadcast_to(x, (2, 3, 4)), normal(3, 1))],
    np.astype: [(lambda x: x.astype(np.float64), A)],
    np.copy: [(np.copy, A)],
    operator.getitem: [
        (lambda x: x[1], A),
        (lambda x: x[..., ::2], CUBE),
        (lambda x: x[:, None, -1:], A),
        (lambda x: x[IDS], A),
        (lambda x: x[IDS[0], [0, 0, 3]], A),
        (lambda x: x[np.arange(2)[:, None], IDS], CUBE),
        (lambda x: x[B > 0], A),
        (lambda x: x[:, [1, 1, 0]], A),
        (lambda x: x[np.array([], int)], A),
        (lambda x: np.stack([row * i for i, row in enumerate(x)]), A),
    ],
    np.take: [(lambda x: np.take(x, IDS, axis=0), A), (lambda x: np.take(x, [3, 3], -1), A), (lambda x: x.take(5), A)],
    np.take_along_axis: [(lambda x: np.take_along_axis(x, np.array([[1], [1], [3]]), axis=1), A)],
    np.repeat: [(lambda x: np.repeat(x, 3, axis=-2), CUBE), (lambda x: np.repeat(x, [0, 1, 2], axis=0), A)],
    np.tile: [(lambda x: np.tile(x, (2, 2)), A)],
    np.flip: [(lambda x: np.flip(x, -1), A)],
    np.roll: [(lambda x: np.roll(x, 2, axis=1), A)],
    np.concatenate: [
        (lambda a, b: np.concatenate([a, b], axis=-1), A, B),
        (lambda a: np.concatenate((a, np.ones((2, 4), a.dtype), a)), A),
    ],
    np.stack: [(lambda a, b: np.stack([a, b, a], axis=-1), A, B), (lambda a, b: np.stack((a, b)), A, B)],
    np.einsum: [
        (lambda a, b: np.einsum("bij,jk->bik", a, b), CUBE, normal(4, 2)),
        (lambda a, b, c: np.einsum("i,ij,j->", a, b, c), normal(3), A, ROW),
    ],
    np.clip: [(lambda x: np.clip(x, -0.5, 0.5), A), (lambda x: x.clip(-0.5, 0.5), A)],
    np.linalg.norm: [(np.linalg.norm, A), (lambda x: np.linalg.norm(x, axis=-1, keepdims=True), A)],
    np.var: [(np.var, A), (lambda x: x.var(axis=-1, keepdims=True), A)],
    np.std: [(lambda x: np.std(x, axis=0), A)],
    np.dot: [(np.dot, A, ROW), (np.dot, A, B.T), (lambda x: x.dot(2.0), A)],
    np.outer: [(np.outer, ROW, normal(3))],
    np.vecdot: [(np.vecdot, A, ROW), (np.vecdot, A, normal(5, 1, A.shape[1])), (np.vecdot, CUBE, CUBE)],
    np.sort: [(np.sort, A), (lambda x: np.sort(x, axis=0), A)],
    np.split: [
        (lambda x: np.concatenate(np.split(x, 2, axis=1)[::-1]), A),
        (lambda x: np.split(x, [1, 3], axis=-1)[1], A),
    ],
    relu: [(relu, A)],
    sigmoid: [(sigmoid, A)],
}
CASES = [
    (getattr(name, "__name__", str(name)), i, *call) for name, calls in CALLS.items() for i, call in enumerate(calls)
]


def test_every_rule_is_tried():
    assert set(CALLS) == {*RULES, *RULES_FOR_MANY, *WRITTEN_OUT}


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_rule_against_central_difference(case):
    _, _, function, *args = case
    plain = function(*args)
    traced = function(*trace(args))
    np.testing.assert_allclose(traced.value, plain, rtol=1e-15)  # tracing changes no result
    check = gradient_check(lambda *values: weighted(function(*values)), args)
    assert len(check.rows) == sum(np.size(arg) for arg in args)
    assert check.worst < 1e-6


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_float32_stays_float32(case):
    name, _, function, *args = case
    if name == "astype":
        return
    single = [np.asarray(arg, np.float32) for arg in args]
    value, gradients = value_and_grad(lambda *xs: weighted(function(*xs)), tuple(range(len(args))))(*single)
    assert value.dtype == np.float32
    assert all(gradient.dtype == np.float32 for gradient in gradients)
    for step in history(weighted(function(*trace(single)))):
        for _, _, rule in step.sources:  # within the rules too, where a slip would only cost time
            assert rule(np.ones_like(step.value), step.value, *step.args, **step.kwargs).dtype == np.float32
    exact = value_and_grad(lambda *xs: weighted(function(*xs)), tuple(range(len(args))))(*map(np.asarray, args))[1]
    for ours, other in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(ours, other, rtol=2e-5, atol=1e-5)


def gradient_of(f, *args):
    return value_and_grad(f)(*args)[1]


def test_the_stated_choices_at_kinks():
    x = np.array([-1.0, 0.0, 2.0])
    assert gradient_of(lambda x: np.sum(np.maximum(x, 0)), x).tolist() == [0, 0, 1]  # a tie counts as the second
    assert gradient_of(lambda x: np.sum(np.maximum(0, x)), x).tolist() == [0, 1, 1]
    assert gradient_of(lambda x: np.sum(np.abs(x)), x).tolist() == [-1, 0, 1]
    assert gradient_of(lambda x: np.max(x), np.array([3.0, 1.0, 3.0])).tolist() == [0.5, 0, 0.5]  # winners share
    assert gradient_of(lambda x: x**2, np.float64(0)) == 0
    assert gradient_of(lambda x: x**0, np.float64(0)) == 0
    assert gradient_of(lambda b: 0.0**b, np.float64(2)) == 0


def test_all_uses_add_up():
    assert gradient_of(lambda x: x * x * x, np.float64(2)) == 12
    assert gradient_of(lambda x: x - x, np.float64(2)) == 0
    table = np.arange(6.0).reshape(3, 2)
    ids = np.array([0, 2, 0, 0])
    expected = np.zeros_like(table)
    np.add.at(expected, ids, np.ones((4, 2)))
    np.testing.assert_array_equal(gradient_of(lambda t: np.sum(t[ids]), table), expected)


def test_parameters_in_nested_containers():
    params = {"layers": [{"w": A, "b": ROW}, {"w": B, "b": ROW}], "scale": (np.float64(2.0), None)}

    def f(p, x):
        for layer in p["layers"]:
            x = x * layer["w"] + layer["b"]
        return np.sum(x) * p["scale"][0]

    value, gradient = value_and_grad(f)(params, CUBE)
    assert gradient.keys() == params.keys()
    assert gradient["scale"][1] is None
    np.testing.assert_allclose(gradient["layers"][1]["b"], 2.0 * 2 * 3 * np.ones(4))
    assert gradient["scale"][0] == pytest.approx(value / 2)
    names = {row.name for row in gradient_check(lambda p: f(p, CUBE), (params,)).rows}
    assert names == {"0.layers.0.w", "0.layers.0.b", "0.layers.1.w", "0.layers.1.b", "0.scale.0"}


def test_argnums():
    f = lambda a, b, c=1.0: np.sum(a * b) * c  # noqa: E731
    assert value_and_grad(f, 1)(A, B)[1] is not None
    np.testing.assert_array_equal(value_and_grad(f, 1)(A, B)[1], A)
    by_a, by_b = value_and_grad(f, (0, 1))(A, B, c=3.0)[1]
    np.testing.assert_array_equal(by_a, 3 * B)
    np.testing.assert_array_equal(by_b, 3 * A)


def test_an_unused_argument_has_gradient_zero():
    value, (_by_a, by_b) = value_and_grad(lambda a, b: np.sum(a), (0, 1))(A, B)
    np.testing.assert_array_equal(by_b, np.zeros_like(B))
    assert value == pytest.approx(np.sum(A))
    assert value_and_grad(lambda a: np.float64(3))(A)[1].tolist() == np.zeros_like(A).tolist()


def test_gradients_are_the_callers_own():
    by_a, by_b = value_and_grad(lambda a, b: np.sum(a + b), (0, 1))(A, B)[1]
    by_a[0, 0] = 7  # writable, and no view of the other
    assert by_b[0, 0] == 1


def test_constants_are_not_recorded():
    weights = normal(4, 4)
    graph = Graph(np.sum(trace(A, "x") @ (weights * 2 + 1)))
    assert [node.operation for node in graph.nodes] == ["", "x @ 4 × 4 array", "sum of v1"]
    assert all(isinstance(x, np.ndarray) for x in (trace(A) > 0, np.sign(trace(A)), np.argsort(trace(A))))
    assert isinstance(trace(A).astype(int), np.ndarray)
    for function in CONSTANT & {np.isfinite, np.argmax, np.any, np.shape, np.ndim, np.size, np.zeros_like, np.floor}:
        assert not isinstance(function(trace(A)), Traced)


def test_memory_is_released():
    kept = []

    def f(x):
        for _ in range(50):
            x = np.tanh(x) * 2.0
            kept.append(weakref.ref(x))
        return np.sum(x)

    gc.disable()  # nothing may wait for the cycle collector
    try:
        value_and_grad(f)(A)
        assert all(reference() is None for reference in kept)
    finally:
        gc.enable()


def test_long_chains():
    def f(x):
        for _ in range(20_000):
            x = x + 1.0
        return x

    assert value_and_grad(f)(np.float64(0)) == (20_000, 1)


def test_what_cannot_be_traced_is_named():
    x = trace(A)
    with pytest.raises(TypeError, match=r"fft has no derivative rule"):
        np.fft.fft(x)
    with pytest.raises(TypeError, match=r"svd has no derivative rule"):
        np.linalg.svd(x)
    with pytest.raises(TypeError, match=r"arctanh has no derivative rule"):
        np.arctanh(x)
    with pytest.raises(TypeError, match=r"np\.add\.reduce cannot be traced"):
        np.add.reduce(x)
    with pytest.raises(TypeError, match=r"np\.add into an existing array"):
        x += 1
    with pytest.raises(TypeError, match="cannot be written into"):
        x[0] = 1
    with pytest.raises(TypeError, match="cannot become a plain one"):
        np.asarray(x)
    with pytest.raises(TypeError, match="with the option dtype"):
        np.sum(x, dtype=np.float64)
    with pytest.raises(TypeError, match="by position"):
        np.sum(a=x)
    with pytest.raises(TypeError):
        float(x[0, 0])
    with pytest.raises(TypeError, match="not int64"):
        value_and_grad(lambda i: i)(np.arange(3))
    with pytest.raises(ValueError, match=r"not an array of shape \(3, 4\)"):
        value_and_grad(lambda a: a)(A)
    with pytest.raises(ValueError, match="eps must be above 0"):
        gradient_check(np.sum, (A,), 0.0)


def test_a_wrong_gradient_is_found(monkeypatch):
    assert gradient_check(lambda x: np.sum(np.tanh(x)), (A,)).worst < 1e-6
    monkeypatch.setitem(RULES, np.tanh, (lambda g, y, x: g * (1 - y),))
    assert gradient_check(lambda x: np.sum(np.tanh(x)), (A,)).worst > 0.01


# The graph -----------------------------------------------------------------------------------------------------------


def test_graph_by_hand():
    """y = (a b + c)², a = 2, b = −3, c = 10: y = 16, dy/du = 2 u = 8, dy/da = 8 b, dy/db = 8 a, dy/dc = 8."""
    a, b, c = (trace(np.float64(value), name) for name, value in (("a", 2), ("b", -3), ("c", 10)))
    u = a * b + c
    graph = Graph(u**2, {"u": u})
    assert graph.value == 16
    assert [node.name for node in graph.nodes] == ["a", "b", "c", "v1", "u", "v2"]
    assert [float(graph.gradient(name)) for name in ("a", "b", "c", "v1", "u", "v2")] == [-24, 16, 8, 8, 8, 1]
    assert [node.operation for node in graph.nodes[3:]] == ["a · b", "v1 + c", "u ^ 2"]
    assert [node.numbers for node in graph.nodes[3:]] == ["2 · (−3)", "(−6) + 10", "4 ^ 2"]
    assert [(e.source, e.target, e.formula, float(e.local)) for e in graph.edges] == [
        (0, 3, "b", -3), (1, 3, "a", 2), (3, 4, "1", 1), (2, 4, "1", 1), (4, 5, "2 · u", 8),
    ]  # fmt: skip
    assert graph.node(u).name == "u"
    assert graph.gradient(trace(A)).tolist() == np.zeros_like(A).tolist()  # no part of this graph
    with pytest.raises(KeyError):
        graph.node("z")
    with pytest.raises(ValueError, match="one number"):
        Graph(trace(A))


def test_the_gradient_of_a_node_is_the_sum_over_its_outgoing_edges():
    graph = expression_graph("a*b + tanh(a)*a - exp(b/a)", {"a": 0.7, "b": -1.2})
    for node in graph.nodes[:-1]:
        outgoing = [edge for edge in graph.edges if edge.source == node.index]
        assert float(node.gradient) == pytest.approx(sum(float(edge.passed) for edge in outgoing))
        for edge in outgoing:
            assert float(edge.passed) == pytest.approx(float(edge.local) * float(graph.nodes[edge.target].gradient))


# A reader's expression -----------------------------------------------------------------------------------------------

VALUES = {name: 0.3 + 0.1 * i for i, name in enumerate("abcdefghijklmnopqrstuvwxyz")}


@pytest.mark.parametrize(
    "text",
    [
        "(a*b + c)**2 / tanh(a)",
        "-a**2 + +b",
        "exp(-a) * log(b) - sin(c)/cos(d) + sqrt(e)",
        "relu(a - b) + relu(b - a) + sigmoid(3*c - 2)",
        "a**b**c",
        "2**x",
        "a ^ 2 − b × c ÷ d · e",
        "a/3 + 1.5e-3*b + .5 + 2.",
        "x",
    ],
)
def test_expressions_against_central_difference(text):
    graph = expression_graph(text, VALUES)
    for name in parse(text).names:
        up, down = (expression_graph(text, VALUES | {name: VALUES[name] + e}).value for e in (1e-5, -1e-5))
        assert float(graph.gradient(name)) == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("3 + 4", "at least one name"),
        ("9**9**9**9", "at least one name"),
        ("a + 9**9**9**9", "at most 100"),
        ("a**9**9**9**9", "at most 100"),
        ("a**1e300", "at most 100"),
        ("a" * (MAX_CHARACTERS + 1), "at most 200"),
        ("(" * 99 + "a" + ")" * 99, ""),
        ("-" * 199 + "a", "parts"),
        ("+".join("a" * 40), "parts"),
        ("((a)", "not complete"),
        ("a b", "not complete"),
        ("2a", "not complete"),
        ("a +", "not complete"),
        ("a // b", "not complete"),
        ("1j*a", "not complete"),
        ("__import__('os').system('x')", "character _ is not"),
        ("a.real", r"character \. is not"),
        ("[a]", "not part of"),
        ("a\x00", r"U\+0000 is not"),
        ("a;b", "not part of"),
        ("a=1", "not part of"),
        ("'a'", "not part of"),
        ("a if b else c", "if is not known"),
        ("lambda: a", "lambda is not known"),
        ("a and b", "and is not known"),
        ("eval(a)", "eval is not known"),
        ("A + b", "write a instead of A"),
        ("exp", "exp needs its argument"),
        ("exp + a", "exp needs its argument"),
        ("exp()+a", "Only names"),
        ("a(b)", "Only names"),
        ("exp(exp)(a)", "Only names"),
        ("log(a - a)", "infinite or undefined"),
        ("sqrt(-a)", "infinite or undefined"),
        ("1/(a - a)", "infinite or undefined"),
        ("exp(exp(exp(9*z)))", "infinite or undefined"),
        ("a + 1/0", "numbers alone"),
        ("1e999*a", "numbers alone|infinite"),
        ("sqrt(a - a)", "its gradient is infinite"),
        ("ä + 1", "not part of"),
        ("a\ud800", "not part of"),
    ],
)
def test_expressions_outside_the_grammar_are_answered_in_words(text, sentence):
    start = time.perf_counter()
    if sentence:
        with pytest.raises(ValueError, match=sentence):
            expression_graph(text, VALUES)
    else:
        expression_graph(text, VALUES)
    assert time.perf_counter() - start < 1


@settings(max_examples=400, deadline=2000)
@given(st.text(max_size=60) | st.text("abx019.+-*/() explogtanh^", max_size=60))
def test_no_text_breaks_the_expression_lab(text):
    try:
        graph = expression_graph(text, VALUES)
    except ValueError as error:
        sentence = str(error)
        assert sentence.endswith(".")
    else:
        assert np.isfinite(graph.value)
        assert len(graph.nodes) <= 60


def test_values_are_checked():
    with pytest.raises(ValueError, match="value of b is missing"):
        expression_graph("a*b", {"a": 1})
    with pytest.raises(ValueError, match="must be a finite number"):
        expression_graph("a", {"a": float("nan")})


# The tiny network ----------------------------------------------------------------------------------------------------


def test_tiny_network_against_central_difference():
    for seed in range(3):
        check = gradient_check(loss_of, (tiny_network(seed),))
        assert len(check.rows) == 45
        assert check.worst < 1e-6


def test_tiny_network_gradients_by_the_chain_rule_written_out():
    step = training_step(tiny_network(0))
    v, g, p = step.values, step.gradients, step.parameters
    wanted = np.eye(4)[VOCABULARY.index("liftoff")]
    np.testing.assert_allclose(g["logits"], v.probabilities - wanted, atol=1e-12)
    np.testing.assert_allclose(g["w2"], np.outer(v.hidden, g["logits"]), atol=1e-12)
    np.testing.assert_allclose(g["hidden"], p["w2"] @ g["logits"], atol=1e-12)
    np.testing.assert_allclose(g["sums"], g["hidden"] * (1 - v.hidden**2), atol=1e-12)
    np.testing.assert_allclose(g["w1"], np.outer(v.inputs, g["sums"]), atol=1e-12)
    np.testing.assert_allclose(g["embedding"][3], 0)  # "liftoff" is not in the prompt
    np.testing.assert_allclose(g["embedding"][:3].reshape(-1), g["inputs"])


def test_tiny_network_learns():
    steps = trajectory(tiny_network(0), 20, target="liftoff", learning_rate=0.5)
    losses = [step.loss_before for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.05
    for before, after in itertools.pairwise(steps):
        assert after.loss_before == before.loss_after
        for name, array in before.parameters.items():
            np.testing.assert_array_equal(after.parameters[name], array - 0.5 * before.gradients[name])


def test_what_is_drawn_of_the_tiny_network():
    step = training_step(tiny_network(1), target="two")
    assert [unit.name for unit in step.units] == [
        *(f"x{i}" for i in range(6)),
        "h0",
        "h1",
        "h2",
        "z0",
        "z1",
        "z2",
        "z3",
    ]
    assert len(step.links) == 18 + 12
    link = next(link for link in step.links if link.name == "w2[1,3]")
    assert (link.source, link.target) == ("h1", "z3")
    assert link.weight == step.parameters["w2"][1, 3]
    assert link.gradient == pytest.approx(step.values.hidden[1] * step.gradients["logits"][3])
    assert step.units[-3].formula.endswith("− 1")  # the logit of "two"
    plain = forward(step.parameters, step.prompt, "two")
    for field in fields(plain):
        np.testing.assert_array_equal(getattr(plain, field.name), getattr(step.values, field.name))
    assert not isinstance(step.values.hidden, Traced)


def test_tiny_network_refuses_other_words():
    with pytest.raises(ValueError, match="“four” is not in"):
        training_step(tiny_network(0), ("four", "two", "one"))
    with pytest.raises(ValueError, match="“” is not in"):
        training_step(tiny_network(0), target="")
    with pytest.raises(ValueError, match="reads 3 tokens"):
        training_step(tiny_network(0), ("two", "one"))
