"""Writes tests/goldens/smollm2.npz: what Hugging Face and PyTorch make of SmolLM2's dequantised weights, in float32.

Run by hand: PYTHON tests/references/make_smollm2_goldens.py /path/to/SmolLM2-135M-Instruct.Q4_1.gguf
PYTHON is an environment as in smollm2_torch.py. Token ids come from a tokenizer built here from the file's own
vocabulary with Hugging Face's `tokenizers`. For each prompt: ids, the 20 likeliest next tokens at every position with
log-probabilities, log-probability of the token that follows, 32 fixed columns of the logits, the stream after some
blocks at the last position. For some also greedy continuations and the gradient of the loss at the input vectors.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np
import smollm2_torch
import tokenizers
import torch
import transformers
from gguf import GGUFReader

PROMPTS = {
    "france": "The capital of France is",
    "sentence": "If the human brain were so simple that we could understand it, we would be so simple that "
    "we couldn't.",
    "one": "Hello",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + ",
    "german": "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung",
    "japanese": "吾輩は猫である。名前はまだ無い。",
    "arabic": "يولد جميع الناس أحرارا متساوين في الكرامة",
    "numbers": "Pi is 3.14159265358979, and 12 * 12 = 144;   e is 2.71828",
    "repeated": "red blue green seven red blue green seven red blue green",
    "emoji": "I am so happy 😀👍🏽 because",
    "spaces": "  \n\n\t  indented   strangely \n",
    "chat": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
}
GREEDY = {"france": 24, "chat": 32, "code": 16}
GRADIENT = ("france", "german")
STREAM_AFTER = (0, 7, 15, 22, 28)  # the last block's is not among the hidden states: theirs is normalised
COLUMNS = np.random.default_rng(0).choice(49152, 32, replace=False)


def file_tokenizer(reader: GGUFReader) -> tokenizers.Tokenizer:
    """SmolLM2's tokenizer: single digits split off first, then GPT-2's pattern; marked tokens are special."""
    fields = {name: reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "token_type")}
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    vocabulary = {token: i for i, token in enumerate(fields["tokens"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True),
         tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )  # fmt: skip
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = [token for token, kind in zip(fields["tokens"], fields["token_type"], strict=True) if kind == 3]
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def look(model: transformers.LlamaForCausalLM, ids: list[int]) -> dict[str, np.ndarray]:
    """Everything that is kept of one prompt."""
    with torch.inference_mode():
        result = model(torch.tensor([ids]), output_hidden_states=True)
    logits = result.logits[0]
    log_p = torch.log_softmax(logits.double(), -1)
    top = log_p.topk(20)
    following = log_p[torch.arange(len(ids) - 1), torch.tensor(ids[1:], dtype=torch.long)]
    return {
        "ids": np.array(ids, np.int32), "top_ids": top.indices.numpy().astype(np.int32),
        "top_log_p": top.values.numpy().astype(np.float32), "surprisal": -following.numpy(),
        "columns": logits[:, COLUMNS].numpy(),
        "stream": torch.stack([result.hidden_states[i + 1][0, -1] for i in STREAM_AFTER]).numpy(),
    }  # fmt: skip


def gradient(model: transformers.LlamaForCausalLM, ids: list[int]) -> np.ndarray:
    """Of the mean next-token cross entropy, with respect to the input vectors."""
    tokens = torch.tensor([ids])
    vectors = model.get_input_embeddings()(tokens).detach().requires_grad_()
    logits = model(inputs_embeds=vectors).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, tokens[0, 1:]).backward()
    return vectors.grad[0].numpy()


def greedy(model: transformers.LlamaForCausalLM, ids: list[int], count: int) -> np.ndarray:
    """The likeliest token, again and again, until one ends the text."""
    with torch.inference_mode():
        result = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=count, do_sample=False,
            eos_token_id=[0, 2], pad_token_id=2,
        )  # fmt: skip
    return result[0, len(ids) :].numpy().astype(np.int32)


def main(path: str) -> None:
    """Run all prompts and write the file."""
    torch.manual_seed(0)
    tokenizer = file_tokenizer(GGUFReader(path))
    model = smollm2_torch.load(path, attention="eager")
    kept: dict[str, np.ndarray] = {"column_ids": COLUMNS, "stream_after": np.array(STREAM_AFTER)}
    for name, prompt in PROMPTS.items():
        ids = tokenizer.encode(prompt).ids
        kept |= {f"{name}.{part}": value for part, value in look(model, ids).items()}
        if name in GREEDY:
            kept[f"{name}.greedy"] = greedy(model, ids, GREEDY[name])
        if name in GRADIENT:
            kept[f"{name}.gradient"] = gradient(model, ids)
        best = kept[f"{name}.top_ids"][-1, 0]
        print(name, len(ids), repr(tokenizer.decode([int(best)])), np.exp(kept[f"{name}.top_log_p"][-1, 0]))
        if name in GREEDY:
            print("   ", repr(tokenizer.decode(kept[f"{name}.greedy"].tolist())))
    versions = {module.__name__: module.__version__ for module in (torch, transformers, tokenizers, np)}
    versions["python"] = platform.python_version()
    kept["about"] = np.array(json.dumps({"prompts": PROMPTS, "versions": versions, "seed": 0}))
    out = Path(__file__).parent.parent / "goldens" / "smollm2.npz"
    np.savez_compressed(out, **kept)
    print(out, out.stat().st_size, versions)


if __name__ == "__main__":
    main(*sys.argv[1:])
