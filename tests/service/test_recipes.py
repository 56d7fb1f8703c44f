"""Recipes: a picture from a text, once more with or without changes; long jobs stand in lanes of their own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from producers import Producer, SyncProducer, make_image, rerun, train_model, tweak, variation
from producers.admission import LONG_RUN_SECONDS
from shared.errors import InvalidInput, JobNotFound
from tests.service.cli_stage import Stage, conveyor
from tests.service.gateway_fixtures import Published, keys_of
from tests.service.worker_fixtures import PORTRAIT, Api, Bench

pytestmark = pytest.mark.redis

WHO: dict[str, Any] = {"frontend": "web", "user": {"id": "ada"}}
IMAGE_MACHINE, TRAINING_MACHINE = (f"a0000000-0000-4000-8000-{n:012d}" for n in (1, 4))


@pytest.fixture
async def producer(bench: Bench) -> AsyncIterator[Producer]:
    """A producer with the catalog of the simulator's studio."""
    async with Producer(bench.settings, bench.database, publisher=Published()) as producer:
        yield producer


async def test_a_picture_is_asked_for_in_the_documents_words(producer: Producer) -> None:
    """`input_prompt` arrives under the workflow's own name, other inputs too; the seed is drawn and told."""
    ordered = await make_image(
        producer, "a fox", input_negative_prompt="rain", inputs={"Style": "anime"}, workflow="sdxl portrait", **WHO
    )
    sent = (await ordered.job.status()).job.request.inputs
    assert sent == {"prompt": "a fox", "negative_prompt": "rain", "style": "anime", "seed": ordered.seed}
    assert ordered.inputs == sent
    again = await make_image(producer, "a fox", input_seed=7, workflow="sdxl portrait", **WHO)
    assert (again.seed, again.inputs["seed"]) == (7, 7)
    assert ordered.seed != (await make_image(producer, "a fox", workflow="Flux Dev", **WHO)).seed


async def test_a_part_the_workflow_lacks_is_refused_by_its_name(producer: Producer, bench: Bench) -> None:
    """Flux has no negative prompt, a captioner no prompt; nothing is written."""
    before = await keys_of(bench.database)
    with pytest.raises(InvalidInput, match=r"inputs\.input_negative_prompt: is not an input .* It takes: prompt"):
        await make_image(producer, "a fox", input_negative_prompt="rain", workflow="Flux Dev", **WHO)
    with pytest.raises(InvalidInput, match=r"inputs\.input_prompt: is not an input"):
        await make_image(producer, "a fox", inputs={"image": "https://p.test/1.png"}, workflow="Caption Image", **WHO)
    with pytest.raises(InvalidInput, match=r"Did you mean 'style'"):
        await make_image(producer, "a fox", inputs={"stlye": "anime"}, workflow="SDXL Portrait", **WHO)
    assert await keys_of(bench.database) == before


async def test_once_more_varied_and_tweaked(producer: Producer) -> None:
    """The same inputs and seed; another seed; the same seed with another prompt. User and context stay, keys do not."""
    request = {**WHO, "context": {"chat_id": "9"}, "idempotency_key": "k", "priority": 8}
    first = await make_image(producer, "a fox", workflow="SDXL Portrait", **request)
    same = await rerun(producer, first.job.id)
    assert (same.inputs, same.seed, same.job.created) == (first.inputs, first.seed, True)
    asked = (await same.job.status()).job.request
    assert (asked.user.id, asked.context, asked.priority) == ("ada", {"chat_id": "9"}, 8)
    assert asked.idempotency_key is None

    varied = await variation(producer, first.job.id, frontend="cli")
    assert varied.seed not in (None, first.seed)
    assert varied.inputs == first.inputs | {"seed": varied.seed}
    assert (await varied.job.status()).job.request.frontend == "cli"

    tweaked = await tweak(producer, varied.job.id, {"input_prompt": "a wolf"})
    assert tweaked.inputs == varied.inputs | {"prompt": "a wolf"}


async def test_what_cannot_be_repeated_is_said(producer: Producer) -> None:
    """A seed that the GPU draws is nobody's; a workflow without one has no variations; a job that is not kept is none."""
    drawn = await producer.enqueue({**WHO, "workflow": "SDXL Portrait", "inputs": {"prompt": "a fox", "seed": -1}})
    assert (await rerun(producer, drawn.id)).seed is None
    caption = await producer.enqueue({**WHO, "workflow": "Caption Image", "inputs": {"image": "https://p.test/1.png"}})
    assert (await rerun(producer, caption.id)).seed is None
    with pytest.raises(InvalidInput, match="has no seed"):
        await variation(producer, caption.id)
    with pytest.raises(InvalidInput, match="a new one is to be drawn"):
        await rerun(producer, drawn.id, inputs={"seed": 3}, new_seed=True)
    with pytest.raises(JobNotFound):
        await rerun(producer, "01a1fb4b-efc2-79a1-94b1-f3ed4809d12e")


