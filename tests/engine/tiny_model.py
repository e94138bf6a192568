"""A Llama of a few thousand parameters in a GGUF file of its own, and a plain second implementation to compare with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gguf
import numpy as np

from engine.ledger import Config
from engine.model import Model
from engine.weights import Matrix, Source, Weights

CONFIG = Config(
    "tiny", layers=3, width=32, heads=4, kv_heads=2, head_dim=8, hidden=64, vocabulary=96, context=40, parameters=0,
    source="made up", rope_base=100.0, tied=True,
)  # fmt: skip
STORED = {
    "attn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32),
    "ffn_norm": (32,), "ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64),
}  # fmt: skip


def write_package(folder: Path, seed: int = 0) -> Source:
    """An installed package `tiny_llama` that must not be imported, with its GGUF file, quantised as SmolLM2's is."""
    rng = np.random.default_rng(seed)
    (folder / "tiny_llama").mkdir()
    (folder / "tiny_llama" / "__init__.py").write_text("raise ImportError('this package must not be imported')")
    path = folder / "tiny_llama" / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kinds = gguf.GGMLQuantizationType
    shapes = {f"blk.{i}.{name}": shape for i in range(CONFIG.layers) for name, shape in STORED.items()}
    for name, shape in reversed({"token_embd": (96, 32), **shapes, "output_norm": (32,)}.items()):
        weight = rng.normal(size=shape).astype(np.float32) * (0.3 if len(shape) == 2 else 1) + (len(shape) == 1)
        kind = kinds.F32 if len(shape) == 1 else kinds.Q8_0 if name == "token_embd" else kinds.Q4_1
        writer.add_tensor(f"{name}.weight", gguf.quantize(weight, kind), raw_dtype=kind)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "ä"])  # what a reader of tensors has to walk over
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    writer.add_string("general.name", "tiny")
    writer.add_bool("general.tiny", True)
    writer.add_uint32("llama.block_count", CONFIG.layers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source("tiny_llama", "tiny-llama==1.0", "tiny.gguf", digest, CONFIG)


def plain_stream(model: Model, x: np.ndarray, first: int = 0, **off: object) -> np.ndarray:
    """The stream from before block `first` to the last, in float64, written out once more: loops, complex numbers.

    `off` switches one thing off: head=(block, head), norm=(block, sublayer), residual=(block, sublayer), rope=True;
    `pairs="half"` turns the wrong pairs.
    """
    c = model.config
    for i in range(first, c.layers):
        w = {
            name: part.rows if isinstance(part, Matrix) else part
            for name, part in vars(model.weights.blocks[i]).items()
        }
        w = {name: part.astype(np.float64) for name, part in w.items()}
        normed = x if off.get("norm") == (i, "attn") else plain_norm(x, w["attn_norm"], c.eps)
        found = np.zeros((len(x), c.heads * c.head_dim))
        for head in range(c.heads):
            own, shared = (slice(h * c.head_dim, (h + 1) * c.head_dim) for h in (head, head // (c.heads // c.kv_heads)))
            q, k = (turn(normed @ rows.T, c, off) for rows in (w["w_q"][own], w["w_k"][shared]))
            for t in range(len(x)):
                scores = k[: t + 1] @ q[t] / np.sqrt(c.head_dim)
                weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
                if off.get("head") != (i, head):
                    found[t, own] = weights @ (normed[: t + 1] @ w["w_v"][shared].T)
        x = (0 if off.get("residual") == (i, "attn") else x) + found @ w["w_o"].T
        normed = x if off.get("norm") == (i, "ffn") else plain_norm(x, w["ffn_norm"], c.eps)
        gate = normed @ w["w_gate"].T
        added = (gate / 2 * (1 + np.tanh(gate / 2)) * (normed @ w["w_up"].T)) @ w["w_down"].T
        x = (0 if off.get("residual") == (i, "ffn") else x) + added
    return x


def plain_logits(model: Model, stream: np.ndarray) -> np.ndarray:
    """Last norm and output matrix, in float64."""
    normed = plain_norm(stream, model.weights.final_norm.astype(np.float64), model.config.eps)
    return normed @ model.weights.embedding.astype(np.float64).T


def plain_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """RMSNorm."""
    return x * weight / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def turn(x: np.ndarray, c: Config, off: dict[str, object]) -> np.ndarray:
    """RoPE as multiplication of complex numbers."""
    if off.get("rope"):
        return x
    half = c.head_dim // 2
    angles = np.arange(len(x))[:, None] * float(c.rope_base or 0) ** (-np.arange(half) / half)
    if off.get("pairs") == "half":
        turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
        return np.concatenate([turned.real, turned.imag], axis=1)
    turned = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def tensors(weights: Weights) -> dict[str, np.ndarray]:
    """The weights under the file's names, for comparing with the file."""
    from engine.weights import STORED_AS

    named = {"token_embd": weights.embedding, "output_norm": weights.final_norm}
    for i, block in enumerate(weights.blocks):
        for part, name in STORED_AS.items():
            weight = getattr(block, part)
            named[f"blk.{i}.{name}"] = weight.rows if isinstance(weight, Matrix) else weight
    return named
