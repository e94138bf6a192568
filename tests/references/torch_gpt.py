"""The small GPT of engine/gpt.py written in PyTorch, from its parameters by name. Nothing of the engine is used."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


class TorchGPT(torch.nn.Module):
    """A Llama-style decoder; matrices are stored (out, in) as torch.nn.functional.linear wants them."""

    def __init__(self, parameters: dict[str, torch.Tensor], heads: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads, self.eps = heads, eps
        self.layers = sum(name.endswith("w_q") for name in parameters)
        stored = {name: p.T.contiguous() if ".w_" in name else p.clone() for name, p in parameters.items()}
        self.p = torch.nn.ParameterDict({name.replace(".", "_"): torch.nn.Parameter(t) for name, t in stored.items()})
        self.original = {name.replace(".", "_"): name for name in parameters}

    def gradients(self) -> dict[str, torch.Tensor]:
        """By the engine's names, matrices (in, out) again."""
        found = {self.original[name]: p.grad for name, p in self.p.items()}
        return {name: g.T if ".w_" in name else g for name, g in found.items()}

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.p[name], self.eps)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.p["embedding"][ids]
        d = x.shape[-1] // self.heads
        theta = 10000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        angles = torch.arange(ids.shape[1], dtype=torch.float64)[:, None] * theta
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for i in range(self.layers):
            x = x + self.attention(self.norm(x, f"blk_{i}_attn_norm"), f"blk_{i}_", d, cos, sin)
            n = self.norm(x, f"blk_{i}_ffn_norm")
            gate, up = F.linear(n, self.p[f"blk_{i}_w_gate"]), F.linear(n, self.p[f"blk_{i}_w_up"])
            x = x + F.linear(F.silu(gate) * up, self.p[f"blk_{i}_w_down"])
        return F.linear(self.norm(x, "final_norm"), self.p["embedding"])

    def attention(self, n: torch.Tensor, blk: str, d: int, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Plain products and a softmax, as in the engine; the fused one is no faster on a processor at this size."""
        batch, tokens, _ = n.shape
        q, k, v = (
            F.linear(n, self.p[blk + w]).view(batch, tokens, -1, d).transpose(1, 2) for w in ("w_q", "w_k", "w_v")
        )
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        if k.shape[1] < self.heads:
            k, v = (t.repeat_interleave(self.heads // k.shape[1], 1) for t in (k, v))
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(d)).masked_fill(future, -torch.inf).softmax(-1)
        return F.linear((weights @ v).transpose(1, 2).reshape(batch, tokens, -1), self.p[blk + "w_o"])


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE on interleaved pairs."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def training_step(
    model: TorchGPT, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor, clip: float = 1.0
) -> float:
    """Forward, backward, clip, step -> the loss before."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=-1)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item()
