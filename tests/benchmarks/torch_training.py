"""PyTorch's side of bench_training.py: for each line on standard input it takes training steps, and says how long."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "references"))
import torch_gpt


def main(path: str, heads: str, threads: str) -> None:
    """Each line is a number of steps; answered with their seconds and the loss of the last."""
    torch.set_num_threads(int(threads))
    stored = dict(np.load(path))
    batch = torch.from_numpy(stored.pop("batch"))
    model = torch_gpt.TorchGPT({name: torch.from_numpy(array) for name, array in stored.items()}, int(heads))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = torch_gpt.training_step(model, optimizer, inputs, targets)
        print(time.perf_counter() - start, loss, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
