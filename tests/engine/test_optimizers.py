"""The optimizers against torch.optim over 50 steps, and what their definitions promise."""

from pathlib import Path

import numpy as np
import pytest

from engine.optimizers import (
    NEWTON_SCHULZ,
    SCHEDULES,
    SGD,
    Adam,
    AdamW,
    Lion,
    Muon,
    RMSProp,
    orthogonalise,
    schedule,
    singular_values,
)

GOLDENS = dict(np.load(Path(__file__).parents[1] / "goldens" / "optimizers.npz"))
KEPT = (1, 2, 10, 50)
CASES = {
    "sgd": lambda: SGD(0.05),
    "sgd_decay": lambda: SGD(0.05, weight_decay=0.2),
    "momentum": lambda: SGD(0.02, momentum=0.9),
    "nesterov": lambda: SGD(0.02, momentum=0.8, nesterov=True, weight_decay=0.1),
    "rmsprop": RMSProp,
    "rmsprop_momentum": lambda: RMSProp(0.02, alpha=0.9, eps=1e-6, weight_decay=0.1, momentum=0.7),
    "adam": Adam,
    "adam_decay": lambda: Adam(0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    "adamw": AdamW,
    "adamw_decay": lambda: AdamW(0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    "lion": Lion,
    "lion_decay": lambda: Lion(0.01, betas=(0.8, 0.95), weight_decay=0.3),
    "muon": Muon,
    "muon_plain": lambda: Muon(0.05, weight_decay=0.3, momentum=0.8, nesterov=False, ns_steps=3),
}
ALL = (SGD, lambda: SGD(0.1, momentum=0.9), lambda: SGD(0.1, momentum=0.9, nesterov=True), RMSProp, Adam, AdamW, Lion)


def slopes(params, step):
    """The gradient that the script used."""
    return {name: np.sin(3 * p + step) for name, p in params.items()}


def worst_difference(case, make, shapes, dtype):
    """Over the kept steps, the largest difference to PyTorch relative to its largest entry."""
    params = {shape: GOLDENS[f"start_{shape}"].astype(dtype) for shape in shapes}
    optimizer, worst = make(), 0.0
    for step in range(1, 51):
        params = optimizer.step(params, slopes(params, step))
        for shape in shapes if step in KEPT else ():
            theirs = GOLDENS[f"{case}_{shape}"][KEPT.index(step)]
            assert params[shape].dtype == theirs.dtype == dtype
            worst = max(worst, np.max(np.abs(params[shape] - theirs)) / np.max(np.abs(theirs)))
    return worst


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_pytorch(case):
    shapes = ("wide", "tall", "row") if "muon" in case else ("wide", "vector")
    assert worst_difference(case, CASES[case], shapes, np.float64) < 1e-10


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_in_float32(case):
    shapes = ("wide", "tall", "row") if "muon" in case else ("wide", "vector")
    assert worst_difference(f"{case}_f32", CASES[case], shapes, np.float32) < 1e-4


def test_muon_stays_near_pytorch_in_bfloat16():
    assert worst_difference("muon_bfloat16", Muon, ("wide", "tall", "row"), np.float64) < 2e-3


@pytest.mark.parametrize("make", ALL)
def test_numbers_arrays_and_trees_move_alike(make):
    """A pair of Python numbers, an array of two, and the same within dicts and lists."""
    pair, array, tree = make(), make(), make()
    now, row, nested = (1.0, -2.0), np.array([1.0, -2.0]), {"a": [np.array([1.0]), (np.array([-2.0]),)]}
    for _ in range(5):
        now = pair.step(now, (now[0] ** 2, 3 * now[1]))
        row = array.step(row, np.array([row[0] ** 2, 3 * row[1]]))
        left, (right,) = nested["a"]
        nested = tree.step(nested, {"a": [left**2, (3 * right,)]})
    np.testing.assert_allclose(now, row, rtol=1e-14)
    np.testing.assert_allclose([nested["a"][0][0], nested["a"][1][0][0]], row, rtol=1e-14)
    assert set(tree.state) == {"a.0", "a.1.0"}
    assert array.steps == 5


@pytest.mark.parametrize("make", [*ALL, Muon])
def test_nothing_is_written_into_what_was_given(make):
    params, grads = np.ones((3, 2)), np.full((3, 2), 0.5)
    optimizer = make()
    for array in (params, grads):
        array.flags.writeable = False
    before = optimizer.step(params, grads)
    kept = {name: np.array(value) for name, value in optimizer.state[""].items()}
    first = optimizer.state[""]
    optimizer.step(before, grads)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_a_rate_from_numpy_keeps_float32():
    optimizer = Adam()
    optimizer.lr = np.float64(0.1)
    assert optimizer.step(np.ones(3, np.float32), np.ones(3, np.float32)).dtype == np.float32


def test_first_steps_follow_from_the_definitions():
    """After one step Adam has moved every entry by lr, whatever its gradient; without the correction by √10 more."""
    start, gradient = np.zeros(3), np.array([1e-3, -5.0, 200.0])
    np.testing.assert_allclose(Adam(0.1).step(start, gradient), -0.1 * np.sign(gradient), rtol=1e-4)
    plain = Adam(0.1, bias_correction=False).step(start, gradient)
    np.testing.assert_allclose(plain, -0.1 * np.sqrt(10) * np.sign(gradient), rtol=1e-3)  # 0.1 / √0.001
    np.testing.assert_allclose(RMSProp(0.1).step(start, gradient), -np.sign(gradient), rtol=1e-4)  # 0.1 / √0.01
    np.testing.assert_array_equal(Lion(0.1).step(start, gradient), -0.1 * np.sign(gradient))


def test_adam_ignores_the_size_of_the_loss_and_sgd_does_not():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(20, 4))
    for make, same in ((Adam, True), (RMSProp, True), (Lion, True), (SGD, False)):
        ends = []
        for size in (1.0, 1000.0):
            optimizer, p = make(), np.zeros(4)
            for gradient in gradients:
                p = optimizer.step(p, size * gradient)
            ends.append(p)
        assert np.allclose(*ends, rtol=1e-4) == same


def test_decay_alone():
    """No gradient: AdamW shrinks by lr · decay a step, Adam's decay is rescaled to a step of lr."""
    shrunk, p = AdamW(0.1, weight_decay=0.2), np.array([1.0, 100.0])
    for _ in range(3):
        p = shrunk.step(p, np.zeros(2))
    np.testing.assert_allclose(p, np.array([1.0, 100.0]) * 0.98**3, rtol=1e-14)
    moved = Adam(0.1, weight_decay=0.2).step(np.array([1.0, 100.0]), np.zeros(2))
    np.testing.assert_allclose(moved, [0.9, 99.9], rtol=1e-7)


@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4), (1, 6), (6, 1), (1, 1)])
def test_orthogonalise_keeps_directions_and_levels_the_singular_values(shape):
    """The same U and V, and each singular value as the polynomial alone sends it: a second way to the same matrix."""
    x = np.random.default_rng(3).normal(size=shape)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt(np.sum(s**2))
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    np.testing.assert_allclose(orthogonalise(x), u @ np.diag(s) @ vt, atol=1e-12)
    assert np.all((singular_values(orthogonalise(x)) > 0.3) & (singular_values(orthogonalise(x)) < 1.3))


