"""One text in all four encodings, tokenized twice: by tiktoken, and by merging in plain Python."""

from __future__ import annotations

from dataclasses import dataclass

from engine.proofs import stored_json
from engine.tokenization import ENCODINGS, encode, missing_bytes, token_bytes, tokens_by_merging


@dataclass(frozen=True)
class Tokenized:
    """A text in one encoding."""

    encoding: str
    ids: tuple[int, ...]  # by tiktoken
    merged: tuple[bytes, ...]  # the tokens' bytes, by merging
    same: bool  # do both cut alike?
    back: bool  # are the tokens, end to end, the text's own bytes?
    dropped: int  # bytes of the text that the encoding has no token for
    stored: bool | None  # equal to what Hugging Face made of it; None where nothing is stored for this text


def tokenized(text: str) -> list[Tokenized]:
    """The text in every encoding."""
    return [_in(name, text) for name in ENCODINGS]


def _in(name: str, text: str) -> Tokenized:
    ids, merged = tuple(encode(text, name)), tuple(tokens_by_merging(text, name))
    pieces, lost = [token_bytes(i, name) for i in ids], missing_bytes(name)
    data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    kept = bytes(byte for byte in data if byte not in lost)
    known = _by_hugging_face().get(text) if name == "smollm2" else None
    return Tokenized(
        encoding=name,
        ids=ids,
        merged=merged,
        same=list(merged) == pieces,
        back=b"".join(pieces) == kept,
        dropped=len(data) - len(kept),
        stored=None if known is None else known == list(ids),
    )


def _by_hugging_face() -> dict[str, list[int]]:
    return {case["text"]: case["ids"] for case in stored_json("tokenization_smollm2")["cases"]}
