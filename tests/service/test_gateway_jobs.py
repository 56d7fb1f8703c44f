"""Jobs by HTTP: what is refused leaves nothing, what is accepted is found again, and nobody sees another frontend's."""

import json
from typing import Any

import pytest

from producers.gateway.problems import MEDIA_TYPE
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from tests.service.gateway_fixtures import API_KEYS, RUN, Gateway, Open, catalog_of, job, keys_of, walk

pytestmark = pytest.mark.redis

UNKNOWN = "01a1fb52-f096-76b3-915b-49e82266f9cd"


def fields(problem: dict[str, Any]) -> list[str]:
    """Which fields a problem document names."""
    return [one["field"] for one in problem["problems"]]


async def test_a_job_is_accepted_and_found_again(gateway: Gateway) -> None:
    """202 with the job's place, which then answers what was asked for and how it stands."""
    answer = await gateway.http.post("/v1/jobs", json=job(inputs={"prompt": "a fox"}, context={"chat": "1"}))
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["created"] is True
    assert answer.headers["location"] == accepted["url"] == f"/v1/jobs/{accepted['job_id']}"
    assert gateway.published.job_ids == [accepted["job_id"]]

    found = (await gateway.http.get(accepted["url"])).json()

    assert (found["state"], found["final"], found["seq"], found["frontend"]) == ("queued", False, 1, "web")
    assert (found["inputs"], found["context"], found["user"]["id"]) == ({"prompt": "a fox"}, {"chat": "1"}, "ada")


async def test_the_same_key_answers_the_same_job(gateway: Gateway) -> None:
    """`Idempotency-Key` in the header or in the body; two that differ are refused."""
    headers = {"Idempotency-Key": "k"}
    first = (await gateway.http.post("/v1/jobs", json=job(), headers=headers)).json()
    again = (await gateway.http.post("/v1/jobs", json=job(), headers=headers)).json()
    null = (await gateway.http.post("/v1/jobs", json=job(idempotency_key=None, frontend=None), headers=headers)).json()
    by_body = (await gateway.http.post("/v1/jobs", json=job(idempotency_key="k"))).json()
    differ = await gateway.http.post("/v1/jobs", json=job(idempotency_key="other"), headers=headers)

    assert (again["job_id"], again["created"]) == (first["job_id"], False)
    assert by_body["job_id"] == null["job_id"] == first["job_id"]
    assert (differ.status_code, fields(differ.json())) == (422, ["idempotency_key"])


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (job(inputs={"seed": None}, run_timout_seconds=5), ["inputs.seed", "run_timout_seconds"]),
        (job(frontend="telegram", priority=11), ["frontend", "priority"]),
        ({"user": {}}, ["user.id", "workflow"]),
        (job(inputs={"picture": "https://u:hunter2@x/y"}), ["inputs.picture"]),
        ([], ["request"]),
    ],
)
async def test_a_refused_job_says_everything_and_leaves_nothing(gateway: Gateway, body: Any, wrong: list[str]) -> None:
    """422 as a problem document with each field, and no key is written; no value is repeated."""
    answer = await gateway.http.post("/v1/jobs", json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = answer.json()
    assert sorted(fields(problem)) == sorted(wrong)
    assert (problem["status"], problem["code"], problem["instance"]) == (422, "invalid_input", "/v1/jobs")
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "hunter2" not in answer.text
    assert await keys_of(gateway.database) == set()


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'{"user": NaN}', b'"\xff"', b'{"a":"\\ud800"}'])
async def test_what_is_not_json_is_refused(gateway: Gateway, body: bytes) -> None:
    """However broken, it is 422 and no 500."""
    answer = await gateway.http.post("/v1/jobs", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, fields(answer.json())) == (422, ["request"])


async def test_only_json_is_taken(gateway: Gateway) -> None:
    """What a form of another page could send is 415, so a browser must ask before it sends."""
    answer = await gateway.http.post("/v1/jobs", content=json.dumps(job()), headers={"content-type": "text/plain"})

    assert answer.status_code == 415


