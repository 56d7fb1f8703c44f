"""What does the stored budget mean at this moment? The hash as `take_tokens.lua` would read it now, for operators.

Reads only: the next caller's script does the same sums and writes them down.
"""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from shared.limits.bucket import BREAKER_THRESHOLD, RECOVERY_PER_SECOND, CallClass
from shared.settings import Settings

CLASSES: tuple[CallClass, ...] = get_args(CallClass)
#: A burst holds a token for each class and one for whoever comes (`take_tokens.lua`).
LEAST_BURST = len(CLASSES) + 1


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of one account."""

    account: str
    #: Calls a second and calls at once, and whether an operator has set them live.
    rate: float
    rate_set: bool
    burst: int
    burst_set: bool
    #: The part of the rate that is left after the last 429s; 1.0 in quiet times.
    factor: float
    tokens: float
    #: Seconds for which nobody may call; 0.0 when the bucket is open.
    closed_seconds: float
    #: The circuit breaker. Half-open: one probe at a time.
    breaker: Literal["closed", "open", "half-open"]
    #: Calls that failed in a row, and how often that has opened the breaker.
    failures: int
    opened: int
    #: How often the API pushed back (429).
    pushed_back: int
    granted: dict[CallClass, int]
    #: Asked and told to wait; a caller that waits asks again and again.
    refused: dict[CallClass, int]

    @property
    def now(self) -> float:
        """Calls a second at this moment."""
        return self.rate * self.factor

    @classmethod
    def read(cls, stored: dict[str, str], settings: Settings, now: float) -> Self:
        """The stored hash at `now`, seconds on Redis's clock."""

        def number(name: str, otherwise: float = 0.0) -> float:
            return float(stored.get(name, otherwise))

        rate, burst = number("rate", settings.rate_per_second), number("burst", settings.rate_burst)
        at, tokens = min(now, number("at", number("closed_until", now))), number("tokens", burst)
        recovering = min(now - at, max(0.0, now - number("recovers_from")))
        factor = min(1.0, number("factor", 1.0) + recovering * RECOVERY_PER_SECOND)
        closed = max(0.0, number("closed_until") - now)
        if "closed_until" in stored:  # a pause ends gently: with one token at most
            tokens = min(1.0, tokens + max(0.0, number("closed_until") - at) * rate * factor)
            at = max(at, number("closed_until"))
        failures = int(number("failures"))
        tripped = failures >= BREAKER_THRESHOLD
        return cls(
            account=settings.account,
            rate=rate,
            rate_set="rate" in stored,
            burst=max(LEAST_BURST, int(burst)),
            burst_set="burst" in stored,
            factor=factor,
            tokens=min(burst, tokens + max(0.0, now - at) * rate * factor),
            closed_seconds=closed,
            breaker=("open" if closed else "half-open") if tripped else "closed",
            failures=failures,
            opened=int(number("opened")),
            pushed_back=int(number("pushed_back")),
            granted={name: int(number(f"granted:{name}")) for name in CLASSES},
            refused={name: int(number(f"refused:{name}")) for name in CLASSES},
        )
