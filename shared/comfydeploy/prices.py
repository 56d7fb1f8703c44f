"""What does a GPU second cost? The list the API gives to anybody; runs themselves carry no cost (CONTRACT section 11)."""

from __future__ import annotations

from decimal import Decimal

from shared.comfydeploy.answers import Ask, one, refused
from shared.comfydeploy.values import number

LIST = "GET /platform/gpu-pricing"


class Prices:
    """The route about prices; reached as `client.prices`."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self) -> dict[str, Decimal]:
        """List US dollars a GPU second by the GPU's name. One call. What is no price is left out.

        Raises Unauthorized, RateLimited, Unavailable, UnexpectedAnswer.
        """
        answer = await self._ask(LIST)
        if not answer.ok:
            raise refused(answer)
        prices = {gpu: number(price) for gpu, price in one(answer, "prices").items()}
        # By way of text: the decimal number that was written, not the float nearest to it.
        return {gpu: Decimal(str(price)) for gpu, price in prices.items() if price is not None and price >= 0}
