"""Each alert rings when it should and is silent when it should be, as Prometheus's own `promtool` computes it."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "ops/prometheus/alerts.yml"
RUNBOOK = ROOT / "docs/guides/runbook.md"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing; Debian and Ubuntu have it in the package prometheus"
)


def rules() -> list[dict[str, Any]]:
    """Every rule of the file."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@dataclass(frozen=True)
class Case:
    """Series, a sample a minute, from which an alert rings, and others from which it does not; promtool's notation."""

    rings: dict[str, str]
    calm: dict[str, str]
    #: When it is asked, in minutes.
    at: int = 30


def steady(number: float) -> str:
    """The same number all the time."""
    return f"{number}x100"


def rising(by: float) -> str:
    """A counter that rises by so much a minute."""
    return f"0+{by}x100"


def once(at: int = 10) -> str:
    """A counter that rises by one, once."""
    return f"0x{at} 1x{90 - at}"


UP = {'conveyor_redis_reached{instance="w1"}': steady(1), 'conveyor_worker_slots{instance="w1"}': steady(8)}
GATEWAY = {'conveyor_redis_reached{instance="g"}': steady(1), 'conveyor_worker_slots{instance="g"}': steady(0)}
LANES, WINDOW, PLACES = 'conveyor_lane_jobs{tier="none"}', "conveyor_window_jobs", "conveyor_window_places"
ENDED = 'conveyor_jobs_ended_total{state="%s"}'


def buckets(name: str, at: str, labels: str = "") -> dict[str, str]:
    """A histogram in which each minute brings ten observations in the bucket `at` and none below it."""
    return {
        f'{name}_bucket{{{labels}le="0.1"}}': rising(0),
        f'{name}_bucket{{{labels}le="{at}"}}': rising(10),
        f'{name}_bucket{{{labels}le="+Inf"}}': rising(10),
    }


