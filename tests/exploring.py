"""How many examples do property tests try? Enough for every run; `EXPLORE=10` tries ten times as many."""

import os

EXPLORE = int(os.environ.get("EXPLORE", "1"))


def examples(number: int) -> int:
    """So many in a run of every day."""
    return number * EXPLORE
