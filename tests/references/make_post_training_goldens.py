"""What PyTorch computes for the losses of post-training, with gradients: tests/goldens/post_training.npz.

Run by hand, with torch and NumPy installed (the tests need only the latter):

    python tests/references/make_post_training_goldens.py

Arrays named in_… are inputs, grad_… gradients of the loss before the last underscore's name, all others results.
Everything is float64 unless its name ends in _f32.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SEED = 20261122
TARGET = Path(__file__).parents[1] / "goldens" / "post_training.npz"

torch.set_default_dtype(torch.float64)
torch.manual_seed(SEED)
arrays: dict[str, np.ndarray] = {}


def loss(name: str, function: Callable[..., torch.Tensor], **inputs: torch.Tensor) -> None:
    """Store the inputs, the loss in both precisions, and the gradient of each input."""
    leaves = {key: tensor.clone().requires_grad_() for key, tensor in inputs.items()}
    result = function(**leaves)
    result.backward()
    arrays[name] = result.detach().numpy()
    arrays[f"{name}_f32"] = function(**{key: tensor.float() for key, tensor in inputs.items()}).numpy()
    for key, leaf in leaves.items():
        arrays[f"in_{name}_{key}"] = inputs[key].numpy()
        arrays[f"grad_{name}_{key}"] = leaf.grad.numpy()


def preferences() -> None:
    far = torch.tensor([40.0, -40.0, 0.0])  # where a plain log(sigmoid) would be inexact
    loss(
        "bradley_terry",
        lambda chosen, rejected: -F.logsigmoid(chosen - rejected).mean(),
        chosen=torch.cat([torch.randn(6), far]),
        rejected=torch.cat([torch.randn(6), -far]),
    )
    names = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
    for beta in (0.1, 2.0):
        loss(
            f"dpo_{beta}",
            lambda policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=beta: (
                -F.logsigmoid(beta * ((policy_chosen - policy_rejected) - (ref_chosen - ref_rejected))).mean()
            ),
            **{name: -20 * torch.rand(7) for name in names},
        )


def teachers() -> None:
    for temperature in (0.5, 1.0, 4.0):
        loss(
            f"distillation_{temperature}",
            lambda student, teacher, t=temperature: (
                t * t * F.kl_div(F.log_softmax(student / t, -1), F.log_softmax(teacher / t, -1),
                                 reduction="batchmean", log_target=True)
            ),
            student=3 * torch.randn(5, 11),
            teacher=3 * torch.randn(5, 11),
        )  # fmt: skip


def groups() -> None:
    rewards = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0], [0.0] * 8, [3.0, 1, 4, 1, 5, 9, 2, 6]])
    arrays["in_rewards"] = rewards.numpy()
    spread = rewards.std(-1, keepdim=True, correction=0)
    advantages = torch.where(spread > 0, (rewards - rewards.mean(-1, keepdim=True)) / spread, 0.0)
    arrays["advantages"] = advantages.numpy()
    old = -3 * torch.rand(3, 8)

    def grpo(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        ratio = torch.exp(policy - old.to(policy.dtype))
        held = torch.clamp(ratio, 0.8, 1.2)
        scored = advantages.to(policy.dtype)
        gain = torch.minimum(ratio * scored, held * scored)
        drift = reference - policy
        return -(gain - 0.04 * (torch.exp(drift) - drift - 1)).mean()

    arrays["in_old"] = old.numpy()
    loss("grpo", grpo, policy=old + 0.3 * torch.randn(3, 8), reference=old + 0.5 * torch.randn(3, 8))


def demonstrations() -> None:
    targets, counts = torch.randint(0, 9, (2, 6)), torch.tensor([[0.0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]])
    arrays["in_targets"], arrays["in_counts"] = targets.numpy(), counts.numpy()
    unseen = torch.where(counts > 0, targets, -100)  # PyTorch's way to leave out a token
    loss(
        "masked",
        lambda logits: F.cross_entropy(logits.reshape(-1, 9), unseen.reshape(-1), ignore_index=-100),
        logits=2 * torch.randn(2, 6, 9),
    )


def adapters() -> None:
    layer, down, up = torch.nn.Linear(7, 5, bias=False), torch.nn.Linear(7, 3, bias=False), torch.nn.Linear(3, 5, False)
    x = torch.randn(4, 7)
    arrays["in_lora_w"], arrays["in_lora_a"], arrays["in_lora_b"] = (
        part.weight.detach().numpy() for part in (layer, down, up)
    )
    arrays["in_lora_x"] = x.numpy()
    arrays["lora_out"] = (layer(x) + (6.0 / 3) * up(down(x))).detach().numpy()


for part in (preferences, teachers, groups, demonstrations, adapters):
    part()
arrays["versions"] = np.array([f"torch {torch.__version__}", f"numpy {np.__version__}", f"seed {SEED}"])
np.savez_compressed(TARGET, **arrays)
print(TARGET, len(arrays))