CASES: dict[str, Case] = {
    "ConveyorNotScraped": Case({"up": steady(0)}, UP),
    "ConveyorNoWorker": Case(GATEWAY, GATEWAY | UP),
    "ConveyorRedisAway": Case(
        UP | {'conveyor_redis_reached{instance="w2"}': steady(0)},
        UP | {'conveyor_redis_reached{instance="w2"}': "1 0 1x98"},
    ),
    "ConveyorNothingMoves": Case(
        {LANES: steady(3), WINDOW: steady(0), 'conveyor_pauses{scope="all"}': steady(0)},
        {LANES: steady(3), WINDOW: steady(0), 'conveyor_pauses{scope="all"}': steady(1)},
    ),
    # The same number from two processes is one number; jobs wait for slots while the budget is short.
    "ConveyorWorkOverdue": Case(
        {f'conveyor_overdue_seconds{{set="due",instance="{one}"}}': steady(90) for one in "ab"},
        {
            'conveyor_overdue_seconds{set="due",instance="a"}': steady(40),
            'conveyor_overdue_seconds{set="starting",instance="a"}': steady(120),
        },
    ),
    "ConveyorJobsWaitLong": Case(
        {'conveyor_lane_oldest_seconds{tier="pro"}': "0+60x100"},
        {'conveyor_lane_oldest_seconds{tier="pro"}': steady(600)},
    ),
    "ConveyorWindowFull": Case(
        {LANES: steady(3), WINDOW: steady(200), PLACES: steady(200)},
        {LANES: steady(0), WINDOW: steady(200), PLACES: steady(200)},
    ),
    "ConveyorJobsFail": Case(
        {ENDED % "failed": rising(1), ENDED % "timed_out": rising(1), ENDED % "succeeded": rising(2)},
        {ENDED % "failed": rising(0.2), ENDED % "timed_out": rising(0), ENDED % "succeeded": rising(0.2)},
    ),
    "ConveyorPausedLong": Case(
        {"conveyor_pause_oldest_seconds": "0+60x100"}, {"conveyor_pause_oldest_seconds": steady(0)}, at=62
    ),
    "ConveyorKeyRefused": Case(
        {'conveyor_job_errors_total{code="insufficient_credit"}': once(25)},
        {'conveyor_job_errors_total{code="upstream_failed"}': rising(1)},
    ),
    "ConveyorApiInTrouble": Case({"conveyor_breaker_open": steady(1)}, {"conveyor_breaker_open": "0 1 0x98"}),
    "ConveyorSlowedDown": Case({"conveyor_budget_factor": steady(0.25)}, {"conveyor_budget_factor": steady(0.9)}),
    "ConveyorBudgetShort": Case(
        buckets("conveyor_token_wait_seconds", "30.0", 'class="submit",'),
        buckets("conveyor_token_wait_seconds", "1.0", 'class="submit",')
        | buckets("conveyor_token_wait_seconds", "30.0", 'class="look",'),
    ),
    "ConveyorAnswersLost": Case(
        {
            'conveyor_submits_total{outcome="undecided"}': rising(1),
            'conveyor_submits_total{outcome="submitted"}': rising(4),
        },
        {
            'conveyor_submits_total{outcome="undecided"}': once(28),
            'conveyor_submits_total{outcome="submitted"}': rising(0.5),
        },
    ),
    "ConveyorStrayRuns": Case(
        {"conveyor_strays_cancelled_total": once()}, {"conveyor_strays_cancelled_total": steady(4)}
    ),
    "ConveyorNewsLate": Case(
        buckets("conveyor_detection_delay_seconds", "300.0"), buckets("conveyor_detection_delay_seconds", "2.0"), at=40
    ),
    "ConveyorHintsMissing": Case(
        {
            'conveyor_ends_hinted_total{hinted="yes"}': rising(0.1),
            'conveyor_ends_hinted_total{hinted="no"}': rising(1),
        },
        {
            'conveyor_ends_hinted_total{hinted="yes"}': rising(0.1),
            'conveyor_ends_hinted_total{hinted="no"}': rising(0.2),
        },
        at=60,
    ),
    "ConveyorResultsUnread": Case(
        {'conveyor_group_oldest_seconds{frontend="web",group="bot"}': "0+60x100"},
        {'conveyor_group_oldest_seconds{frontend="web",group="bot"}': steady(30)},
    ),
    # Old ones are no news; the first ever are.
    "ConveyorDeadLetters": Case(
        {'conveyor_dead_letters{frontend="web"}': steady(2)},
        {'conveyor_dead_letters{frontend="web"}': steady(2)},
        at=30,
    ),
    "ConveyorStreamLong": Case(
        {'conveyor_result_stream_length{frontend="web"}': steady(200000)},
        {'conveyor_result_stream_length{frontend="web"}': steady(5000)},
    ),
    "ConveyorCallbacksGivenUp": Case(
        {'conveyor_callbacks_total{outcome="failed"}': once()}, {'conveyor_callbacks_total{outcome="again"}': rising(2)}
    ),
    "ConveyorArchiveBehind": Case(
        {'conveyor_overdue_seconds{set="archives"}': "0+60x100"},
        {'conveyor_overdue_seconds{set="archives"}': steady(300)},
    ),
    "ConveyorArchiveGivenUp": Case(
        {'conveyor_archived_total{outcome="failed"}': once()}, {'conveyor_archived_total{outcome="again"}': rising(1)}
    ),
    "ConveyorGatewayFails": Case(
        {
            'conveyor_http_requests_total{method="GET",status="503"}': rising(1),
            'conveyor_http_requests_total{method="GET",status="200"}': rising(9),
        },
        {
            'conveyor_http_requests_total{method="GET",status="404"}': rising(9),
            'conveyor_http_requests_total{method="GET",status="200"}': rising(1),
        },
    ),
    "ConveyorLoopLags": Case(
        buckets("conveyor_loop_lag_seconds", "2.5", 'instance="w1",'),
        buckets("conveyor_loop_lag_seconds", "0.25", 'instance="w1",'),
    ),
    "ConveyorWorkerStarved": Case(
        {'conveyor_worker_starved_seconds{instance="w1"}': "0+1x100"},
        {'conveyor_worker_starved_seconds{instance="w1"}': steady(4)},
    ),
    "ConveyorChoresFail": Case(
        {'conveyor_chores_failed_total{chore="rescue"}': rising(3)},
        {'conveyor_chores_failed_total{chore="rescue"}': once()},
    ),
    "ConveyorForeignMessages": Case(
        {'conveyor_rejected_messages_total{reason="not_json"}': once()},
        {'conveyor_rejected_messages_total{reason="not_json"}': steady(5)},
    ),
}
#: Asked when the series of `calm` have been as they are for long.
LATER = {"ConveyorDeadLetters": 95}


def test_every_alert_has_a_case() -> None:
    """And no alert has been forgotten here when it was renamed or taken away."""
    assert list(CASES) == [rule["alert"] for rule in rules()]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """One of two severities, a sentence, and a section of the runbook that is there: what is seen, what it means, what to do."""
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("page", "look")
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert (ROOT / page, anchor) == (RUNBOOK, rule["alert"].lower())
    section = re.search(rf"^## {rule['alert']}\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert section
    assert re.findall(r"^\*\*(Seen|Means|Do)\*\*", section[1], re.MULTILINE) == ["Seen", "Means", "Do"]


def _test(name: str, series: dict[str, str], at: int, *, rings: bool) -> dict[str, Any]:
    alert = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    rung = [{"labels": "{}", "value": 1}] if rings else []
    return {
        "name": f"{name} {'rings' if rings else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": alert, "eval_time": f"{at}m", "exp_samples": rung}],
    }


@needs_promtool
def test_alerts_ring_when_they_should(tmp_path: Path) -> None:
    """promtool plays both cases of every alert, and can read the example of a configuration, which names the rules."""
    tests = [_test(name, case.rings, case.at, rings=True) for name, case in CASES.items()]
    tests += [_test(name, case.calm, LATER.get(name, case.at), rings=False) for name, case in CASES.items()]
    file = tmp_path / "alerts_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))

    checked = subprocess.run(
        ["promtool", "check", "rules", RULES], check=False, capture_output=True, text=True, timeout=60
    )
    played = subprocess.run(
        ["promtool", "test", "rules", file], check=False, capture_output=True, text=True, timeout=60
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert played.returncode == 0, played.stdout + played.stderr
