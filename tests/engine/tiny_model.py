"""A Llama of a few thousand parameters in a GGUF file of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gguf
import numpy as np

from engine.ledger import Config
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
    return Source("tiny_llama", "tiny-llama==1.0", "tiny.gguf", digest, config=CONFIG)


def tensors(weights: Weights) -> dict[str, np.ndarray]:
    """The weights under the file's names, for comparing with the file."""
    from engine.weights import STORED_AS

    named = {"token_embd": weights.embedding, "output_norm": weights.final_norm}
    for i, block in enumerate(weights.blocks):
        for part, name in STORED_AS.items():
            weight = getattr(block, part)
            named[f"blk.{i}.{name}"] = weight.rows if isinstance(weight, Matrix) else weight
    return named
