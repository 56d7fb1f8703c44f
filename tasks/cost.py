"""What did a run cost? An estimate: GPU seconds times the list price; the API has no cost field.

Real bills count container time, shared by consecutive runs and including start-up, so the sum over runs is lower.
Prices: CONTRACT section 11, `GET /platform/gpu-pricing` as of 2026-03-30, US dollars a GPU second.
"""

from decimal import Decimal

from shared.jobs.event import Cost

BASIS = "run seconds x list price of 2026-03-30; start-up and idle time not included"

PRICES = {
    "CPU": Decimal("0.000042"),
    "T4": Decimal("0.00018"),
    "L4": Decimal("0.00032"),
    "A10G": Decimal("0.000337"),
    "L40S": Decimal("0.000596"),
    "A100": Decimal("0.00114"),
    "A100-80GB": Decimal("0.001708"),
    "H100": Decimal("0.002338"),
    "H200": Decimal("0.001891"),
    "B200": Decimal("0.002604"),
}


def cost(gpu: str | None, seconds: float | None) -> Cost | None:
    """The estimate; None when GPU or time are not known, or the time is negative (late updates do that)."""
    price = PRICES.get(gpu or "")
    if gpu is None or price is None or seconds is None or seconds < 0:
        return None
    usd = (price * Decimal(str(seconds))).quantize(Decimal("0.000001"))
    return Cost(usd=str(usd), gpu=gpu, seconds=round(seconds, 3), basis=BASIS)
