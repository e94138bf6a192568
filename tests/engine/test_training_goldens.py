"""The small GPT against PyTorch in float64: loss, gradients, and twenty steps of a run."""

from pathlib import Path

import numpy as np

from engine.backpropagation import value_and_grad
from engine.gpt import GPT, loss
from engine.training import Checkpoint, Plan, batch_step

GOLDENS = dict(np.load(Path(__file__).parents[1] / "goldens" / "training.npz"))
SIZE = GPT(11, layers=2, width=12, heads=2, kv_heads=1, hidden=20, context=9)
START = {name[3:]: array for name, array in GOLDENS.items() if name.startswith("in_")}
PLAN = Plan(steps=20, learning_rate=0.02, warmup=4, weight_decay=0.1, betas=(0.9, 0.95), clip=0.5)


def test_loss_and_gradients_are_pytorchs():
    batch = GOLDENS["batches"][0]
    value, gradients = value_and_grad(loss)(START, SIZE, batch[:, :-1], batch[:, 1:])
    assert abs(value - GOLDENS["loss"]) < 1e-12
    assert {name for name in GOLDENS if name.startswith("gradient_")} == {f"gradient_{name}" for name in SIZE.shapes()}
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, GOLDENS[f"gradient_{name}"], rtol=0, atol=1e-12)


def test_twenty_steps_with_clipping_warm_up_and_cosine_are_pytorchs():
    parameters, optimizer, losses = START, PLAN.optimizer(Checkpoint(0, START)), []
    for number, batch in enumerate(GOLDENS["batches"]):
        optimizer.lr = PLAN.rate(number)
        parameters, value, _ = batch_step(SIZE, parameters, optimizer, batch[:, :-1], batch[:, 1:], PLAN.clip)
        losses.append(value)
    np.testing.assert_allclose(losses, GOLDENS["losses"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(parameters["embedding"], GOLDENS["last_embedding"], rtol=0, atol=1e-9)
