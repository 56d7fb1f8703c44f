"""Do webhooks reach us? A signed one goes out to the public address and must be taken; a forged one must not."""

import uuid
from collections.abc import AsyncIterator

from producers.cli.doctor.check import Check, fail, ok, warn
from producers.cli.doctor.setup import masked
from shared.hooks import PROBE, address
from shared.settings import Settings

#: Seconds for each of the two.
HOOK_SECONDS = 5.0


async def checks(settings: Settings, *, offline: bool) -> AsyncIterator[Check]:
    """One check."""
    if not settings.public_url:
        yield ok("webhooks", "off: CONVEYOR_PUBLIC_URL is empty, runs are followed by looks alone")
    elif settings.secret is None:
        yield fail("webhooks", "CONVEYOR_PUBLIC_URL is set and CONVEYOR_SECRET is not", "set it to a long random text")
    elif offline:
        yield ok("webhooks", f"asked for at {masked(settings.public_url)}; not tried: --offline")
    else:
        yield await _round_trip(settings)


async def _round_trip(settings: Settings) -> Check:
    import httpx  # noqa: PLC0415 - for this check only

    where = masked(settings.public_url)
    signed = address(settings, f"{PROBE}{uuid.uuid4().hex}") or ""
    forged = f"{signed[:-8]}{'0' * 8}"
    try:
        # Straight, as a call from outside would come.
        async with httpx.AsyncClient(timeout=HOOK_SECONDS, trust_env=False) as http:
            taken, refused = (await http.post(signed)).status_code, (await http.post(forged)).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fix = "is the gateway up, and does CONVEYOR_PUBLIC_URL lead to it from here, and from outside?"
        return fail("webhooks", f"{where} cannot be reached: {type(error).__name__}", fix)
    if taken == 404:
        fix = "has the gateway the same CONVEYOR_SECRET as the workers, and does the proxy pass /hooks/ to it?"
        return fail("webhooks", f"{where} does not take our signature (404)", fix)
    if taken != 200:
        return fail(
            "webhooks", f"{where} answers {taken} to a hook", "what stands there? /hooks/ must lead to the gateway"
        )
    if refused == 200:
        return warn("webhooks", f"{where} takes a forged hook as well", "it is no gateway of ours: CONVEYOR_PUBLIC_URL")
    return ok("webhooks", f"{where} takes ours and refuses a forged one")
