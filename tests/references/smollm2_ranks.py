"""SmolLM2's vocabulary as a rank file, so that its tokenizer works without the model's 98 MB file.

Run by hand:

    python tests/references/smollm2_ranks.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf

Writes data/tokenizers/smollm2.tiktoken in tiktoken's format: one token a line, its bytes in base64 and its id. Ids can
serve as ranks, because the file's merges make tokens in ascending order of id; this is checked. The 17 special tokens
(ids 0 to 16) are left out, being names and not bytes of text.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import gguf

SOURCE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TARGET = Path(__file__).parent.parent.parent / "data" / "tokenizers" / "smollm2.tiktoken"
SPECIAL = 17
CONTROL = 3  # the GGUF format's type number for special tokens


def byte_of_symbol() -> dict[str, int]:
    """GPT-2 writes each byte as one printable character: itself where printable, else the next above U+00FF."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def main(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SOURCE_SHA256, "not the GGUF file this was written for"
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    ids = {token: i for i, token in enumerate(tokens)}
    assert [i for i, kind in enumerate(types) if kind == CONTROL] == list(range(SPECIAL))
    assert [ids["".join(merge.split(" "))] for merge in merges] == list(range(len(tokens) - len(merges), len(tokens)))
    symbols = byte_of_symbol()
    lines = [
        base64.b64encode(bytes(symbols[symbol] for symbol in token)) + b" %d\n" % i
        for i, token in enumerate(tokens)
        if i >= SPECIAL
    ]
    TARGET.write_bytes(b"".join(lines))
    print(TARGET, len(lines), "tokens, sha256", hashlib.sha256(TARGET.read_bytes()).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