async def test_an_unknown_workflow_is_refused_with_suggestions(gateway: Gateway) -> None:
    """The catalog knows that there is none, and what it may have meant."""
    await catalog_of(gateway.database, "portrait")

    answer = await gateway.http.post("/v1/jobs", json=job(workflow="portrit"))

    assert (answer.status_code, answer.json()["code"]) == (422, "workflow_not_found")
    assert "Did you mean 'portrait'" in answer.json()["detail"]


async def test_a_user_has_so_many_open_jobs_and_no_more(open_gateway: Open) -> None:
    """429 beyond `CONVEYOR_USER_JOBS`, waiting and running together; another user is not held up, and an end makes room."""
    gateway = await open_gateway(CONVEYOR_USER_JOBS="2", CONVEYOR_USER_WINDOW="1")
    first = await gateway.enqueue()
    await gateway.enqueue()

    refused = await gateway.http.post("/v1/jobs", json=job(idempotency_key="k"))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    assert int(refused.headers["retry-after"]) >= 1
    await gateway.enqueue("bob")

    assert (await gateway.http.post(f"/v1/jobs/{first}/cancel")).json()["outcome"] == "cancelled"
    taken = await gateway.http.post("/v1/jobs", json=job(idempotency_key="k"))
    assert (taken.status_code, taken.json()["created"]) == (202, True)


async def test_cancelling_says_what_it_did(gateway: Gateway) -> None:
    """A waiting job ends at once, a running one is asked to, an ended one is left alone, an unknown one is a 404."""
    waiting, running = await gateway.enqueue(), await gateway.enqueue()
    await walk(gateway.database, running, *RUN[:3])

    outcomes = [(await gateway.http.post(f"/v1/jobs/{one}/cancel")) for one in (waiting, running, waiting)]

    assert [one.status_code for one in outcomes] == [202, 202, 202]
    assert [one.json()["outcome"] for one in outcomes] == ["cancelled", "requested", "final"]
    assert (await gateway.http.post(f"/v1/jobs/{UNKNOWN}/cancel")).status_code == 404
    assert (await gateway.http.get(f"/v1/jobs/{UNKNOWN}")).status_code == 404
    assert (await gateway.http.get("/v1/jobs/no-id")).status_code == 422


async def test_a_result_is_in_the_answer(gateway: Gateway) -> None:
    """A job that succeeded shows its outputs."""
    job_id = await gateway.enqueue()
    await walk(gateway.database, job_id, *RUN)

    found = (await gateway.http.get(f"/v1/jobs/{job_id}")).json()

    assert (found["state"], found["final"]) == ("succeeded", True)
    assert found["result"]["outputs"][0]["url"] == "https://pictures.test/fox.png"


# -- the listing ------------------------------------------------------------------------------------------------------


async def test_a_users_jobs_come_newest_first_in_pages(gateway: Gateway) -> None:
    """Pages follow each other without gap or double, also when a job comes in between."""
    ids = [await gateway.enqueue() for _ in range(5)]
    await gateway.enqueue("bob")

    first = (await gateway.http.get("/v1/jobs", params={"user": "ada", "limit": 2})).json()
    await gateway.enqueue()
    second = (
        await gateway.http.get("/v1/jobs", params={"user": "ada", "limit": 9, "cursor": first["next_cursor"]})
    ).json()

    assert [one["job_id"] for one in first["jobs"] + second["jobs"]] == ids[::-1]
    assert second["next_cursor"] is None


async def test_jobs_are_listed_by_state(gateway: Gateway) -> None:
    """One state or several; a user without jobs has an empty page."""
    ids = [await gateway.enqueue() for _ in range(4)]
    await walk(gateway.database, ids[1], *RUN)
    await walk(gateway.database, ids[2], "failed")

    async def listed(**query: Any) -> list[str]:
        answer = await gateway.http.get("/v1/jobs", params={"user": "ada", **query})
        assert answer.status_code == 200, answer.text
        return [one["job_id"] for one in answer.json()["jobs"]]

    assert await listed(state="succeeded") == [ids[1]]
    assert await listed(state=["succeeded", "failed"]) == [ids[2], ids[1]]
    assert await listed(state="queued", limit=1) == [ids[3]]
    assert await listed(user="nobody") == []
    wrong = await gateway.http.get("/v1/jobs", params={"state": "done", "limit": 0})
    assert (wrong.status_code, sorted(fields(wrong.json()))) == (422, ["limit", "state.0", "user"])


