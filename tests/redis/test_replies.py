"""Each line of "Replies" in the header of each script, made to happen.

A row of the table is a script, the reply in the words of its header, and a scene: it sets the stage, calls the script
once and answers what was replied and what should have been.
"""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.database import SCRIPTS, Database
from shared.identifiers import new_job_id
from tests.redis.stage import SCRIPT_NAMES, Clock, move, put, submit, take

SECRET = "whsec_" + "c2VjcmV0" * 4

Scene = Callable[[Database, Clock], Awaitable[tuple[Any, Any]]]
SCENES: dict[tuple[str, str], Scene] = {}

FLOORS = json.dumps({"submit": [0.3, 4], "look": [0.3, 4], "cancel": [0.1, 2], "catalog": [0.05, 2]})


def reply(script: str, words: str) -> Callable[[Scene], Scene]:
    """Enter a scene into the table."""

    def enter(scene: Scene) -> Scene:
        assert (script, words) not in SCENES
        SCENES[script, words] = scene
        return scene

    return enter


async def running(db: Database) -> str:
    """A job whose run has a GPU."""
    job_id = await put(db)
    await take(db)
    await submit(db, job_id, "run-1")
    await move(db, job_id, "submitted", "running")
    return job_id


async def handed(db: Database) -> list[str]:
    """The two events of one job, both handed to consumer `a` of group `g`; answers their stream ids."""
    stream = db.keys.results("web")
    await move(db, await put(db), "queued", "cancelled")
    await db.redis.xgroup_create(stream, "g", id="0")
    return [entry for entry, _ in (await db.redis.xreadgroup("g", "a", {stream: ">"}))[0][1]]


async def create(db: Database, job_id: str, idempotency_key: str = "") -> Any:
    """Call `create` with the least it needs."""
    names = ("user", "pool", "workflow_id", "deployment_id", "request", "label")
    fields = {"frontend": "web", "echo": '"user":{"id":"ada"}'} | dict.fromkeys(names, "")
    return await db.run("create", job_id, json.dumps(fields), 5, 0, 60, idempotency_key, 60, 200, 20, "")


async def ask(db: Database, class_: str = "submit") -> Any:
    """Call `take_tokens` on a bucket of 20 at 10 a second."""
    return await db.run("take_tokens", "acc", class_, 10, 20, FLOORS, 0.01, 2, 10)


@reply("create", "created")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = new_job_id()
    return await create(db, job_id), ["created", job_id]


@reply("create", "exists")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first = new_job_id()
    await create(db, first, "k")
    return await create(db, new_job_id(), "k"), ["exists", first]


@reply("create", "exists by its own id")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first = new_job_id()
    await create(db, first)
    return await create(db, first), ["exists", first]


@reply("create", "full")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await put(db, pool="m")
    await put(db)
    await take(db, 1)
    names = ("pool", "workflow_id", "deployment_id", "request", "label")
    fields = {"frontend": "web", "user": "web:ada", "echo": '"user":{"id":"ada"}'} | dict.fromkeys(names, "")
    return await db.run("create", new_job_id(), json.dumps(fields), 5, 0, 60, "k", 60, 0, 0, "", 2, 60), ["full", "2"]


@reply("dispatch", "job ids")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    ids = [await put(db), await put(db)]
    return await take(db), ids


