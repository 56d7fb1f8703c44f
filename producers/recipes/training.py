"""A model from pictures: the documents' `trainModel`, a job like any other that takes hours.

    ordered = await train_model(producer, [Path("1.png"), Path("2.png")], workflow="LoRA Training", frontend="web", user={"id": "42"})
    async for event in ordered.job.events(): ...

No process waits for it: its run is followed by whichever worker is there, so workers may be killed, deployed and scaled
meanwhile. It stands in lanes of its own (`producers/admission.py`) and holds up no picture.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from producers.recipes.ordered import Ordered, order, signature_for
from producers.recipes.roles import find, spelled
from shared.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from producers.producer import Producer
    from shared.media.sources import Source

#: How long a training may run unless somebody says otherwise, and how long it may wait for its turn behind others.
RUN_SECONDS = 6 * 3600
QUEUE_SECONDS = 3 * 86_400


async def train_model(
    producer: "Producer",
    images: "Sequence[Source]",
    *,
    input_name: str | None = None,
    input_steps: int | None = None,
    inputs: dict[str, Any] | None = None,
    **request: Any,
) -> Ordered:
    """Upload the pictures (bytes, paths, open files, addresses; each content once) and ask for a training on them.

    `request` holds the other fields of a `JobRequest`; unless it says otherwise the training may run for `RUN_SECONDS`, wait for
    `QUEUE_SECONDS`, and tells its progress. The machine upstream has a limit of its own, which has to allow it.
    Raises what `Producer.upload` and `enqueue` raise; `InvalidInput` before any upload when the workflow takes no
    pictures.
    """
    if not images:
        raise InvalidInput([Problem("images", "are needed to train on")])
    asked = {"input_name": input_name, "input_steps": input_steps}
    given = {name: value for name, value in asked.items() if value is not None} | (inputs or {})
    signature = await signature_for(producer, request)
    if signature is not None and signature.complete and find(signature, "input_images") is None:
        raise InvalidInput([Problem("images", f"this workflow takes none, only: {', '.join(signature.by_name)}")])
    # All are tried before one is told of: uploads that went well are not made again.
    uploads = await asyncio.gather(*(producer.upload(image) for image in images), return_exceptions=True)
    for upload in uploads:
        if isinstance(upload, BaseException):
            raise upload
    addresses = [upload.url for upload in uploads if not isinstance(upload, BaseException)]
    sent = spelled(signature, given | {"input_images": addresses})
    usual = {"run_timeout_seconds": RUN_SECONDS, "queue_timeout_seconds": QUEUE_SECONDS, "progress": True}
    return await order(producer, usual | request, sent)
