"""How far is the rule from the best there is? For one run of a known distribution, against dynamic programming."""

import math

from tasks.schedule import LEAST_SECONDS, MOST_SECONDS

MEDIAN_SECONDS, SIGMA = 12.0, 0.3
STEP_SECONDS, HORIZON = 0.1, 500


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z * math.sqrt(0.5))


def _chance(t: float) -> float:
    return _normal(math.log(t / MEDIAN_SECONDS) / SIGMA) if t > 0 else 0.0


def _waited(t: float) -> float:
    if t <= 0:
        return 0.0
    d = math.log(t / MEDIAN_SECONDS) / SIGMA
    return t * _normal(d) - MEDIAN_SECONDS * math.exp(SIGMA * SIGMA / 2) * _normal(d - SIGMA)


def best(price: float) -> float:
    """The least expected cost in seconds (calls times price, plus delay), by backward induction over a 0.1 s grid."""
    times = [step * STEP_SECONDS for step in range(HORIZON + 1)]
    chance, waited = [_chance(t) for t in times], [_waited(t) for t in times]
    value = [0.0] * (HORIZON + 1)
    for i in range(HORIZON - 1, -1, -1):
        alive = 1.0 - chance[i]
        if alive < 1e-7:
            continue
        least = math.inf
        for j in range(i + 2, min(HORIZON, i + 150) + 1):
            late = (waited[j] - waited[i] - (times[j] - times[i]) * chance[i]) / alive
            least = min(least, price + late + (1.0 - chance[j]) / alive * value[j])
        value[i] = least
    return value[0]


def of_rule(price: float) -> tuple[float, float, float]:
    """Cost, calls and mean delay of the rule (without its jitter) when the distribution is known."""
    age = calls = late = 0.0
    while (alive := 1.0 - _chance(age)) > 1e-7:
        low, high = LEAST_SECONDS, MOST_SECONDS
        for _ in range(40):
            middle = (low + high) / 2
            caused = (_waited(age + middle) - _waited(age) - middle * (1.0 - alive)) / alive
            low, high = (middle, high) if caused < price else (low, middle)
        late += _waited(age + high) - _waited(age) - high * (1.0 - alive)
        calls += alive
        age += high
    return calls * price + late, calls, late


def comparison() -> str:
    """A table of Markdown."""
    lines = ["### The rule against the optimum", "", "One run, log-normal, median 12 s, sigma 0.3, known.", ""]
    lines += [
        "| price of a call, s | looks | mean delay, s | cost | least cost | ratio |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for price in (0.25, 0.5, 1.0, 2.0):
        cost, calls, late = of_rule(price)
        least = best(price)
        lines.append(f"| {price} | {calls:.2f} | {late:.2f} | {cost:.2f} | {least:.2f} | {cost / least:.3f} |")
    return "\n".join(lines) + "\n"
