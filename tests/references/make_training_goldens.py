"""Make tests/goldens/training.npz: loss, gradients and a short run of a small GPT in PyTorch, in float64.

    PYTHON_WITH_TORCH tests/references/make_training_goldens.py

Weights and batches come from NumPy's generator with the seed below and are stored; the engine is not imported.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch_gpt import TorchGPT, training_step

SEED, VOCABULARY, LAYERS, WIDTH, HEADS, KV_HEADS, HIDDEN, CONTEXT = 7, 11, 2, 12, 2, 1, 20, 9
STEPS, BATCH, PEAK, WARMUP, CLIP, DECAY, BETAS = 20, 3, 0.02, 4, 0.5, 0.1, (0.9, 0.95)
OUT = Path(__file__).resolve().parents[1] / "goldens" / "training.npz"


def shapes() -> dict[str, tuple[int, ...]]:
    kv = WIDTH // HEADS * KV_HEADS
    block = {
        "attn_norm": (WIDTH,), "w_q": (WIDTH, WIDTH), "w_k": (WIDTH, kv), "w_v": (WIDTH, kv), "w_o": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,), "w_gate": (WIDTH, HIDDEN), "w_up": (WIDTH, HIDDEN), "w_down": (HIDDEN, WIDTH),
    }  # fmt: skip
    blocks = {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in block.items()}
    return {"embedding": (VOCABULARY, WIDTH), **blocks, "final_norm": (WIDTH,)}


def rate(step: int) -> float:
    """Warm-up, then a cosine to a tenth."""
    if step < WARMUP:
        return PEAK * step / WARMUP
    return PEAK * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))))


def main() -> None:
    rng = np.random.default_rng(SEED)
    arrays = {
        f"in_{name}": (1.0 if name.endswith("norm") else 0.0) + rng.normal(size=shape) * 0.4
        for name, shape in shapes().items()
    }
    batches = rng.integers(0, VOCABULARY, (STEPS, BATCH, CONTEXT + 1))
    model = TorchGPT({name[3:]: torch.from_numpy(array) for name, array in arrays.items()}, HEADS)
    inputs, targets = torch.from_numpy(batches[..., :-1].copy()), torch.from_numpy(batches[..., 1:].copy())
    loss = F.cross_entropy(model(inputs[0]).flatten(0, 1), targets[0].flatten())
    loss.backward()
    arrays |= {f"gradient_{name}": gradient.numpy().copy() for name, gradient in model.gradients().items()}
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, betas=BETAS, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate(step)
        losses.append(training_step(model, optimizer, inputs[step], targets[step], CLIP))
    about = f"torch {torch.__version__}, numpy {np.__version__}, seed {SEED}, make_training_goldens.py"
    np.savez_compressed(
        OUT, **arrays, batches=batches, loss=loss.detach().numpy(), losses=np.array(losses), about=about,
        last_embedding=model.p["embedding"].detach().numpy(),
    )  # fmt: skip
    print(OUT, OUT.stat().st_size, float(loss), losses[-1])


if __name__ == "__main__":
    main()
