"""One finding of the doctor."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]

#: Seconds something may be late before it counts: what is overdue by less is being repaired.
GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `fail` makes the command fail, `warn` does not; both say how to fix it."""

    name: str
    verdict: Verdict
    finding: str
    fix: str = ""


def ok(name: str, finding: str) -> Check:
    """All is well."""
    return Check(name, "ok", finding)


def warn(name: str, finding: str, fix: str) -> Check:
    """Worth a look."""
    return Check(name, "warn", finding, fix)


def fail(name: str, finding: str, fix: str) -> Check:
    """Something does not work, or something will be lost."""
    return Check(name, "fail", finding, fix)


def several(number: int, one: str, many: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
