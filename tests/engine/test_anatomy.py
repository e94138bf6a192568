"""The parts of a block sum to the published totals, and their shapes fit together and fit the real model's arrays."""

import numpy as np
import pytest

from engine.anatomy import block_parts, outside_parts
from engine.ledger import CONFIGS, active_parameters
from engine.model import load
from engine.tokenization import encode

PUBLISHED = {
    "SmolLM2-135M": 134_515_008, "GPT-2": 124_439_808, "Llama 3.1 8B": 8_030_261_248,
    "Llama 3.1 70B": 70_553_706_496, "Mistral 7B": 7_241_732_096, "Mixtral 8x7B": 46_702_792_704,
}  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_parts_sum_to_the_published_total(config):
    inside, outside = block_parts(config, 5), outside_parts(config, 5)
    total = config.layers * sum(part.parameters for part in inside) + sum(part.parameters for part in outside)
    assert total == config.parameters == PUBLISHED.get(config.name, config.parameters)
    active = config.layers * sum(part.active for part in inside) + sum(part.active for part in outside)
    assert active == active_parameters(config)
    for part in (*inside, *outside):
        assert part.parameters == sum(int(np.prod(shape)) * copies for _, shape, copies in part.arrays)
    assert len({part.name for part in (*inside, *outside)}) == len(inside) + len(outside)


def test_mixtral_works_with_a_part_of_itself():
    config = CONFIGS["Mixtral 8x7B"]
    active = sum(p.active for p in block_parts(config, 1)) * 32 + sum(p.active for p in outside_parts(config, 1))
    assert active == 12_879_925_248


def test_what_differs_between_models():
    names = {name: [part.name for part in block_parts(config, 3)] for name, config in CONFIGS.items()}
    assert "rope" in names["Llama 3.1 8B"]
    assert "rope" not in names["GPT-2"]
    assert "gate" not in names["GPT-2"]
    assert "router" in names["Mixtral 8x7B"]
    assert [name for name in names["Gemma 2 9B"] if "norm" in name] == [
        "attention norm", "attention post-norm", "feed-forward norm", "feed-forward post-norm",
    ]  # fmt: skip
    [key] = [part for part in block_parts(CONFIGS["Qwen2.5 7B"], 1) if part.name == "key"]
    assert [name for name, _, _ in key.arrays] == ["key", "key bias"]
    assert [part.name for part in outside_parts(CONFIGS["GPT-2"], 1)][1] == "position embedding"
    with pytest.raises(ValueError, match="at least one token"):
        block_parts(CONFIGS["GPT-2"], 0)


@pytest.mark.model
def test_shapes_are_those_of_the_real_models_activations():
    ids = encode("The capital of France is", "smollm2")
    trace, parts = load().trace(ids), {part.name: part for part in block_parts(CONFIGS["SmolLM2-135M"], len(ids))}
    activations = {
        "attention norm": ["attn.norm"], "query": ["attn.q_raw"], "key": ["attn.k_raw"], "value": ["attn.v"],
        "rope": ["attn.q", "attn.k"], "attention": ["attn.output"], "attention output": ["attn.out"],
        "attention sum": ["attn.resid"], "feed-forward norm": ["ffn.norm"], "gate": ["ffn.gate"], "up": ["ffn.up"],
        "activation": ["ffn.hidden"], "down": ["ffn.out"], "feed-forward sum": ["resid"],
    }  # fmt: skip
    assert activations.keys() == parts.keys()
    for name, names in activations.items():
        assert [shape for _, shape in parts[name].outs] == [trace[f"blk.3.{x}"].shape for x in names]
    [embedding, final, output] = outside_parts(CONFIGS["SmolLM2-135M"], len(ids))
    assert embedding.outs[0][1] == trace["embed"].shape
    assert final.outs[0][1] == trace["final.norm"].shape
    assert output.outs[0][1] == trace["logits"].shape
