"""What is there to be followed? Runs that arrive so that a given number is always in flight, the same for every policy."""

import math
import random
from dataclasses import dataclass, field


@dataclass
class VirtualRun:
    """One run, in virtual seconds."""

    deployment: str
    submitted: float
    started: float
    ended: float
    #: When a policy last looked at it, how often it has, and whether it has seen it started.
    looked: float = 0.0
    looks: int = 0
    seen_started: bool = False
    hinted: float | None = None


def _log_normal(rng: random.Random, median: float, sigma: float) -> float:
    return median * math.exp(rng.gauss(0.0, sigma))


@dataclass
class Workload:
    """A seeded source of runs."""

    name: str
    seed: int
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def run(self, now: float) -> VirtualRun:
        """The next run, submitted now."""
        rng = self.rng
        kind = rng.choice(["image", "cold", "video"]) if self.name == "mix" else self.name
        wait = rng.uniform(0.3, 1.0)
        if kind == "cold" and rng.random() < 0.15:
            wait = 45.0 + rng.uniform(-5.0, 5.0)
        took = _log_normal(rng, 150.0 if kind == "video" else 12.0, 0.3)
        return VirtualRun(kind, now, now + wait, now + wait + took, looked=now)


#: Name -> what it is, for the table.
WORKLOADS = {
    "image": "log-normal, median 12 s, sigma 0.3",
    "cold": "the same, 15 % with a cold start of 45 s",
    "video": "log-normal, median 150 s, sigma 0.3",
    "mix": "a third of each, three deployments",
}
