"""Watching on the command line: the live table, `--wait`, `--follow`, and Ctrl-C, as a person at a terminal meets them."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from producers.cli.progress import LiveTable
from shared.jobs.event import Event, EventUser, QueuePlace
from shared.jobs.states import JobState
from tests.service.cli_stage import Program, Stage, conveyor

pytestmark = pytest.mark.redis

JOB = ("enqueue", "--workflow", "portrait", "--user", "ada")


def test_the_live_table_shows_a_job_to_its_end(stage: Stage) -> None:
    """State, progress, then the picture; and the exit code is 0."""
    with Program(*JOB, "--wait", url=stage.url, terminal=True) as program:
        [job_id] = stage.jobs()
        program.until(job_id)
        stage.run(job_id)
        program.until("50% KSampler")
        stage.succeed(job_id)
        assert program.end() == 0
    assert "https://pictures.test/fox.png" in program.text
    assert "1 of 1 ended" in program.text


def test_a_failing_job_leaves_with_1(stage: Stage) -> None:
    """`enqueue --wait` says what went wrong, on a terminal and in JSON."""
    with (
        Program(*JOB, "--wait", "--json", url=stage.url) as program,
        Program("results", "cli", "--follow", url=stage.url, terminal=True) as other,
    ):
        [job_id] = stage.jobs()
        stage.run(job_id)
        stage.fail(job_id)
        assert program.end() == 1
        other.until("CUDA out of memory")
    final = json.loads(program.text.splitlines()[-1])
    assert (final["job_id"], final["error"]["message"]) == (job_id, "CUDA out of memory")


def test_watching_several_jobs_leaves_with_1_when_one_failed(stage: Stage) -> None:
    """The others' success does not hide it."""
    assert conveyor(*JOB, "--count", "2").exit_code == 0
    good, poor = stage.jobs()
    for job_id in (good, poor):
        stage.run(job_id)
    with Program("watch", good, poor, url=stage.url, terminal=True) as program:
        program.until("running")
        stage.succeed(good)
        program.until("1 of 2 ended")
        stage.fail(poor)
        assert program.end() == 1


def test_ctrl_c_leaves_the_jobs_and_says_how_to_come_back(stage: Stage) -> None:
    """Exit code 130, one line, no traceback; the job goes on."""
    with Program(*JOB, "--wait", url=stage.url, terminal=True) as program:
        [job_id] = stage.jobs()
        program.until(job_id)
        program.interrupt()
        assert program.end() == 130
    assert f"conveyor watch {job_id}" in program.text
    assert "Traceback" not in program.text
    assert json.loads(conveyor("status", job_id, "--json").stdout)["state"] == "queued"


def test_results_follow_goes_on_until_ctrl_c(stage: Stage) -> None:
    """What was there, then what comes, in the order of the stream."""
    first = json.loads(conveyor(*JOB, "--json").stdout)["job_id"]
    with Program("results", "cli", "--follow", "--json", url=stage.url) as program:
        program.until(first)
        second = json.loads(conveyor(*JOB, "--json").stdout)["job_id"]
        program.until(second)
        program.interrupt()
        assert program.end() == 130
    assert [json.loads(line)["job_id"] for line in program.text.splitlines()] == [first, second]


def test_results_follow_can_begin_with_nothing(stage: Stage) -> None:
    """`--last 0` shows only what comes; the stream need not exist yet."""
    old = json.loads(conveyor(*JOB, "--json", "--frontend", "web").stdout)["job_id"]
    with (
        Program("results", "web", "--follow", "--last", "0", "--json", url=stage.url) as web,
        Program("results", "cli", "--follow", "--json", url=stage.url) as cli,
    ):
        stage.until(lambda: stage.redis.info("clients")["blocked_clients"] == 2)  # type: ignore[index]
        for frontend, program in (("web", web), ("cli", cli)):
            job_id = json.loads(conveyor(*JOB, "--json", "--frontend", frontend).stdout)["job_id"]
            program.until(job_id)
            program.interrupt()
            assert program.end() == 130
            assert len(program.text.splitlines()) == 1
    assert old not in web.text


def test_taking_from_a_group_follows_too(stage: Stage) -> None:
    """With `--group` each event is acknowledged once it is printed."""
    with Program("results", "cli", "--group", "mirror", "--follow", url=stage.url) as program:
        job_id = json.loads(conveyor(*JOB, "--json").stdout)["job_id"]
        program.until(job_id)
        # Not before it is acknowledged: a Ctrl-C in between would make it come again, as it should.
        stage.until(lambda: stage.redis.xpending("conveyor:results:cli", "mirror")["pending"] == 0)  # type: ignore[index]
        program.interrupt()
        assert program.end() == 130
    assert conveyor("results", "cli", "--group", "mirror").stdout == ""


@pytest.mark.parametrize("words", [("results", "list", "cli"), ("results", "cli"), ("results", "--last", "5", "cli")])
def test_results_lists_with_and_without_its_word(stage: Stage, words: tuple[str, ...]) -> None:
    """`conveyor results FRONTEND` is what it always was."""
    job_id = json.loads(conveyor(*JOB, "--json").stdout)["job_id"]
    assert job_id in conveyor(*words).stdout


def event(job_id: str, state: JobState, **more: object) -> Event:
    """An event as the table gets it."""
    fields = {"schema": "conveyor.event/1", "type": "job.queued", "job_id": job_id, "seq": 1, "state": state}
    fields |= {"at": datetime.now(UTC), "final": False, "frontend": "cli", "user": EventUser(id="ada")}
    return Event.model_validate(fields | more)


def test_the_table_shows_running_jobs_first_when_not_all_fit() -> None:
    """Of a hundred jobs on a small screen those that move are seen, and the rest is counted."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=16)
    ids = [f"job-{number:03}" for number in range(100)]
    with LiveTable(console, ids) as table:
        for job_id in ids:
            table.tell(event(job_id, JobState.QUEUED, queue=QueuePlace(position=8, ahead=7)))
        table.place("job-001", QueuePlace(position=4, ahead=3))
        table.tell(event("job-099", JobState.RUNNING))
    shown = screen.getvalue().rpartition("\x1b[2K")[2] or screen.getvalue()
    assert "job-099" in shown
    assert "3 ahead" in shown
    assert "7 ahead" in shown
    assert "90 not shown" in shown
