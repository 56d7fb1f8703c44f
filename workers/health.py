"""Is the worker on this host alive, and does it consume? For container health checks: `python -m workers.health`.

Exit code 0 when a worker whose node name ends in `@<this host>` has been seen within half a minute and is not starved.
"""

import asyncio
import json
import socket
import sys

from shared.database import REDIS_AWAY, Database
from shared.errors import ConveyorError
from shared.settings import Settings


async def sick() -> str | None:
    """What is wrong, in a sentence; None when all is well."""
    host = socket.gethostname()
    async with Database.open(Settings.from_env().redis_url) as database:
        try:
            seen = [key async for key in database.redis.scan_iter(match=database.keys.worker(f"*@{host}"), count=1000)]
            if not seen:
                return f"no worker on {host} has been seen lately"
            for key in seen:
                state = json.loads(await database.redis.get(key) or "{}")
                if state.get("starved_seconds", 0) > 0 and state["starved_seconds"] > 20:
                    return f"{key}: messages have been waiting for {state['starved_seconds']} s"
        except REDIS_AWAY as error:
            return str(database.away(error))
    return None


def main() -> int:
    """Say what is wrong and answer the exit code."""
    try:
        wrong = asyncio.run(sick())
    except ConveyorError as error:
        wrong = str(error)
    if wrong:
        sys.stderr.write(f"{wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
