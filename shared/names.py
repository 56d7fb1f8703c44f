"""Which name did somebody mean? People leave out spaces and capitals, and hit the wrong key."""

import difflib
from collections.abc import Iterable


def tolerant(name: str) -> str:
    """A name without case, spaces and punctuation, in any script: `SDXL  Portrait!` is `sdxlportrait`."""
    return "".join(character for character in name.casefold() if character.isalnum())


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` Did you mean …?` with at most three names that look like this one, the nearest first; or nothing."""
    spellings = {tolerant(one): one for one in names}
    near = [spellings[one] for one in difflib.get_close_matches(tolerant(name), spellings, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