async def test_jobs_kept_no_longer_leave_the_listing(gateway: Gateway) -> None:
    """Reading the listing, and accepting a job, drop what has no record; what cannot be read stays."""
    ids = [await gateway.enqueue() for _ in range(5)]
    redis, keys = gateway.database.redis, gateway.database.keys
    index = keys.jobs("web:ada")
    await redis.delete(keys.job(ids[0]), keys.job(ids[1]), keys.job(ids[3]))

    newest = await gateway.enqueue()
    assert await redis.zrange(index, 0, -1) == [ids[2], ids[3], ids[4], newest]
    await redis.hdel(keys.job(ids[2]), "request")

    answer = await gateway.http.get("/v1/jobs", params={"user": "ada"})
    assert [one["job_id"] for one in answer.json()["jobs"]] == [newest, ids[4]]
    assert await redis.zrange(index, 0, -1) == [ids[2], ids[4], newest]
    assert await redis.ttl(index) > 9 * 24 * 3600


async def test_a_job_is_asked_for_again(gateway: Gateway) -> None:
    """The same, a variation or a change of it: a new job of the same user, told with its seed; two taps are one job."""
    first = await gateway.enqueue("ada", inputs={"prompt": "a fox", "seed": 7}, context={"chat_id": "1"})
    url = f"/v1/jobs/{first}/rerun"
    same = await gateway.http.post(url, json={})
    assert (same.status_code, same.json()["seed"], same.json()["inputs"]) == (202, 7, {"prompt": "a fox", "seed": 7})
    taps = [
        (await gateway.http.post(url, json={"new_seed": True}, headers={"Idempotency-Key": "tap"})).json()
        for _ in range(2)
    ]
    assert [tap["created"] for tap in taps] == [True, False]
    assert taps[0]["seed"] == taps[1]["seed"] != 7
    changed = (await gateway.http.post(url, json={"inputs": {"prompt": "a wolf"}, "context": {"chat_id": "2"}})).json()
    asked = (await JobStore(gateway.database).get(changed["job_id"])).request
    assert (asked.user.id, asked.inputs, asked.context) == ("ada", {"prompt": "a wolf", "seed": 7}, {"chat_id": "2"})
    refused = await gateway.http.post(url, json={"inputs": {"prompt": None}, "new_sed": True})
    assert (refused.status_code, refused.json()["problems"][0]["field"]) == (422, "new_sed")
    assert (await gateway.http.post(f"/v1/jobs/{UNKNOWN}/rerun", json={})).status_code == 404


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_a_key_sees_only_its_own_frontend(open_gateway: Open) -> None:
    """Another frontend's job is as unknown as none, for every question."""
    gateway = await open_gateway(CONVEYOR_API_KEYS=API_KEYS)
    job_id = await gateway.enqueue()
    async with gateway.client("telegram") as other, gateway.client() as nobody:
        for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events"), ("POST", "/rerun")):
            body: Any = {} if path == "/rerun" else None
            assert (await other.request(method, f"/v1/jobs/{job_id}{path}", json=body)).status_code == 404
            assert (await nobody.request(method, f"/v1/jobs/{job_id}{path}", json=body)).status_code == 401
        assert (await other.get("/v1/jobs", params={"user": "ada"})).json()["jobs"] == []
        asked = await nobody.post("/v1/jobs", json=job(), headers={"authorization": "Bearer web-key-12345"})
        assert (asked.status_code, asked.headers["www-authenticate"]) == (401, "Bearer")
        theirs = (await other.post("/v1/jobs", json=job(frontend="telegram"))).json()
    assert (await JobStore(gateway.database).get(theirs["job_id"])).request.frontend == "telegram"
    assert (await gateway.http.get(f"/v1/jobs/{job_id}")).json()["state"] == JobState.QUEUED
