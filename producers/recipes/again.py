"""Once more: repeat an earlier job, vary it with a new seed, or change some of its inputs.

The earlier job's record says what was asked, for as long as it is kept (`CONVEYOR_JOB_KEEP_SECONDS` after its end). The new job
is for the same user and frontend, with the same context, unless the call says otherwise; it has no idempotency key and no
callback, since both belonged to the first. It runs on what is deployed now, which may be a newer version.
"""

from typing import TYPE_CHECKING, Any

from producers.recipes.ordered import Ordered, order, signature_for
from producers.recipes.roles import draw_seed, seed_of, spelled
from shared.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from producers.producer import Producer


async def rerun(
    producer: "Producer",
    job_id: str,
    *,
    inputs: dict[str, Any] | None = None,
    new_seed: bool = False,
    **request: Any,
) -> Ordered:
    """Ask for what a job asked for, with these `inputs` changed and other fields of the request replaced.

    With the same seed the outputs are the same. A seed that the GPU drew is known to nobody: then `Ordered.seed` is None, and
    the outputs will differ. Raises `JobNotFound`, and what `Producer.enqueue` raises; `InvalidInput` for a `new_seed` of a workflow
    that has none.
    """
    first = (await producer.status(job_id)).job.request
    fields = first.model_dump(exclude_defaults=True, exclude={"inputs", "idempotency_key", "callback"}) | request
    signature = await signature_for(producer, fields)
    changes = spelled(signature, inputs or {})
    # Spelled anew: the first job may have been accepted when nobody knew the workflow's own names.
    sent = spelled(signature, first.inputs) | changes
    seed_name = seed_of(signature, sent)
    if new_seed:
        if seed_name is None:
            raise InvalidInput([Problem("new_seed", "this workflow has no seed; change another input")])
        if seed_name in changes:
            raise InvalidInput([Problem(f"inputs.{seed_name}", "is given, and a new one is to be drawn")])
        sent[seed_name] = draw_seed(signature, seed_name)
    return await order(producer, fields, sent, seed_name)


async def variation(producer: "Producer", job_id: str, **request: Any) -> Ordered:
    """The same with a new seed. Raises what `rerun` raises."""
    return await rerun(producer, job_id, new_seed=True, **request)


async def tweak(producer: "Producer", job_id: str, inputs: dict[str, Any], **request: Any) -> Ordered:
    """The same seed with other inputs, so that only what they change is different. Raises what `rerun` raises."""
    return await rerun(producer, job_id, inputs=inputs, **request)
