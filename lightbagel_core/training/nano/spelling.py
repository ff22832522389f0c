"""What the nano's tokenizer reads as one of its words: other spellings, and small slips.

They are rules of the tokenizer's own normaliser, in its file, so that every host reads alike and the VLM never sees
them. What is no slip of a word stays unknown, and is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection

OTHERWISE = {
    "grey": ("gray",),
    "centre": ("center", "middle"),
    "colour": ("color", "paint", "recolor", "recolour"),
    "large": ("big", "huge"),
    "small": ("little", "tiny"),
    "image": ("picture", "photo", "drawing"),
    "purple": ("violet",),
    "shape": ("thing", "object"),
    "shapes": ("things", "objects"),
    "delete": ("erase",),
    "into": ("onto",),
}
# Words of their own that a slip of the pen would make of a word of the world.
NO_SLIPS = frozenset(
    [
        "blank",
        "block",
        "blow",
        "brown",
        "chance",
        "charge",
        "circled",
        "dad",
        "fist",
        "greed",
        "greek",
        "greet",
        "lack",
        "otter",
        "pain",
        "plaid",
        "plan",
        "plane",
        "queen",
        "remote",
        "shade",
        "shades",
        "shake",
        "shakes",
        "shall",
        "shame",
        "shane",
        "shaped",
        "share",
        "shares",
        "shave",
        "smell",
        "squared",
        "squire",
        "stairs",
        "stall",
        "start",
        "starts",
        "stats",
        "stays",
        "sue",
        "theme",
        "these",
        "threw",
        "tree",
        "trees",
        "were",
        "while",
        "write",
    ]
)
LEAST = 5  # letters of a word in which a wrong, a missing or an added one is seen as a slip


def rules(words: Collection[str]) -> list[tuple[str, str]]:
    """(pattern, word) for all that is read as a word: the tokenizer's normaliser replaces the one by the other.

    Two neighbouring letters may have changed places in any word of three letters or more. In one of five or more a
    letter after the first may be lacking, wrong or too many.

    Args:
        words: those of the world; none of them is ever read as another.
    """
    known = {word for word in words if word.isalpha()}
    taken = known | NO_SLIPS | {other for others in OTHERWISE.values() for other in others}
    found = []
    for word in sorted(known, key=lambda w: (-len(w), w)):
        own = [re.escape(other) for other in OTHERWISE.get(word, ())]
        near = [s for s in _slips(word) if s not in taken]
        ambiguous = "|".join(sorted(other for other in taken - {word} if any(re.fullmatch(s, other) for s in near)))
        guard = rf"(?!(?:{ambiguous})\b)" if ambiguous else ""
        slips = [rf"{guard}(?:{'|'.join(near)})"] if near else []
        if own or slips:
            found.append((rf"\b(?:{'|'.join([*own, *slips])})\b", word))
    return found


def _slips(word: str) -> list[str]:
    """Patterns of what a hand makes of a word; none fits the word itself."""
    count = len(word)
    swapped = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(count - 1)]
    found = [s for s in swapped if s != word] if count >= 3 else []
    if count >= LEAST:
        found += [word[:i] + word[i + 1 :] for i in range(1, count)]
        found += [rf"{word[:i]}[^\W{word[i]}]{word[i + 1 :]}" for i in range(1, count)]
        found += [rf"{word[:i]}[a-z]{word[i:]}" for i in range(1, count)]
    return list(dict.fromkeys(found))
