"""What PyTorch and Hugging Face compute for the engine's functions, on small random input: tests/goldens/functions.npz.

Run by hand, with torch, transformers and NumPy installed (the tests need none but the last):

    python tests/references/make_function_goldens.py

Arrays named in_… are inputs, all others are results. Everything is float64 unless its name ends in _f32.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from transformers.generation import logits_process as hf
from transformers.models.llama import modeling_llama as llama
from transformers.models.mixtral import modeling_mixtral as mixtral

SEED = 20261121
TARGET = Path(__file__).parents[1] / "goldens" / "functions.npz"

torch.set_default_dtype(torch.float64)
torch.manual_seed(SEED)
arrays: dict[str, np.ndarray] = {}


def random(name: str, *shape: int, size: float = 1.0) -> torch.Tensor:
    return given(name, torch.randn(*shape) * size)


def given(name: str, tensor: torch.Tensor) -> torch.Tensor:
    arrays[f"in_{name}"] = tensor.numpy()
    return tensor


def result(name: str, tensor: torch.Tensor) -> None:
    arrays[name] = tensor.detach().numpy().copy()


def activations() -> None:
    x = given("x", torch.cat([torch.linspace(-12, 12, 97), torch.tensor([1.23, -1e-3, 1e-9, 40.0, -40.0])]))
    functions = {
        "linear": lambda x: x * 1.0,
        "relu": F.relu,
        "leaky_relu": F.leaky_relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": F.silu,
        "gelu_none": lambda x: F.gelu(x, approximate="none"),
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "erf": torch.erf,
    }
    for name, function in functions.items():
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.sum().backward()
        result(name, y)
        result(f"{name}_slope", leaf.grad)
        result(f"{name}_f32", function(x.float()))


def probabilities() -> None:
    logits = random("logits", 5, 11, size=4.0)
    targets = given("targets", torch.tensor([3, 0, 10, 7, 7]))
    result("softmax", F.softmax(logits, dim=-1))
    result("softmax_cold", F.softmax(logits / 0.35, dim=-1))
    result("softmax_columns", F.softmax(logits, dim=0))
    result("softmax_f32", F.softmax(logits.float(), dim=-1))
    result("log_softmax", F.log_softmax(logits, dim=-1))
    result("cross_entropy", F.cross_entropy(logits, targets))
    result("cross_entropy_f32", F.cross_entropy(logits.float(), targets))
    result("entropy", torch.distributions.Categorical(logits=logits).entropy())
    ids = given("seen", torch.tensor([[1, 4, 4, 9]])).expand(5, 4)
    result("top_k", hf.TopKLogitsWarper(4)(ids, logits))
    result("top_p", hf.TopPLogitsWarper(0.9)(ids, logits))
    result("min_p", hf.MinPLogitsWarper(0.05)(ids, logits))
    result("repetition_penalty", hf.RepetitionPenaltyLogitsProcessor(1.3)(ids, logits))


def norms() -> None:
    x = random("stream", 2, 5, 16, size=3.0)
    weight, bias = random("norm_weight", 16), random("norm_bias", 16)
    for suffix, cast in (("", lambda t: t), ("_f32", torch.Tensor.float)):
        result(f"layer_norm{suffix}", F.layer_norm(cast(x), (16,), cast(weight), cast(bias), 1e-5))
        result(f"rms_norm{suffix}", F.rms_norm(cast(x), (16,), cast(weight), 1e-5))
    norm = llama.LlamaRMSNorm(16, eps=1e-5)
    norm.weight.data = weight.float()  # Hugging Face computes its norm in float32 always
    result("rms_norm_llama_f32", norm(x.float()))


def attentions() -> None:
    q = random("q", 2, 6, 5, 8)
    k, v = random("k", 2, 6, 5, 8), random("v", 2, 6, 5, 8)
    few_k, few_v = random("few_k", 2, 2, 5, 8), random("few_v", 2, 2, 5, 8)
    attend = F.scaled_dot_product_attention
    for suffix, cast in (("", lambda t: t), ("_f32", torch.Tensor.float)):
        q_, k_, v_, few_k_, few_v_ = (cast(t) for t in (q, k, v, few_k, few_v))
        result(f"attention{suffix}", attend(q_, k_, v_, is_causal=True))
        result(f"attention_all{suffix}", attend(q_, k_, v_))
        result(f"attention_unscaled{suffix}", attend(q_, k_, v_, is_causal=True, scale=1.0))
        result(f"attention_grouped{suffix}", attend(q_, few_k_, few_v_, is_causal=True, enable_gqa=True))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[-2:]
    result("attention_last_two", attend(q[:, :, -2:], k, v, attn_mask=mask))


def rope(name: str, positions: torch.Tensor, **parameters: object) -> None:
    config = llama.LlamaConfig(
        hidden_size=64, num_attention_heads=4, head_dim=16, max_position_embeddings=128, rope_parameters=parameters
    )
    embedding = llama.LlamaRotaryEmbedding(config)
    q, k = torch.from_numpy(arrays["in_rope_q"]), torch.from_numpy(arrays["in_rope_k"])
    cos, sin = embedding(q.float(), positions)
    turned_q, turned_k = llama.apply_rotary_pos_emb(q.float(), k.float(), cos, sin)
    result(f"rope_{name}_q_f32", turned_q)
    result(f"rope_{name}_k_f32", turned_k)
    result(f"rope_{name}_frequencies_f32", embedding.inv_freq)
    arrays[f"rope_{name}_magnitude"] = np.array(embedding.attention_scaling)


def ropes() -> None:
    random("rope_q", 1, 4, 7, 16)
    random("rope_k", 1, 2, 7, 16)
    positions = given("positions", torch.tensor([[0, 1, 2, 3, 50, 51, 100]]))
    rope("plain", positions, rope_type="default", rope_theta=10000.0)
    rope("smollm2", positions, rope_type="default", rope_theta=100000.0)
    rope("linear", positions, rope_type="linear", rope_theta=10000.0, factor=4.0)
    rope("yarn", positions, rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=4096)
    # "dynamic" NTK equals NTK with factor 4 for a text of 7/4 of the trained 128 positions, which end at 223
    longer = given("positions_ntk", torch.tensor([[0, 1, 2, 3, 100, 200, 223]]))
    rope("ntk", longer, rope_type="dynamic", rope_theta=10000.0, factor=4.0)


def networks() -> None:
    config = llama.LlamaConfig(
        hidden_size=24, intermediate_size=40, num_attention_heads=6, num_key_value_heads=2, head_dim=4,
        rms_norm_eps=1e-5, num_hidden_layers=1, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    block = llama.LlamaDecoderLayer(config, 0).float()
    for name, weight in block.named_parameters():
        weight.data = torch.randn(weight.shape).float() / (1 if weight.ndim == 1 else weight.shape[1] ** 0.5)
        arrays[f"in_block_{name}"] = weight.data.numpy()
    x = random("block", 1, 6, 24)
    positions = torch.arange(6)[None]
    tables = llama.LlamaRotaryEmbedding(config)(x.float(), positions)
    mask = torch.full((6, 6), float("-inf")).triu(1)[None, None].float()
    block.eval()
    out = block(x.float(), attention_mask=mask, position_embeddings=tables, position_ids=positions)
    result("block_f32", out[0] if isinstance(out, tuple) else out)
    result("swiglu_f32", block.mlp(x.float()))


def experts() -> None:
    config = mixtral.MixtralConfig(
        hidden_size=12, intermediate_size=20, num_local_experts=5, num_experts_per_tok=2, num_hidden_layers=1,
        experts_implementation="eager",
    )  # fmt: skip
    layer = mixtral.MixtralSparseMoeBlock(config).float().eval()
    for name, weight in layer.named_parameters():
        weight.data = torch.randn(weight.shape).float() / weight.shape[-1] ** 0.5
        arrays[f"in_moe_{name}"] = weight.data.numpy()
    x = random("moe", 1, 9, 12)
    out = layer(x.float())
    result("moe_f32", out[0] if isinstance(out, tuple) else out)


for part in (activations, probabilities, norms, attentions, ropes, networks, experts):
    with torch.enable_grad() if part is activations else torch.no_grad():
        part()
arrays["made_with"] = np.array(
    f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}, seed {SEED}"
)
np.savez_compressed(TARGET, **arrays)
print(f"{TARGET}: {len(arrays)} arrays, {TARGET.stat().st_size} bytes; {arrays['made_with']}")
