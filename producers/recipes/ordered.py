"""What a recipe gives: the accepted job, and what was asked for in the end."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from producers.handle import JobHandle
from producers.recipes.roles import is_drawn
from shared.errors import InvalidInput, Unavailable
from shared.inputs import Signature
from shared.jobs.request import JobRequest

if TYPE_CHECKING:
    from producers.producer import Producer


@dataclass(frozen=True, slots=True)
class Ordered:
    """A job that a recipe has put in."""

    job: JobHandle
    #: As it was sent, under the workflow's own names.
    inputs: dict[str, Any]
    #: With it and the same inputs the picture is the same; None when the workflow has no seed, or the GPU draws it.
    seed: int | None = None


async def order(
    producer: "Producer", request: dict[str, Any], inputs: dict[str, Any], seed_name: str | None = None
) -> Ordered:
    """Put the job in. What is told is read from its record: a repeat under the same idempotency key draws another seed, and
    gets the job, and the seed, of the first."""
    job = await producer.enqueue(request | {"inputs": inputs})
    sent = (await job.status()).job.request.inputs
    seed = sent.get(seed_name) if seed_name else None
    return Ordered(job, sent, None if is_drawn(seed) else seed)


async def signature_for(producer: "Producer", request: dict[str, Any]) -> Signature | None:
    """What the workflow of a request takes, as far as the catalog knows."""
    asked = {name: request[name] for name in ("workflow", "deployment_id", "environment") if request.get(name)}
    try:
        named = JobRequest.read(asked | {"frontend": "cli", "user": {"id": "recipe"}})
        copy = await producer.workflows()
    except (Unavailable, InvalidInput):
        return None  # `enqueue` takes the inputs as they are, or says everything that is wrong
    entry = copy.find(named)
    return entry.signature if entry else None
