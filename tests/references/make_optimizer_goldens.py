"""What torch.optim and Hugging Face's schedules compute, for engine/optimizers.py: tests/goldens/optimizers.npz.

Run by hand, with torch, transformers and NumPy installed (the test needs the last alone):

    python tests/references/make_optimizer_goldens.py

50 steps on arrays whose gradient is sin(3 p + step), so that an error would feed on itself. PyTorch has no Lion: it is
written here from Algorithm 2 of arXiv:2302.06675. PyTorch's Muon orthogonalises in bfloat16: `muon`, `muon_plain` are
PyTorch with that one cast taken out, `muon_bfloat16` is Muon as it comes.
"""

from pathlib import Path
from unittest import mock

import numpy as np
import torch
import transformers

SEED, STEPS, KEPT = 20261122, 50, (1, 2, 10, 50)
TARGET = Path(__file__).parents[1] / "goldens" / "optimizers.npz"
SHAPES = {"wide": (4, 7), "tall": (6, 3), "vector": (5,), "row": (1, 6)}
arrays: dict[str, np.ndarray] = {}


class PaperLion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
            for theta in group["params"]:
                m = self.state[theta].setdefault("exp_avg", torch.zeros_like(theta))
                c = beta1 * m + (1 - beta1) * theta.grad
                self.state[theta]["exp_avg"] = beta2 * m + (1 - beta2) * theta.grad
                theta -= lr * (torch.sign(c) + decay * theta)


def run(name, make, shapes, dtype=torch.float64):
    params = {shape: torch.nn.Parameter(torch.tensor(arrays[f"start_{shape}"], dtype=dtype)) for shape in shapes}
    optimizer = make(list(params.values()))
    kept = {shape: [] for shape in shapes}
    for step in range(1, STEPS + 1):
        for p in params.values():
            p.grad = torch.sin(3 * p.detach() + step)
        optimizer.step()
        if step in KEPT:
            for shape, p in params.items():
                kept[shape].append(p.detach().numpy().copy())
    arrays.update({f"{name}_{shape}": np.stack(states) for shape, states in kept.items()})


def schedules():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = {
        "constant": transformers.get_constant_schedule_with_warmup(optimizer, 10),
        "cosine": transformers.get_cosine_schedule_with_warmup(optimizer, 10, 100),
        "linear": transformers.get_linear_schedule_with_warmup(optimizer, 10, 100),
        "cosine_floor": transformers.get_cosine_with_min_lr_schedule_with_warmup(optimizer, 10, 100, min_lr_rate=0.1),
        "wsd": transformers.get_wsd_schedule(optimizer, 10, 20, num_training_steps=100, decay_type="linear"),
    }
    for name, scheduler in made.items():
        arrays[f"schedule_{name}"] = np.array([scheduler.lr_lambdas[0](step) for step in range(101)])


generator = np.random.default_rng(SEED)
for shape, size in SHAPES.items():
    arrays[f"start_{shape}"] = generator.normal(size=size)

optim = torch.optim
CASES = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "sgd_decay": lambda p: optim.SGD(p, lr=0.05, weight_decay=0.2),
    "momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.1),
    "rmsprop": optim.RMSprop,
    "rmsprop_momentum": lambda p: optim.RMSprop(p, lr=0.02, alpha=0.9, eps=1e-6, weight_decay=0.1, momentum=0.7),
    "adam": optim.Adam,
    "adam_decay": lambda p: optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    "adamw": optim.AdamW,
    "adamw_decay": lambda p: optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    "lion": PaperLion,
    "lion_decay": lambda p: PaperLion(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.3),
}
MUON = {
    "muon": optim.Muon,
    "muon_plain": lambda p: optim.Muon(p, lr=0.05, weight_decay=0.3, momentum=0.8, nesterov=False, ns_steps=3),
}
MATRICES = ("wide", "tall", "row")
for name, make in CASES.items():
    run(name, make, ("wide", "vector"))
    run(f"{name}_f32", make, ("wide", "vector"), torch.float32)
for name, make in MUON.items():
    with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
        run(name, make, MATRICES)
        run(f"{name}_f32", make, MATRICES, torch.float32)
run("muon_bfloat16", optim.Muon, MATRICES)
schedules()
arrays["made_with"] = np.array(
    f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}, seed {SEED}"
)
np.savez_compressed(TARGET, **arrays)
print(f"{TARGET}: {len(arrays)} arrays, {TARGET.stat().st_size} bytes; {arrays['made_with']}")
