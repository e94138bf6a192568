"""Tokens as chips and labels: text where a reader can see it, bytes in hex where not, never a replacement character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.tokenization import Token, decoded
from ui.figures import Picture, tokens

CHIPS = 400  # more than that, and a picture is no longer read
LABEL = 24


def is_seen(character: str) -> bool:
    """Is there something to see? Control characters, joiners and variation selectors leave no mark of their own."""
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return character in " \n\t\r" or (character.isprintable() and not selector)


def piece(data: bytes, **more: Any) -> dict[str, Any]:
    """A chip of these bytes, with whatever else it shows: id, note, key."""
    text = decoded(data) or ""
    return {**({"text": text} if any(map(is_seen, text)) else {}), "hex": data.hex(" "), **more}


def label(data: bytes) -> str:
    """Bytes as a label in a table or a sentence, the middle of long ones left out."""
    text = decoded(data) or ""
    visible = text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    shown = visible if any(map(is_seen, text)) else data.hex(" ")
    return shown if len(shown) <= LABEL else f"{shown[: LABEL // 2]}…{shown[-LABEL // 2 :]}"


def chips(
    found: Sequence[Token], *, title: str = "", show: Sequence[str] = (), marked: Sequence[int] = (), of: str = "id"
) -> Picture:
    """The first tokens of a text. Chips with the same id light up together, in those pictures that share `of`."""
    pieces = [
        piece(token.bytes, note="dropped") if token.id is None
        else piece(token.bytes, id=token.id, key=f"{of}:{token.id}")
        for token in found[:CHIPS]
    ]  # fmt: skip
    return tokens(pieces, title=title, show=show, marked=[place for place in marked if place < CHIPS])


def shortened(count: int) -> str:
    """What to add to the sentence where not every token is drawn."""
    return f" The first {CHIPS} are drawn; the download has all." if count > CHIPS else ""


def grouped(count: int) -> str:
    """12345 -> 12,345, as everywhere on the site."""
    return f"{count:,}"


def many(count: int, what: str) -> str:
    """1 token, 2 tokens."""
    return f"{grouped(count)} {what}{'' if count == 1 else 's'}"
