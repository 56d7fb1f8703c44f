"""A picture from a text: the documents' `makeImage`.

    ordered = await make_image(producer, "a fox in the snow", workflow="SDXL Portrait", frontend="web", user={"id": "42"})
    final = await ordered.job.wait()

The seed is drawn here and not on the GPU, so that it is known and the picture can be made again (`again.py`).
"""

from typing import TYPE_CHECKING, Any

from producers.recipes.ordered import Ordered, order, signature_for
from producers.recipes.roles import draw_seed, seed_of, spelled

if TYPE_CHECKING:
    from producers.producer import Producer


async def make_image(
    producer: "Producer",
    input_prompt: str,
    *,
    input_negative_prompt: str | None = None,
    input_seed: int | None = None,
    inputs: dict[str, Any] | None = None,
    **request: Any,
) -> Ordered:
    """Ask for a picture. `request` holds the other fields of a `JobRequest`: `workflow`, `frontend`, `user`, `context`, …

    What the workflow calls its inputs does not matter, nor for `inputs`, the more there are. Without `input_seed` one is drawn.
    Raises what `Producer.enqueue` raises; `InvalidInput` also when two names mean one input.
    """
    asked = {"input_prompt": input_prompt, "input_negative_prompt": input_negative_prompt, "input_seed": input_seed}
    given = {name: value for name, value in asked.items() if value is not None} | (inputs or {})
    signature = await signature_for(producer, request)
    sent = spelled(signature, given)
    seed_name = seed_of(signature, sent)
    if seed_name is not None and seed_name not in sent:
        sent[seed_name] = draw_seed(signature, seed_name)
    return await order(producer, request, sent, seed_name)
