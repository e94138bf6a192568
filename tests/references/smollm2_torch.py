"""SmolLM2-135M-Instruct in PyTorch: Hugging Face's LlamaForCausalLM with the GGUF file's dequantised weights, float32.

Shared by make_smollm2_goldens.py and benchmarks/bench_model.py. Needs an environment of its own, made with
`pip install torch==2.13.0 transformers==5.23.0 gguf==0.19.0`, and the path of the GGUF file; nothing of the engine.
"""

from __future__ import annotations

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import LlamaConfig, LlamaForCausalLM

HEADS, KV_HEADS, BLOCKS = 9, 3, 30
NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def half_layout(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of Q or K from GGUF's order (RoPE pairs 2i, 2i + 1) to Hugging Face's (pairs i, i + d/2)."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def read_state(path: str) -> dict[str, torch.Tensor]:
    """The weights under Hugging Face's names."""
    stored = {t.name: np.array(dequantize(t.data, t.tensor_type), np.float32) for t in GGUFReader(path).tensors}
    state = {
        "model.embed_tokens.weight": stored["token_embd.weight"],
        "lm_head.weight": stored["token_embd.weight"],
        "model.norm.weight": stored["output_norm.weight"],
    }
    for i in range(BLOCKS):
        for ours, theirs in NAMES.items():
            weight = stored[f"blk.{i}.{ours}.weight"]
            if ours in ("attn_q", "attn_k"):
                weight = half_layout(weight, HEADS if ours == "attn_q" else KV_HEADS)
            state[f"model.layers.{i}.{theirs}.weight"] = weight
    return {name: torch.from_numpy(np.ascontiguousarray(weight)) for name, weight in state.items()}


def load(path: str, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> LlamaForCausalLM:
    """The model with the file's weights, for inference."""
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=BLOCKS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, head_dim=64, max_position_embeddings=8192, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=True, hidden_act="silu",
        attention_bias=False, mlp_bias=False, attn_implementation=attention,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(read_state(path))
    return model.to(dtype).eval()
