"""The dimensions of published models, and every array that follows from them, counted."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The dimensions of one published decoder, as far as they fix its parameters, memory and arithmetic."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int  # feed-forward width; of one expert, where there are several
    vocabulary: int
    context: int  # longest input it was trained or extended to, in tokens
    parameters: int  # the published total, which the ledger must reach
    source: str
    norm: str = "rms"  # or "layer", which has a bias
    norms_per_block: int = 2  # Gemma 2 also normalises what each sublayer gives back
    eps: float = 1e-5
    rope_base: float | None = 10000.0  # None: a learned table of positions instead
    window: int | None = None  # tokens that a sliding window sees
    activation: str = "silu"
    gated: bool = True
    bias: bool = False  # every matrix has one
    qkv_bias: bool = False  # only queries, keys and values have one
    experts: int = 1
    top_k: int = 1  # experts that work on one token
    tied: bool = False  # the output layer is the embedding table once more


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        Config(
            "SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, 8192, 134_515_008,
            "Allal et al. 2025, arXiv:2502.02737; model card HuggingFaceTB/SmolLM2-135M",
            rope_base=100_000.0, tied=True,
        ),
        Config(
            "GPT-2", 12, 768, 12, 12, 64, 3072, 50257, 1024, 124_439_808,
            "Radford et al. 2019; model card openai-community/gpt2",
            norm="layer", rope_base=None, activation="gelu", gated=False, bias=True, tied=True,
        ),
        Config(
            "Llama 3.1 8B", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 8_030_261_248,
            "Grattafiori et al. 2024, arXiv:2407.21783; model card meta-llama/Llama-3.1-8B",
            rope_base=500_000.0,
        ),
        Config(
            "Llama 3.1 70B", 80, 8192, 64, 8, 128, 28672, 128256, 131072, 70_553_706_496,
            "Grattafiori et al. 2024, arXiv:2407.21783; model card meta-llama/Llama-3.1-70B",
            rope_base=500_000.0,
        ),
        Config(
            "Mistral 7B", 32, 4096, 32, 8, 128, 14336, 32000, 32768, 7_241_732_096,
            "Jiang et al. 2023, arXiv:2310.06825; model card mistralai/Mistral-7B-v0.1",
            window=4096,
        ),
        Config(
            "Mixtral 8x7B", 32, 4096, 32, 8, 128, 14336, 32000, 32768, 46_702_792_704,
            "Jiang et al. 2024, arXiv:2401.04088; model card mistralai/Mixtral-8x7B-v0.1",
            rope_base=1_000_000.0, experts=8, top_k=2,
        ),
        Config(
            "Gemma 2B", 18, 2048, 8, 1, 256, 16384, 256000, 8192, 2_506_172_416,
            "Gemma Team 2024, arXiv:2403.08295; model card google/gemma-2b",
            eps=1e-6, activation="gelu", tied=True,
        ),
        Config(
            "Gemma 2 9B", 42, 3584, 16, 8, 256, 14336, 256000, 8192, 9_241_705_984,
            "Gemma Team 2024, arXiv:2408.00118; model card google/gemma-2-9b",
            norms_per_block=4, eps=1e-6, window=4096, activation="gelu", tied=True,
        ),
        Config(
            "Qwen2.5 7B", 28, 3584, 28, 4, 128, 18944, 152064, 131072, 7_615_616_512,
            "Qwen Team 2024, arXiv:2412.15115; model card Qwen/Qwen2.5-7B",
            eps=1e-6, rope_base=1_000_000.0, qkv_bias=True,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class LedgerRow:
    """One kind of weight in a model: `copies` arrays of `shape`."""

    part: str
    group: str  # "embedding", "attention", "feed-forward", "norm" or "output"
    shape: tuple[int, ...]
    copies: int
    active_copies: int  # those that work on one token; fewer only for experts

    @property
    def count(self) -> int:
        """Parameters in one copy."""
        return math.prod(self.shape)

    @property
    def total(self) -> int:
        """Parameters in all copies."""
        return self.count * self.copies

    @property
    def active(self) -> int:
        """Parameters that work on one token."""
        return self.count * self.active_copies


def parameter_ledger(config: Config) -> tuple[LedgerRow, ...]:
    """Every array of the model, from embedding to output; the rows' totals sum to the published count."""
    rows = [_row("token embedding", "embedding", (config.vocabulary, config.width))]
    if config.rope_base is None:
        rows.append(_row("position embedding", "embedding", (config.context, config.width)))
    rows += _attention_rows(config) + _feed_forward_rows(config)
    rows += _norm_rows(config, "block norm", config.norms_per_block * config.layers)
    rows += _norm_rows(config, "final norm", 1)
    if not config.tied:
        rows.append(_row("output layer", "output", (config.width, config.vocabulary)))
    return tuple(rows)


def total_parameters(config: Config) -> int:
    """All parameters of the model."""
    return sum(row.total for row in parameter_ledger(config))


def active_parameters(config: Config) -> int:
    """The parameters that work on one token: fewer than all only for a mixture of experts."""
    return sum(row.active for row in parameter_ledger(config))


def _row(part: str, group: str, shape: tuple[int, ...], copies: int = 1, active: int | None = None) -> LedgerRow:
    return LedgerRow(part, group, shape, copies, copies if active is None else active)


def _attention_rows(config: Config) -> list[LedgerRow]:
    inner, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {"query": (config.width, inner), "key": (config.width, shared), "value": (config.width, shared),
              "attention output": (inner, config.width)}  # fmt: skip
    rows = []
    for part, shape in shapes.items():
        rows.append(_row(part, "attention", shape, config.layers))
        if config.bias or (config.qkv_bias and part != "attention output"):
            rows.append(_row(f"{part} bias", "attention", shape[1:], config.layers))
    return rows


def _feed_forward_rows(config: Config) -> list[LedgerRow]:
    inward, outward = (config.width, config.hidden), (config.hidden, config.width)
    shapes = {"gate": inward, "up": inward, "down": outward} if config.gated else {"up": inward, "down": outward}
    rows = []
    if config.experts > 1:
        rows.append(_row("router", "feed-forward", (config.width, config.experts), config.layers))
    copies, active = config.layers * config.experts, config.layers * config.top_k
    for part, shape in shapes.items():
        rows.append(_row(part, "feed-forward", shape, copies, active))
        if config.bias:
            rows.append(_row(f"{part} bias", "feed-forward", shape[1:], copies, active))
    return rows


def _norm_rows(config: Config, part: str, copies: int) -> list[LedgerRow]:
    names = [part] if config.norm == "rms" else [f"{part} weight", f"{part} bias"]
    return [_row(name, "norm", (config.width,), copies) for name in names]