async def test_without_a_catalog_names_stay_as_they_are(producer: Producer, bench: Bench) -> None:
    """Nobody knows better; the seed is the GPU's then."""
    await bench.database.redis.delete(bench.database.keys.catalog)
    async with Producer(
        bench.settings.model_copy(update={"api_key": None}), bench.database, publisher=Published()
    ) as other:
        ordered = await make_image(other, "a fox", workflow="SDXL Portrait", **WHO)
    assert (ordered.inputs, ordered.seed) == ({"input_prompt": "a fox"}, None)
    # Once the names are known, the same again is sent under them.
    assert (await rerun(producer, ordered.job.id)).inputs == {"prompt": "a fox"}


def test_a_job_is_asked_for_again_from_the_command_line(stage: Stage) -> None:
    """A new seed is told; changes are read as `enqueue` reads them; what is not kept is refused."""
    asked = ["enqueue", "--deployment", PORTRAIT, "--user", "ada", "--input", "prompt=a fox", "--input", "seed=7"]
    first = conveyor(*asked).stdout.strip()
    again = json.loads(conveyor("rerun", first, "--json").stdout)
    assert (again["seed"], again["inputs"]) == (7, {"prompt": "a fox", "seed": 7})
    varied = conveyor("rerun", first, "--new-seed", "--input", "steps=12", "--json")
    told = json.loads(varied.stdout)
    assert told["seed"] != 7
    assert told["inputs"] == {"prompt": "a fox", "seed": told["seed"], "steps": 12}
    assert varied.stderr == f"seed {told['seed']}\n"
    assert conveyor("rerun", "01a1fb4b-efc2-79a1-94b1-f3ed4809d12e").exit_code == 2


def test_a_recipe_can_be_carried_out_without_an_event_loop(stage: Stage) -> None:
    """The blocking producer takes any of them."""
    with SyncProducer.from_env() as producer:
        asked = {"deployment_id": PORTRAIT, **WHO}
        ordered = producer.order(make_image, "a fox", input_seed=7, **asked)
        again = producer.order(tweak, ordered.job.id, {"input_prompt": "a wolf"})
        assert producer.status(again.job.id).job.request.inputs == {"input_prompt": "a wolf", "input_seed": 7}


# -- training ---------------------------------------------------------------------------------------------------------


async def test_a_training_has_its_pictures_hours_and_a_lane_of_its_own(
    producer: Producer, bench: Bench, api: Api
) -> None:
    """Pictures are uploaded, each content once; it may run for hours, tells progress and stands beside the short jobs of
    its machine."""
    pictures = [b"\x89PNG\r\n\x1a\n" + bytes([n]) * 64 for n in (1, 2, 1)]
    ordered = await train_model(producer, pictures, input_name="fox", input_steps=500, workflow="LoRA Training", **WHO)
    assert await api.calls("POST /file/upload") == 2
    one, two, three = ordered.inputs["images"]
    assert (one == three, one == two) == (True, False)
    assert (ordered.inputs["name"], ordered.inputs["steps"]) == ("fox", 500)
    job = (await ordered.job.status()).job
    assert (job.request.run_timeout_seconds, job.request.progress) == (6 * 3600, True)
    assert job.pool == f"{TRAINING_MACHINE}/long"
    # It has the machine for itself, so it may have every container of it.
    assert await bench.database.redis.hget(bench.database.keys.pools, job.pool) == "1"


async def test_long_jobs_leave_a_shared_machine_to_the_short_ones(producer: Producer, bench: Bench) -> None:
    """Twenty hour-long jobs and a picture on one machine of eight containers: four of them pass, and so does the picture."""
    long_ = {"run_timeout_seconds": LONG_RUN_SECONDS + 1, "deployment_id": PORTRAIT}
    for n in range(20):
        await producer.enqueue({"frontend": "web", "user": {"id": f"u{n}"}} | long_)
    picture = await producer.enqueue({**WHO, "workflow": "SDXL Portrait", "inputs": {"prompt": "a fox"}})
    windows = await bench.database.redis.hgetall(bench.database.keys.window_pools)
    assert windows == {f"{IMAGE_MACHINE}/long": "4", IMAGE_MACHINE: "1"}
    assert (await picture.status()).queue is None


async def test_what_cannot_be_trained_uploads_nothing(producer: Producer, api: Api) -> None:
    """No pictures, or a workflow that takes none."""
    for pictures, workflow in (([], "LoRA Training"), ([b"\x89PNG\r\n\x1a\n"], "SDXL Portrait")):
        with pytest.raises(InvalidInput):
            await train_model(producer, pictures, workflow=workflow, **WHO)
    assert await api.calls("POST /file/upload") == 0
