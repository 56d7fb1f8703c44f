"""By which word do metrics tell a job's tier? Tiers are free text of frontends, and a label may take few values.

One of the names in `CONVEYOR_TIER_WEIGHTS`, or `none`, or `other`.
"""

from collections.abc import Iterable

NO_TIER = "none"
OTHER_TIER = "other"


def tier_name(tier: str | None, known: Iterable[str]) -> str:
    """The word for a tier, as lanes read it: by its exact name."""
    if not tier:
        return NO_TIER
    return tier if tier in known else OTHER_TIER


def tier_names(known: Iterable[str]) -> list[str]:
    """Every word there is."""
    return list(dict.fromkeys([*known, NO_TIER, OTHER_TIER]))