@reply("dispatch", "nothing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await take(db), []


@reply("give_back", "given back")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    return await db.run("give_back", job_id), "given back"


@reply("give_back", "not dispatched")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("give_back", await put(db)), "not dispatched"


@reply("give_back", "not dispatched any more: submitted")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("give_back", await running(db)), "not dispatched"


@reply("hold", "held")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    return await db.run("hold", job_id, "me", 1000), ["held", "queued"]


@reply("hold", "held again by the same")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    await db.run("hold", job_id, "me", 1000)
    await move(db, job_id, "queued", "submitting")
    return await db.run("hold", job_id, "me", 1000), ["held", "submitting"]


@reply("hold", "busy")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    await db.run("hold", job_id, "other", 1000)
    await clock.advance(0.999)
    return await db.run("hold", job_id, "me", 1000), ["busy", "queued"]


@reply("hold", "held when the other's lease is over")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    await db.run("hold", job_id, "other", 1000)
    await clock.advance(1)
    return await db.run("hold", job_id, "me", 1000), ["held", "queued"]


@reply("hold", "refused")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("hold", await running(db), "me", 1000), ["refused", "running"]


@reply("hold", "refused while it waits in its lane")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("hold", await put(db), "me", 1000), ["refused", "queued"]


@reply("hold", "missing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("hold", new_job_id(), "me", 1000), ["missing", ""]


@reply("transition", "moved")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await move(db, await put(db), "queued", "cancelled"), ["moved", "2", "none", "queued", "0", "life", "0"]


@reply("transition", "refused")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await move(db, await put(db), "submitting,submitted", "failed"), ["refused", "queued"]


@reply("transition", "refused: a word inside another is not the word")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await move(db, await put(db), "unqueued,queue", "failed"), ["refused", "queued"]


@reply("transition", "refused: only a dispatched job is started")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await move(db, await put(db), "queued", "submitting"), ["refused", "queued"]


@reply("transition", "refused: final stays final")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await move(db, job_id, "queued", "cancelled")
    return await move(db, job_id, "queued,cancelled", "failed"), ["refused", "cancelled"]


@reply("transition", "missing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await move(db, new_job_id(), "queued", "failed"), ["missing", ""]


@reply("progress", "announced")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("progress", await running(db), "0.5", '{"fraction":0.5}', "", ""), ["announced", "4"]


@reply("progress", "announced: another text at the same fraction")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await running(db)
    return [
        await db.run("progress", job_id, "0.5", f'{{"fraction":0.5,"text":"{text}"}}', "", "")
        for text in ("KSampler", "VAE")
    ], [["announced", "4"], ["announced", "5"]]


@reply("progress", "refused")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("progress", await put(db), "0.5", '{"fraction":0.5}', "", ""), ["refused", "queued"]


@reply("progress", "unchanged")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await running(db)
    await db.run("progress", job_id, "0.5", '{"fraction":0.5}', "", "")
    return await db.run("progress", job_id, "0.5", '{"fraction":0.5}', "", ""), ["refused", "unchanged"]


@reply("progress", "unchanged: not backwards")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await running(db)
    await db.run("progress", job_id, "0.5", '{"fraction":0.5}', "", "")
    await db.run("progress", job_id, "", '{"text":"Upscaling"}', "", "")
    return await db.run("progress", job_id, "0.4999", '{"fraction":0.4999}', "", ""), ["refused", "unchanged"]


@reply("progress", "missing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("progress", new_job_id(), "", "{}", "", ""), ["missing", ""]


@reply("nudge", "nudged")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("nudge", await running(db), "0"), ["nudged", "running"]


@reply("nudge", "noted")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("nudge", await put(db), "1"), ["noted", "queued"]


@reply("nudge", "final")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await move(db, job_id, "queued", "expired")
    return await db.run("nudge", job_id, "1"), ["final", "expired"]


@reply("nudge", "missing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("nudge", new_job_id(), "1"), ["missing", ""]


@reply("overdue", "job ids, the most overdue first")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    late = await put(db, queue_timeout_seconds=20)
    later = await put(db, queue_timeout_seconds=10)
    await put(db, queue_timeout_seconds=30)
    await clock.advance(20)
    return await db.run("overdue", "expiring", 9, 1000), [later, late]


@reply("overdue", "not again before `again` is over")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db, queue_timeout_seconds=1)
    await clock.advance(1)
    first = await db.run("overdue", "expiring", 9, 1000)
    await clock.advance(0.999)
    between = await db.run("overdue", "expiring", 9, 1000)
    await clock.advance(0.001)
    return (first, between, await db.run("overdue", "expiring", 9, 1000)), ([job_id], [], [job_id])


@reply("place", "the number of jobs ahead")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await put(db)
    return await db.run("place", await put(db), 200, 20), [1, -1, ""]


@reply("place", "why an operator has paused it")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await db.run("pause", "workflow:wf", "wf", BY)
    laned = await db.run("place", job_id, 200, 20)
    await take(db)
    return (laned, await db.run("place", job_id, 200, 20)), ([0, -1, "broken"], [0, -1, "broken"])


@reply("place", "ms until its turn")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    # One place, held 30 s each time, and two who want it first, one of whom has it.
    await put(db)
    await take(db)
    await put(db)
    await db.redis.hset(db.keys.held, "", "30000")
    return await db.run("place", await put(db), 1, 20), [1, 60_000, ""]


@reply("remember", "remembered")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    # Two of three are kept, and one of two hints; "" says nothing of hints.
    words = [
        await db.run("remember", "dep", f'{{"total":"{seconds}"}}', 2, 60, hinted, 1)
        for seconds, hinted in ((1.5, "1"), (2.5, "0"), (3.5, ""))
    ]
    kept = await db.hash(db.keys.history("dep"))
    return [words, kept, await db.redis.lrange(db.keys.hints, 0, -1)], [
        ["remembered"] * 3,
        {"total": "3.5 2.5"},
        ["0"],
    ]


@reply("place", "-1")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    return [await db.run("place", one, 200, 20) for one in (job_id, new_job_id())], [[-1, -1, ""]] * 2


@reply("stamp", "1")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("stamp", await put(db), '{"deployment_id":"d"}'), 1


@reply("stamp", "0")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = new_job_id()
    word = await db.run("stamp", job_id, '{"deployment_id":"d"}')
    return (word, await db.redis.exists(db.keys.job(job_id))), (0, 0)


async def report(db: Database, how: str) -> Any:
    """Call `report_call` with a breaker that opens at two failures, for one second."""
    return await db.run("report_call", "acc", how, 2, 1000, 30_000, 1)


@reply("take_tokens", "{1, n}")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first = await ask(db)
    await report(db, "failed")
    return (first, await ask(db)), ([1, 0], [1, 1])


@reply("take_tokens", "{0, ms} while a probe is under way")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    for _unused in range(2):
        await report(db, "failed")
    await clock.advance(1)
    return (await ask(db), await ask(db)), ([1, 2], [0, 10_000])


@reply("report_call", "{failures, ms}")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return [await report(db, "failed") for _ in range(3)], [[1, 0], [2, 1000], [2, 1000]]


@reply("report_call", "{0, ms} answered")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await report(db, "failed")
    return (await report(db, "answered"), await report(db, "failed")), ([0, 0], [1, 0])


@reply("take_tokens", "{0, ms}")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    # Given a bucket of 20 of which 4 + 2 + 2 stand in the others' floors
    granted = [(await ask(db))[0] for _ in range(12)]
    # Then the 13th needs one above them: 1 / 10 s
    return (granted, await ask(db)), ([1] * 12, [0, 100])


@reply("take_tokens", "{0, ms} while closed")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await db.run("push_back", "acc", 2000, "0", 0.05)
    await clock.advance(0.5)
    return await ask(db), [0, 1500]


@reply("push_back", "the ms from now")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("push_back", "acc", 2000, "1", 0.05), 2000


@reply("push_back", "the ms of a longer pause that holds already")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await db.run("push_back", "acc", 5000, "0", 0.05)
    await clock.advance(1)
    return await db.run("push_back", "acc", 2000, "1", 0.05), 4000


@reply("prune", "how many entries were trimmed")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    # Given three events, of which the slower of two groups has acknowledged one and was handed the second
    stream = db.keys.results("web")
    for group in ("fast", "slow"):
        await db.redis.xgroup_create(stream, group, id="0", mkstream=True)
    for _unused in range(3):
        await put(db)
    await db.redis.xreadgroup("fast", "a", {stream: ">"}, noack=True)
    await db.redis.xreadgroup("slow", "b", {stream: ">"}, count=1, noack=True)
    await db.redis.xreadgroup("slow", "b", {stream: ">"}, count=1)
    return (await db.run("prune", "web", 9_000_000_000_000, 0), await db.redis.xlen(stream)), (1, 2)


@reply("prune", "all but the young when no group was ever made")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await put(db)
    unread = [await db.run("prune", "web", 9_000_000_000_000, horizon) for horizon in (1, 9_000_000_000_000)]
    return (unread, await db.run("prune", "nobody", 1, 1)), ([0, 1], 0)


@reply("prune", "0 within the horizon")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await put(db)
    await db.redis.xgroup_create(db.keys.results("web"), "all", id="$")
    return await db.run("prune", "web", 1, 1), 0


@reply("earlier", "for each id its consumer and the earlier ids")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, second = await handed(db)
    return await db.run("earlier", "web", "g", first, second), [["a"], ["a", first]]


@reply("earlier", 'for each id "" when it is not pending')
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, second = await handed(db)
    await db.redis.xack(db.keys.results("web"), "g", first)
    return await db.run("earlier", "web", "g", first, second), [[""], ["a"]]


@reply("dead_letter", "dead")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, _second = await handed(db)
    word, letter = await db.run("dead_letter", "web", "g", "a", first, "too large")
    [(kept, fields)] = await db.redis.xrange(db.keys.dead("web"))
    pending = await db.redis.xpending(db.keys.results("web"), "g")
    return (
        (word, letter, fields["reason"], fields["entry"], fields["type"], pending["pending"]),
        ("dead", kept, "too large", first, "job.queued", 1),
    )


@reply("dead_letter", "lost")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, _second = await handed(db)
    word = await db.run("dead_letter", "web", "g", "b", first, "too large")
    return (word, await db.redis.xlen(db.keys.dead("web"))), (["lost", ""], 0)


async def bury(db: Database, group: str = "g") -> list[tuple[str, str]]:
    """Give up on both events of a job; answers (entry, dead letter) of each."""
    entries = await handed(db)
    return [(entry, (await db.run("dead_letter", "web", group, "a", entry, "too large"))[1]) for entry in entries]


async def replay(db: Database, *letters: str) -> Any:
    """Replay these letters of one job."""
    return await db.run("replay", "web", 1000, *letters)


@reply("replay", "pending")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    (first, one), (second, two) = await bury(db)
    replies = await replay(db, one, two)
    pending = await db.redis.xpending_range(db.keys.results("web"), "g", "-", "+", 9, idle=1000)
    held = [(entry["message_id"], entry["consumer"], entry["times_delivered"]) for entry in pending]
    return (
        (replies, held, await db.redis.xlen(db.keys.dead("web"))),
        ([["pending", first], ["pending", second]], [(first, "a", 0), (second, "a", 0)], 0),
    )


@reply("replay", "copied")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    # Given the first of two events has been trimmed
    stream = db.keys.results("web")
    (first, one), (_second, two) = await bury(db)
    before = await db.redis.xrange(stream)
    await db.redis.xdel(stream, first)
    # Then both are copied to the end as they were, in their order
    replies = await replay(db, one, two)
    copies = (await db.redis.xrange(stream))[1:]
    return (
        (replies, [fields for _, fields in copies]),
        ([["copied", entry] for entry, _ in copies], [fields for _, fields in before]),
    )


@reply("replay", "copied once for two groups")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    stream = db.keys.results("web")
    (first, one), _second = await bury(db)
    [(_, letter)] = await db.redis.xrange(db.keys.dead("web"), one, one)
    await db.redis.xgroup_create(stream, "h", id="0")
    other = str(await db.redis.xadd(db.keys.dead("web"), letter | {"group": "h"}))
    await db.redis.xdel(stream, first)
    replies = await replay(db, one, other)
    [_, (copy, _)] = await db.redis.xrange(stream)
    return replies, [["copied", copy]] * 2


@reply("replay", "gone")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    (_first, one), _second = await bury(db)
    await replay(db, one)
    return await replay(db, one), [["gone", ""]]


@reply("replay", "no group")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    (_first, one), _second = await bury(db)
    await db.redis.xgroup_destroy(db.keys.results("web"), "g")
    return (await replay(db, one), await db.redis.xlen(db.keys.dead("web"))), ([["no group", "g"]], 2)


@reply("replay", "empty")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    # Given an entry that was trimmed before it was buried
    first, _second = await handed(db)
    await db.redis.xdel(db.keys.results("web"), first)
    _, letter = await db.run("dead_letter", "web", "g", "a", first, "too large")
    return (await replay(db, letter), await db.redis.xlen(db.keys.dead("web"))), ([["empty", first]], 1)


@reply("hand_again", "held")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, _second = await handed(db)
    return await db.run("hand_again", "web", "g", "a", first, 2), ["held", 2]


@reply("hand_again", "spent")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, _second = await handed(db)
    await db.run("hand_again", "web", "g", "a", first, 2)
    return await db.run("hand_again", "web", "g", "a", first, 2), ["spent", 2]


@reply("hand_again", "lost")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, _second = await handed(db)
    return await db.run("hand_again", "web", "g", "b", first, 2), ["lost", 0]


@reply("keep", "the ids pending at the consumer")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, second = await handed(db)
    replies = [await db.run("keep", "web", "g", who, 9, first) for who in ("a", "b")]
    return replies, [[first, second], []]


@reply("retire_consumers", "the names removed")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await handed(db)
    for name in ("idle", "idle too"):
        await db.redis.xgroup_createconsumer(db.keys.results("web"), "g", name)
    return sorted(await db.run("retire_consumers", "web", "g", 0)), ["idle", "idle too"]


@reply("claim_due", "{ms, workflow}")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    for workflow, delay in (("now", 0), ("later", 700)):
        job_id = await put(db, workflow_id=workflow)
        await take(db)
        await submit(db, job_id, delay_ms=delay)
    return await db.run("claim_due", "me", 5, 1000), [700, "now"]


@reply("claim_due", "{-1}")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("claim_due", "me", 5, 1000), [-1]


@reply("settle_look", "ms")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await running(db)
    await db.run("claim_due", "me", 5, 1000)
    return await db.run("settle_look", "wf", "me", json.dumps({f"{job_id} run-1": 800})), 800


@reply("settle_look", "ms, never negative")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await running(db)
    await clock.advance(5)
    return await db.run("settle_look", "wf", "me", "{}"), 0


@reply("settle_look", "-1")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("settle_look", "wf", "me", "{}"), -1


TRACEPARENT = "00-01a1fb52f09676b3915b49e82266f9cd-00f067aa0ba902b7-01"


async def called(db: Database) -> str:
    """A job that has ended and shall be told to an address."""
    job_id = await put(db, callback={"url": "https://receiver.test/", "secret": SECRET})
    await move(db, job_id, "queued", "cancelled")
    return job_id


async def made(db: Database, **parts: Any) -> str:
    """A job that has succeeded and whose outputs are to be archived."""
    job_id = await put(db, **parts)
    await take(db)
    await submit(db, job_id, "run-1")
    await move(db, job_id, "submitted", "succeeded", archive_state="pending")
    return job_id


@reply("begin_errand", "begun")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id, since = await called(db), clock.now_ms
    await db.redis.hset(db.keys.job(job_id), "traceparent", TRACEPARENT)
    body = (await db.redis.xrange(db.keys.results("web")))[-1][1]["data"]
    told = ["2", TRACEPARENT, "https://receiver.test/", SECRET, body]
    first = await db.run("begin_errand", job_id, "callback")
    await clock.advance(7)
    again = await db.run("begin_errand", job_id, "callback")
    return (first, again), (
        ["begun", 1, str(since), str(since), *told],
        ["begun", 2, str(since), str(since + 7000), *told],
    )


@reply("begin_errand", "begun: an archive has no url, secret and body")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id, since = await made(db), clock.now_ms
    return await db.run("begin_errand", job_id, "archive"), ["begun", 1, str(since), str(since), "3", ""]


@reply("begin_errand", "decided")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await called(db)
    await db.run("settle_errand", job_id, "callback", "failed", 1000, "{}")
    return await db.run("begin_errand", job_id, "callback"), ["decided"]


@reply("begin_errand", "decided: the job is gone, and so is what was kept beside it")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await called(db)
    await db.redis.delete(db.keys.job(job_id))
    reply = await db.run("begin_errand", job_id, "callback")
    left = [await db.redis.exists(db.keys.callback(job_id)), await db.redis.zcard(db.keys.callbacks)]
    return (reply, left), (["decided"], [0, 0])


@reply("settle_errand", "noted")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await called(db)
    replies = [await db.run("settle_errand", job_id, "callback", "again", 5000, '{"callback_error":"HTTP 500"}')]
    due = await db.redis.zscore(db.keys.callbacks, job_id)
    replies.append(await db.run("settle_errand", job_id, "callback", "delivered", 60_000, "{}"))
    left = await db.redis.zcard(db.keys.callbacks), await db.redis.exists(db.keys.callback(job_id))
    return (replies, due, left), (["noted", "noted"], clock.now_ms + 5000, (0, 0))


@reply("settle_errand", "noted: the record ends when nothing else is left to do for it")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await made(db, callback={"url": "https://receiver.test/", "secret": SECRET})
    kept = [await db.redis.pttl(db.keys.job(job_id))]
    await db.run("settle_errand", job_id, "archive", "kept", 60_000, "{}")
    kept.append(await db.redis.pttl(db.keys.job(job_id)))
    await db.run("settle_errand", job_id, "callback", "delivered", 60_000, "{}")
    kept.append(await db.redis.pttl(db.keys.job(job_id)) > 50_000)
    return kept, [-1, -1, True]


@reply("settle_errand", "decided")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await called(db)
    await db.run("settle_errand", job_id, "callback", "delivered", 60_000, '{"callback_error":""}')
    late = await db.run("settle_errand", job_id, "callback", "failed", 60_000, '{"callback_error":"no connection"}')
    state = await db.redis.hmget(db.keys.job(job_id), "callback_state", "callback_error")
    return (late, state), ("decided", ["delivered", ""])


@reply("settle_errand", "gone")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await called(db)
    await db.redis.delete(db.keys.job(job_id))
    late = await db.run("settle_errand", job_id, "callback", "again", 60_000, '{"callback_error":"x"}')
    return (late, await db.redis.exists(db.keys.job(job_id))), ("gone", 0)


FILE = ("acc", "digest")


@reply("begin_upload", "yours")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first = await db.run("begin_upload", *FILE, "me", 1000)
    return [first, await db.run("begin_upload", *FILE, "me", 1000)], [["yours", ""]] * 2


@reply("begin_upload", "busy")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await db.run("begin_upload", *FILE, "other", 1000)
    await clock.advance(0.4)
    return await db.run("begin_upload", *FILE, "me", 1000), ["busy", "600"]


@reply("begin_upload", "yours when the other's lease is over")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await db.run("begin_upload", *FILE, "other", 1000)
    await clock.advance(1)
    return await db.run("begin_upload", *FILE, "me", 1000), ["yours", ""]


@reply("begin_upload", "kept")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await db.run("begin_upload", *FILE, "other", 1000)
    await db.run("end_upload", *FILE, "other", "{}", 1000)
    return await db.run("begin_upload", *FILE, "me", 1000), ["kept", "{}"]


@reply("end_upload", "kept")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await db.run("begin_upload", *FILE, "me", 1000)
    ended = await db.run("end_upload", *FILE, "me", "{}", 5000)
    return (ended, 1000 < await db.redis.pttl(db.keys.upload(*FILE)) <= 5000), ("kept", True)


@reply("end_upload", "freed")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await db.run("begin_upload", *FILE, "me", 1000)
    return (
        [await db.run("end_upload", *FILE, "me", "", 0), await db.redis.exists(db.keys.upload(*FILE))],
        ["freed", 0],
    )


@reply("end_upload", "lost")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await db.run("begin_upload", *FILE, "me", 1000)
    await clock.advance(1)
    await db.run("begin_upload", *FILE, "other", 1000)
    late = await db.run("end_upload", *FILE, "me", "{}", 1000)
    await db.run("end_upload", *FILE, "other", "{}", 1000)
    return [late, await db.run("end_upload", *FILE, "me", "", 0)], ["lost", "lost"]


BY = json.dumps({"who": "op", "reason": "broken"})


@reply("pause", "paused")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    word, told = await db.run("pause", "all", "everything", BY)
    pause = {"since": clock.now_ms, "who": "op", "reason": "broken", "name": "everything"}
    return (word, json.loads(told)), ("paused", pause)


@reply("pause", "already")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    _, first = await db.run("pause", "all", "everything", BY)
    await clock.advance(1)
    return await db.run("pause", "all", "all", BY), ["already", first]


@reply("resume", "resumed")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    _, pause = await db.run("pause", "all", "everything", BY)
    await clock.advance(2)
    replied = await db.run("resume", "all", BY)
    return (replied, await db.hash(db.keys.paused)), (["resumed", pause], {"all": "2000"})


@reply("resume", "not paused")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("resume", "all", BY), ["not paused", ""]


@reply("audit", "noted")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    replied = await db.run("audit", BY, "replay", "web", "", "3")
    [[_, told]] = await db.redis.xrange(db.keys.audit)
    return (replied, told["who"], told["reason"]), ("noted", "op", "broken")


@reply("transition", "paused")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    await db.run("pause", "workflow:wf2", "wf2", BY)
    fields = json.dumps({"workflow_id": "wf2", "deployment_id": "dep2"})
    reply = await db.run("transition", job_id, "queued", "submitting", "", fields, 0, "", "1")
    record = await db.redis.hmget(db.keys.job(job_id), "state", "workflow_id")
    return (reply, record, await take(db)), (["paused", "workflow:wf2"], ["queued", "wf2"], [])


@reply("census", "JSON")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await put(db)
    await clock.advance(2)
    rows = json.loads(await db.run("census", 1000, 9, 9, 200, "none"))
    told = [row for row in rows if row[0] in ("lane_jobs", "lane_oldest_seconds", "window_jobs")]
    return sorted(told), [["lane_jobs", 1, "none"], ["lane_oldest_seconds", 2, "none"], ["window_jobs", 0]]


@reply("transition", "moved: how long it was dispatched, and how long it lived")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await clock.advance(3)
    await take(db)
    await clock.advance(0.5)
    first = await move(db, job_id, "queued", "submitting")
    await clock.advance(0.1)
    second = await move(db, job_id, "submitting", "failed")
    return (first[2:], second[2:]), (
        ["none", "queued", "3000", "dispatched", "500"],
        ["none", "submitting", "100", "life", "3600"],
    )


@reply("drain", "told")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    replies = [await db.run("drain", "w1@host", "", BY), await db.run("drain", "w1@host", "1", BY)]
    acts = [fields["action"] for _, fields in await db.redis.xrange(db.keys.audit)]
    return (replies, acts, await db.hash(db.keys.drains)), (["told", "told"], ["drain", "undo drain"], {})


@reply("drain", "already")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first = await db.run("drain", "w1@host", "1", BY)
    await db.run("drain", "w1@host", "", BY)
    return [first, await db.run("drain", "w1@host", "", BY)], ["already", "already"]


@reply("erase_job", "erased")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db, idempotency_key="k", callback={"url": "https://receiver.test/", "secret": SECRET})
    await move(db, job_id, "queued", "cancelled")
    replied = await db.run("erase_job", job_id, "web:ada")
    left = [str(key).removeprefix(db.keys.prefix) async for key in db.redis.scan_iter(match=f"{db.keys.prefix}*")]
    return (replied, [key for key in left if "job" in key or "callback" in key or "idem" in key]), ("erased", [])


@reply("erase_job", "missing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await db.redis.delete(db.keys.job(job_id))
    replied = await db.run("erase_job", job_id, "web:ada")
    return (replied, await db.redis.exists(db.keys.jobs("web:ada"))), ("missing", 0)


@reply("erase_job", "open")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id, owner = await running(db), "web:ada"
    replies = [await db.run("erase_job", job_id, owner)]
    fields = json.dumps({})
    await db.run("transition", job_id, "running", "failed", "job.failed", fields, 1000, "", "", BY)
    replies.append(await db.run("erase_job", job_id, owner))
    await db.redis.delete(db.keys.strays)
    replies.append(await db.run("erase_job", job_id, owner))
    return replies, ["open", "open", "erased"]


@reply("erase_job", "another")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db, "bob")
    await move(db, job_id, "queued", "cancelled")
    return (await db.run("erase_job", job_id, "web:ada"), await db.redis.exists(db.keys.job(job_id))), ("another", 1)


@reply("erase_user", "erased")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await db.run("pause", "user:web:ada", "ada", BY)
    await move(db, await put(db), "queued", "cancelled")
    replied = await db.run("erase_user", "web:ada", "{}", BY)
    left = [str(key).removeprefix(db.keys.prefix) async for key in db.redis.scan_iter(match=f"{db.keys.prefix}*ada*")]
    return (replied, left, await db.hash(db.keys.pauses)), ("erased", [], {})


@reply("erase_user", "open")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    await put(db)
    replied = await db.run("erase_user", "web:ada", "{}", BY)
    return (replied, await db.redis.exists(db.keys.jobs("web:ada"))), ("open", 1)


@reply("requeue", "waiting")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("requeue", await put(db), BY), ["waiting", ""]


@reply("requeue", "laned")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await db.redis.delete(db.keys.lane("", "web:ada"), db.keys.ring(""))
    return (await db.run("requeue", job_id, BY), await take(db)), (["laned", ""], [job_id])


@reply("requeue", "rescued")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await take(db)
    replies = [await db.run("requeue", job_id, BY)]
    await move(db, job_id, "queued", "submitting")
    await db.redis.delete(db.keys.window, db.keys.starting, db.keys.window_users, db.keys.window_pools)
    replies.append(await db.run("requeue", job_id, BY))
    held = await db.run("hold", job_id, "me", 1000)
    counted = await db.hash(db.keys.window_users)
    acts = [fields["before"] for _, fields in await db.redis.xrange(db.keys.audit)]
    return (replies, held, counted, acts), (
        [["rescued", "queued"], ["rescued", "submitting"]],
        ["held", "submitting"],
        {"web:ada": "1"},
        ["queued", "submitting"],
    )


@reply("requeue", "looked")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    job_id = await running(db)
    await db.redis.delete(db.keys.due, db.keys.inflight("wf"))
    replied = await db.run("requeue", job_id, BY)
    return (replied, await db.redis.zscore(db.keys.due, "wf")), (["looked", "run-1"], clock.now_ms)


@reply("requeue", "final")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    job_id = await put(db)
    await move(db, job_id, "queued", "cancelled")
    replied = await db.run("requeue", job_id, BY)
    return (replied, await db.redis.exists(db.keys.audit)), (["final", "cancelled"], 0)


@reply("requeue", "missing")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    return await db.run("requeue", new_job_id(), BY), ["missing", ""]


@reply("adjust", "adjusted")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    first, second = [await put(db) for _ in range(2)]
    taken = [await take(db, user_window=1), await take(db, user_window=1)]
    replies = [await db.run("adjust", "", json.dumps({"user_window": "2"}), "[]", "window set", BY)]
    taken.append(await take(db, user_window=1))
    replies.append(await db.run("adjust", "", "{}", json.dumps(["user_window", "window"]), "window reset", BY))
    return (taken, replies), (
        [[first], [], [second]],
        [["adjusted", "{}", '{"user_window":"2"}'], ["adjusted", '{"user_window":"2"}', "{}"]],
    )


# -- the catalog --------------------------------------------------------------------------------------------------------


async def begin_refresh(db: Database, owner: str = "me", known: int = 0, insist: int = 0) -> Any:
    """Ask to read a part anew."""
    return await db.run("begin_refresh", "catalog", owner, 1000, known, insist, 60_000)


async def end_refresh(db: Database, began: str, *, owner: str = "me", copy: bool = True, trouble: str = "") -> Any:
    """Say what came of it."""
    text = f'{{"stamp": "0123456789abcdef", "read_at": {int(began) / 1000}, "entries": []}}' if copy else ""
    return await db.run("end_refresh", "catalog", owner, began, text, 60_000, trouble, 5000)


@reply("begin_refresh", "yours")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    return await begin_refresh(db), ["yours", str(clock.now_ms)]


@reply("begin_refresh", "yours: the holder renews")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await begin_refresh(db)
    await clock.advance(0.9)
    await begin_refresh(db)
    await clock.advance(0.9)
    return [(await begin_refresh(db, who))[0] for who in ("other", "me")], ["busy", "yours"]


@reply("begin_refresh", "busy")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await begin_refresh(db, "other")
    await clock.advance(0.4)
    return await begin_refresh(db, insist=1), ["busy", "600"]


@reply("begin_refresh", "yours: the other was silent for its lease")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    await begin_refresh(db, "other")
    await clock.advance(1)
    return (await begin_refresh(db))[0], "yours"


@reply("begin_refresh", "newer")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db, "other")
    await end_refresh(db, began, owner="other")
    return await begin_refresh(db, known=int(began) - 1), ["newer", began]


@reply("begin_refresh", "yours: a copy that was known is not newer, and one that is gone is none")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db, "other")
    await end_refresh(db, began, owner="other")
    answers = [(await begin_refresh(db, known=int(began)))[0]]
    await end_refresh(db, began, copy=False)
    await db.redis.delete(db.keys.catalog)
    return [*answers, (await begin_refresh(db))[0]], ["yours", "yours"]


@reply("begin_refresh", "resting")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db)
    await end_refresh(db, began, copy=False, trouble="no answer")
    await clock.advance(2)
    return [await begin_refresh(db), (await begin_refresh(db, insist=1))[0]], [["resting", "3000"], "yours"]


