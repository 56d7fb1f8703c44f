"""Which fault comes when? Drawn from a seed alone: the same seed, length and intensity give the same plan.

Faults are cards of a deck: the deck is shuffled and dealt, one card every few seconds, and shuffled again when it is
empty. So a run of two minutes meets every kind, each seed in another order, beside other faults.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Time for the first jobs to get going, and for the last fault to bite before the end.
LEAD_IN_SECONDS, LEAD_OUT_SECONDS = 5.0, 3.0
#: Between two cards at intensity 1; a short run has more of them in less time.
GAP_SECONDS, SHORT_GAP_SECONDS = 2.5, 1.2
#: No probability is raised above this: an API that never answers is the outage's business.
HIGHEST_PROBABILITY = 0.9
#: Runs shorter than this leave out the cards that need a minute to heal, and halve the length of the others.
SHORT_SECONDS = 60.0

SUBMIT = "POST /run/deployment/queue"


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of fault, and the bounds its dice stay within."""

    kind: str
    copies: int = 1
    #: How long it lasts.
    seconds: tuple[float, float] = (0.0, 0.0)
    #: Chance of each occasion, for faults of the simulator.
    probability: tuple[float, float] = (1.0, 1.0)
    #: How many messages, for faults of the broker.
    count: int = 0
    #: Lines of the simulator's fault menu that are in force meanwhile; `probability` is filled in.
    simulator: tuple[Mapping[str, Any], ...] = ()
    #: A job it hits may need a minute: the search for a lost submit, the deadline of a stuck run.
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the plan."""

    at: float
    kind: str
    #: Drawn for faults that pick a process.
    pick: int = 0
    seconds: float = 0.0
    count: int = 0
    simulator: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.at:6.1f}s {self.kind}"]
        parts += [f"for {self.seconds:.1f}s"] if self.seconds else []
        parts += [f"x{self.count}"] if self.count else []
        parts += [f"p={self.simulator[0]['probability']:.2f}"] if self.simulator else []
        return " ".join(parts)


def _api(kind: str, low: float, high: float, *, slow: bool = False, **more: Any) -> Card:
    """A fault of single calls or runs, for a few seconds."""
    return Card(kind, seconds=(4, 8), probability=(low, high), simulator=({"kind": kind, **more},), slow=slow)


DECK: tuple[Card, ...] = (
    Card("kill_worker", copies=6),
    Card("kill_consumer", copies=3),
    Card("rolling_restart"),
    Card("redis_restart", seconds=(0.2, 3)),
    Card("redis_kill", seconds=(0.2, 3)),
    Card("script_flush", copies=2),
    Card("drop_messages", copies=2, seconds=(3, 6), count=5),
    Card("double_messages", copies=2, seconds=(3, 6), count=5),
    Card("outage_503", seconds=(5, 10), simulator=({"kind": "unavailable"},), slow=True),
    Card("outage_reset", seconds=(5, 10), simulator=({"kind": "reset_before"},), slow=True),
    _api("lost_answer", 0.3, 0.6, route=SUBMIT),
    _api("lost_answer", 0.3, 0.6, route=SUBMIT, seconds=0.5),
    _api("reset_before", 0.05, 0.2, slow=True),
    _api("reset_after", 0.1, 0.25),
    _api("slow_answer", 0.2, 0.4, seconds=2),
    _api("hang", 0.03, 0.08, seconds=4, slow=True),
    _api("error_500", 0.1, 0.3),
    _api("error_500_text", 0.1, 0.3),
    _api("bad_gateway", 0.1, 0.3, slow=True),
    _api("gateway_timeout", 0.1, 0.3, slow=True),
    _api("rate_limited", 0.3, 0.6, retry_after=1),
    _api("spawn_refused", 0.2, 0.4),
    _api("failed", 0.2, 0.4),
    _api("timeout", 0.1, 0.3, workflow="S*", slow=True),
    _api("stuck", 0.1, 0.2, slow=True),
    _api("backwards", 0.3, 0.6),
    _api("unknown_status", 0.3, 0.6),
    _api("late_updates", 0.3, 0.6),
    _api("late_outputs", 0.3, 0.6, seconds=20),
    _api("no_outputs", 0.1, 0.2, slow=True),
    Card(
        "webhook_trouble",
        seconds=(6, 12),
        probability=(0.3, 0.6),
        simulator=({"kind": "hook_lost"}, {"kind": "hook_doubled"}, {"kind": "hook_reordered"}),
    ),
)


def make_plan(
    seed: int, seconds: float, intensity: float = 1.0, *, power_loss: bool = False, only: frozenset[str] = frozenset()
) -> list[Fault]:
    """Every fault of a run, by time. `intensity` deals cards faster and raises their probabilities.

    `only` deals no other kinds. `power_loss` makes every kill of Redis a power cut.
    """
    dice = random.Random(f"chaos:{seed}")
    short = seconds < SHORT_SECONDS
    cards = [
        card
        for card in DECK
        for _ in range(card.copies)
        if not (short and card.slow) and (not only or card.kind in only)
    ]
    plan: list[Fault] = []
    deck: list[Card] = []
    at = min(LEAD_IN_SECONDS, seconds / 6)
    gap = (SHORT_GAP_SECONDS if short else GAP_SECONDS) / intensity
    while at < seconds - LEAD_OUT_SECONDS:
        if not deck:
            deck = cards.copy()
            dice.shuffle(deck)
        card = deck.pop()
        chance = min(HIGHEST_PROBABILITY, dice.uniform(*card.probability) * intensity)
        chance = 1.0 if card.probability == (1.0, 1.0) else chance
        kind = "redis_power_loss" if power_loss and card.kind == "redis_kill" else card.kind
        lines = [{**line, "probability": round(chance, 3)} for line in card.simulator]
        lasts, pick = round(dice.uniform(*card.seconds) / (2 if short else 1), 1), dice.randrange(1_000_000)
        plan.append(Fault(round(at, 2), kind, pick, lasts, round(card.count * intensity), lines))
        at += gap * dice.uniform(0.5, 1.5)
    return plan