def test_orthogonalise_of_nothing():
    np.testing.assert_array_equal(orthogonalise(np.zeros((3, 4))), np.zeros((3, 4)))
    np.testing.assert_array_equal(orthogonalise(np.zeros((1, 4))), np.zeros((1, 4)))
    assert orthogonalise(np.ones((3, 4), np.float32)).dtype == np.float32


def test_muon_hands_the_rest_to_another():
    params = {"embedding": np.ones((4, 3)), "w": np.ones((3, 3)), "norm": np.ones(3)}
    grads = {name: np.random.default_rng(1).normal(size=p.shape) for name, p in params.items()}
    both, alone = Muon(0.1, others=AdamW(0.01), exclude=["embedding"]), AdamW(0.01)
    moved, expected = params, params
    for _ in range(3):
        moved, expected = both.step(moved, grads), alone.step(expected, grads)
    for name in ("embedding", "norm"):
        np.testing.assert_array_equal(moved[name], expected[name])
    assert not np.allclose(moved["w"], expected["w"])
    with pytest.raises(ValueError, match="matrices only"):
        Muon().step(params, grads)


@pytest.mark.parametrize(
    ("name", "case", "more"),
    [("constant", "constant", {}), ("cosine", "cosine", {}), ("linear", "linear", {}),
     ("cosine", "cosine_floor", {"floor": 0.1}), ("wsd", "wsd", {"decay": 20})],
)  # fmt: skip
def test_schedules_equal_hugging_face(name, case, more):
    ours = [schedule(name, step, total=100, warmup=10, **more) for step in range(101)]
    np.testing.assert_allclose(ours, GOLDENS[f"schedule_{case}"], atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_plain_numbers_between_zero_and_the_peak(name):
    for total, warmup, decay in ((1, 0, 0), (50, 0, 50), (50, 49, 1), (10, 20, 5), (0, 0, 0)):
        rates = [schedule(name, step, peak=0.3, total=total, warmup=warmup, decay=decay) for step in range(60)]
        assert all(type(rate) is float and 0 <= rate <= 0.3 for rate in rates)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SGD(-1), "learning rate"),
        (lambda: SGD(0.1, momentum=1.0), "momentum"),
        (lambda: SGD(0.1, nesterov=True), "Nesterov"),
        (lambda: Adam(betas=(0.9, 1.5)), "second beta"),
        (lambda: AdamW(weight_decay=-1), "weight decay"),
        (lambda: RMSProp(alpha=float("nan")), "alpha"),
        (lambda: schedule("steps", 1), "no schedule"),
        (lambda: schedule("cosine", -1), "counted from 0"),
        (lambda: SGD().step({"w": np.ones(3)}, {"w": np.ones(4)}), "gradient of w"),
    ],
)
def test_wrong_arguments_get_a_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()