@reply("end_refresh", "kept")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db)
    word = await end_refresh(db, began)
    return [word, await db.redis.exists(db.keys.catalog), await end_refresh(db, began)], ["kept", 1, "lost"]


@reply("end_refresh", "failed")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db)
    word = await end_refresh(db, began, copy=False, trouble="no answer")
    noted = await db.redis.hmget(db.keys.refresh("catalog"), ["failures", "trouble"])
    return [word, *noted], ["failed", "1", "no answer"]


@reply("end_refresh", "freed")
async def _(db: Database, _clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db)
    word = await end_refresh(db, began, copy=False)
    return [word, (await begin_refresh(db, "other"))[0]], ["freed", "yours"]


@reply("end_refresh", "lost")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db)
    await clock.advance(1)
    await begin_refresh(db, "other")
    return await end_refresh(db, began), "lost"


@reply("end_refresh", "lost: there is a newer copy")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    _, began = await begin_refresh(db)
    await clock.advance(1)
    _, later = await begin_refresh(db, "other")
    await end_refresh(db, later, owner="other")
    await begin_refresh(db, known=int(later))
    return await end_refresh(db, began), "lost"


@reply("forget", "forgotten")
async def _(db: Database, clock: Clock) -> tuple[Any, Any]:
    word = await db.run("forget", 60_000, "catalog", "catalog:machines")
    at = [await db.redis.hget(db.keys.refresh(part), "forgotten") for part in ("catalog", "catalog:machines")]
    return [word, *at], ["forgotten", str(clock.now_ms), str(clock.now_ms)]


@pytest.mark.parametrize(("script", "words"), SCENES, ids=lambda text: text.replace(" ", "-"))
async def test_replies(database: Database, clock: Clock, script: str, words: str) -> None:
    """A script answers what its header says."""
    replied, expected = await SCENES[script, words](database, clock)

    assert replied == expected


@pytest.mark.parametrize("script", SCRIPT_NAMES)
def test_every_word_of_a_header_has_a_scene(script: str) -> None:
    """A reply that is written in a header and not in this table is not proven."""
    text = (SCRIPTS / f"{script}.lua").read_text()
    told = "".join(re.findall(r"^-- Replies  (.*(?:\n--          .*)*)", text, re.MULTILINE)).replace("\n--", "")
    words = set(re.findall(r'\{"([a-z ]+)"', told)) or set(re.findall(r'"([a-z ]+)"', told))
    proven = {words for name, words in SCENES if name == script}

    assert proven
    assert words <= proven
    assert told.count(" | ") + 1 <= len(proven)
