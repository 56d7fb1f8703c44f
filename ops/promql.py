"""How a question is asked in PromQL: few shapes, so that all panels mean the same by the same word."""

from typing import Final

#: How far back a rate looks: Grafana puts at least four scrapes there.
RATE: Final = "[$__rate_interval]"


def per_second(metric: str, *by: str, labels: str = "") -> str:
    """How often something happens, all processes together."""
    return f"sum{_by(by)} (rate({metric}_total{labels}{RATE}))"


def per_minute(metric: str, *by: str, labels: str = "") -> str:
    """The same in a minute, for what is rare."""
    return f"60 * {per_second(metric, *by, labels=labels)}"


def share(metric: str, part: str) -> str:
    """Which part of what happened had these labels."""
    return f"{per_second(metric, labels=part)} / {per_second(metric)}"


def quantile(of: float, metric: str, *by: str, labels: str = "") -> str:
    """The value that so many stay below."""
    return f"histogram_quantile({of}, sum{_by((*by, 'le'))} (rate({metric}_bucket{labels}{RATE})))"


def mean(metric: str, *by: str) -> str:
    """The mean of what was observed."""
    return f"sum{_by(by)} (rate({metric}_sum{RATE})) / sum{_by(by)} (rate({metric}_count{RATE}))"


def whole(metric: str, *by: str) -> str:
    """A number of the system, which every process exports alike."""
    return f"max{_by(by)} ({metric})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def quantiles(metric: str, labels: str = "") -> list[tuple[str, str]]:
    """The middle, and the one of twenty."""
    return [("half", quantile(0.5, metric, labels=labels)), ("95 %", quantile(0.95, metric, labels=labels))]
