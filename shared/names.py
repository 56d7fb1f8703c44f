"""Which name did somebody mean? People leave out spaces and capitals, and hit the wrong key."""

import difflib
import unicodedata
from collections.abc import Iterable

#: The same letter can be written in several ways, and leaving a character out can bring two together that are one letter.
_MOST_ROUNDS = 8


def tolerant(name: str) -> str:
    """A name without case, spaces and punctuation, in any script: `SDXL  Portrait!` is `sdxlportrait`.

    Accents and vowel signs count, however they are encoded. A name without a letter or digit keeps its symbols, and one
    without these everything but spaces: so `🎨` and `!!!` are names, and two. Empty only for spaces and what cannot be
    seen. A second time changes nothing.
    """
    for kinds in ("LNM", "S"):
        kept = _settled(name, kinds)
        if any(unicodedata.category(character)[0] in kinds.replace("M", "") for character in kept):
            return kept
    return _settled(name, "LNMSP")


def _settled(name: str, kinds: str) -> str:
    for _ in range(_MOST_ROUNDS):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        kept = "".join(c for c in folded if unicodedata.category(c)[0] in kinds and not _is_variation(c))
        if kept == name:
            break
        name = kept
    return name


def _is_variation(character: str) -> bool:
    """Says only how the character before it is drawn."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` Did you mean …?` with at most three names that look like this one, the nearest first; or nothing."""
    spellings = {tolerant(one): one for one in names}
    near = [spellings[one] for one in difflib.get_close_matches(tolerant(name), spellings, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
