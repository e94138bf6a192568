"""Checks of learning and of what stands around the model: optimizers, training, post-training, retrieval, templates.

The stored results come from tests/references/make_optimizer_goldens.py, make_training_goldens.py,
make_post_training_goldens.py, make_minilm_goldens.py and make_chat_goldens.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from engine import minilm_file
from engine.backpropagation import value_and_grad
from engine.chat_template import render
from engine.gpt import GPT, loss
from engine.optimizers import SGD, Adam, AdamW, Lion, Muon, RMSProp
from engine.post_training import (
    bradley_terry_loss,
    distillation_loss,
    dpo_loss,
    group_advantages,
    lora,
    masked_loss,
)
from engine.proof_gradients import gradient, normal
from engine.proofs import REFERENCE, Check, Function, golden, largest_difference, stored, stored_json, stored_json_of
from engine.retrieval import Encoder, bm25
from engine.training import Checkpoint, Plan, batch_step

KEPT = (1, 2, 10, 50)  # steps after which the parameters are stored
OPTIMIZERS: dict[str, tuple[Function, dict[str, Any]]] = {
    "sgd": (SGD, {"lr": 0.05}),
    "momentum": (SGD, {"lr": 0.02, "momentum": 0.9}),
    "nesterov": (SGD, {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "rmsprop": (RMSProp, {}),
    "adam": (Adam, {}),
    "adam_decay": (Adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3}),
    "adamw": (AdamW, {}),
    "adamw_decay": (AdamW, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3}),
    "lion": (Lion, {}),
    "lion_decay": (Lion, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.3}),
    "muon": (Muon, {}),
    "muon_plain": (Muon, {"lr": 0.05, "weight_decay": 0.3, "momentum": 0.8, "nesterov": False, "ns_steps": 3}),
}
SIZE = GPT(11, layers=2, width=12, heads=2, kv_heads=1, hidden=20, context=9)
PLAN = Plan(steps=20, learning_rate=0.02, warmup=4, weight_decay=0.1, betas=(0.9, 0.95), clip=0.5)
DPO = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def reference(
    chapter: str, function: Function, case: str, against: str, measure: Callable[[Function], float], limit: float
) -> Check:
    return Check(chapter, function, case, against, measure, limit, REFERENCE)


def fifty_steps(function: Function, case: str) -> float:
    """The largest relative difference of any parameter after 1, 2, 10 and 50 steps, in float64."""
    held, shapes = stored("optimizers"), ("wide", "tall", "row") if "muon" in case else ("wide", "vector")
    params, optimizer, worst = {shape: held[f"start_{shape}"] for shape in shapes}, function(), 0.0
    for step in range(1, 51):
        params = optimizer.step(params, {name: np.sin(3 * p + step) for name, p in params.items()})
        for shape in shapes if step in KEPT else ():
            theirs = held[f"{case}_{shape}"][KEPT.index(step)]
            worst = max(worst, largest_difference(params[shape], theirs) / float(np.max(np.abs(theirs))))
    return worst


def fifty_of(name: str) -> Check:
    """The optimizer, with the settings of this name, against torch.optim."""
    make, options = OPTIMIZERS[name]
    settings = " ".join(f"{key} {value}" for key, value in options.items() if key not in ("betas", "eps", "ns_steps"))
    case = f"50 steps, {settings or 'as it comes'}"
    against = "torch.optim" if make is not Lion else "Lion's paper, in torch"
    return reference(
        "optimizers", make, case, against, lambda f: fifty_steps(lambda: f(**options), name), 1e-10
    )  # fmt: skip


def starting() -> dict[str, np.ndarray]:
    return {name[3:]: array for name, array in stored("training").items() if name.startswith("in_")}


def first_loss(function: Function) -> float:
    held, batch = stored("training"), stored("training")["batches"][0]
    return abs(float(function(starting(), SIZE, batch[:, :-1], batch[:, 1:])) - float(held["loss"]))


def all_gradients(function: Function) -> float:
    held, batch = stored("training"), stored("training")["batches"][0]
    _, found = value_and_grad(function)(starting(), SIZE, batch[:, :-1], batch[:, 1:])
    return max(largest_difference(part, held[f"gradient_{name}"]) for name, part in found.items())


def twenty_steps(function: Function) -> float:
    """Losses of a run with clipping, warm-up and a cosine."""
    parameters, losses = starting(), []
    optimizer = PLAN.optimizer(Checkpoint(0, parameters))
    for number, batch in enumerate(stored("training")["batches"]):
        optimizer.lr = PLAN.rate(number)
        parameters, value, _ = function(SIZE, parameters, optimizer, batch[:, :-1], batch[:, 1:], PLAN.clip)
        losses.append(value)
    return largest_difference(losses, stored("training")["losses"])


def held(name: str) -> np.ndarray:
    return stored("post_training")[name]


def objective(function: Function, case: str, name: str, parts: Sequence[str], **options: Any) -> list[Check]:
    """A loss and its gradient against PyTorch, and the gradient against differences."""

    def inputs() -> list[np.ndarray]:
        return [held(f"in_{name}_{part}") for part in parts]

    def slopes(function: Function) -> float:
        _, found = value_and_grad(partial(function, **options), tuple(range(len(parts))))(*inputs())
        theirs = [held(f"grad_{name}_{part}") for part in parts]
        return max(largest_difference(one, other) for one, other in zip(found, theirs, strict=True))

    small = [normal(*held(f"in_{name}_{part}").shape, seed=i + 1) * 0.3 for i, part in enumerate(parts)]
    with_slope = f"{case}{', ' if case else ''}its gradient"
    return [
        golden("post-training", function, case, "torch", name, lambda f: f(*inputs(), **options), file="post_training"),
        reference("post-training", function, with_slope, "torch autograd", slopes, 1e-12),
        gradient("post-training", function, case, *small, by=lambda f, *args: f(*args, **options)),
    ]  # fmt: skip


def masked(function: Function, *logits: Any) -> Any:
    return function(*(logits or (held("in_masked_logits"),)), held("in_targets"), held("in_counts"))


def adapted(function: Function) -> Any:
    w, a, b, x = (held(f"in_lora_{name}") for name in "wabx")
    return x @ function(w.T, a.T, b.T, 6)


def every_query(function: Function) -> float:
    about = stored_json_of("minilm")
    found = [function(about["documents"], query) for query in about["queries"]]
    return largest_difference(found, stored("minilm")["bm25"])


LEARNING: list[Check] = [
    *map(fifty_of, OPTIMIZERS),
    reference("training", loss, "small GPT", "torch", first_loss, 1e-12),
    reference("training", loss, "small GPT, all gradients", "torch autograd", all_gradients, 1e-12),
    reference("training", batch_step, "20 steps", "torch.optim.AdamW", twenty_steps, 1e-10),
    *objective(bradley_terry_loss, "", "bradley_terry", ("chosen", "rejected")),
    *objective(dpo_loss, "β = 0.1", "dpo_0.1", DPO, beta=0.1),
    *objective(dpo_loss, "β = 2", "dpo_2.0", DPO, beta=2.0),
    *objective(distillation_loss, "T = 0.5", "distillation_0.5", ("student", "teacher"), temperature=0.5),
    *objective(distillation_loss, "T = 4", "distillation_4.0", ("student", "teacher"), temperature=4.0),
    golden("post-training", masked_loss, "", "torch", "masked", masked, file="post_training"),
    golden("post-training", group_advantages, "", "torch", "advantages", lambda f: f(held("in_rewards")),
           file="post_training"),
    golden("post-training", lora, "", "two torch.nn.Linear", "lora_out", adapted, file="post_training"),
    reference("around-the-model", bm25, "", "bm25s", every_query, 1e-5),
]  # fmt: skip


def conversations(function: Function) -> float:
    """How many conversations come out otherwise, in text or ids."""
    cases = stored_json("chat_template")["cases"]
    found = [function(case["messages"], add_generation_prompt=case["opened"]) for case in cases]
    return float(
        sum(one.text != case["text"] or list(one.ids) != case["ids"] for one, case in zip(found, cases, strict=True))
    )


def sentence_vectors(function: Any) -> float:
    return largest_difference(Encoder.load().embed(stored_json_of("minilm")["texts"]), stored("minilm")["embeddings"])


def file_checks() -> list[Check]:
    """Those that need the model's or the encoder's file."""
    found = [reference("model", render, "conversations that differ", "transformers", conversations, 0.0)]
    if minilm_file.available():
        against = "sentence-transformers"
        found.append(reference("model", Encoder.embed, "MiniLM", against, sentence_vectors, 1e-5))
    return found
