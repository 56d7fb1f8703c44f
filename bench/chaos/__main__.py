"""Kill things for two minutes, then count: was a job lost, or paid for twice?

    python -m bench.chaos --seconds 120 --seed 1

Starts its own Redis, simulator, three workers and four consumers on loopback, puts about three jobs a second in, and
meanwhile kills, restarts, drops, doubles and breaks things by a plan drawn from the seed. Then everything is left alone
until it is quiet, and counted. Nothing of yours is touched: REDIS_URL and the API key of your shell are not used.

The exit code is 1 when a number breaks its limit; then the jobs, their events and the command for the same again are printed.
Logs of all processes, plan.txt and scorecard.json stay in var/chaos/SEED/. A run takes its seconds and about 30 to 90 more.

The same seed gives the same plan and the same jobs; what they meet depends on the machine's mood, so run a failing seed
more than once. Raise --intensity until something breaks.
"""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench.chaos.plan import DECK
from bench.chaos.session import DEFAULT_JOBS, Options, run
from bench.chaos.show import Display, print_outcome
from producers.local.processes import ROOT
from shared.errors import ConveyorError


def _options() -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long faults are injected (120)")
    parser.add_argument("--seed", type=int, default=1, help="draws the plan and the jobs (1)")
    parser.add_argument(
        "--intensity", type=float, default=1.0, help="faults come so many times as often and as likely (1)"
    )
    parser.add_argument("--jobs-per-second", type=float, default=DEFAULT_JOBS, help=f"({DEFAULT_JOBS:g})")
    parser.add_argument(
        "--redis-kill-hard",
        action="store_true",
        help="a killed Redis also forgets its last second, as in a power cut: shows what can be lost, and breaks numbers",
    )
    parser.add_argument("--only", default="", metavar="KIND,KIND", help="deal only these kinds of faults")
    parser.add_argument("--folder", type=Path, default=None, help="where logs and the card go (var/chaos/SEED)")
    parser.add_argument("--plan", action="store_true", help="print the plan and do nothing")
    given = parser.parse_args()
    kinds = {card.kind for card in DECK}
    only = frozenset(kind for kind in given.only.split(",") if kind)
    if only - kinds:
        parser.error(f"no such kind: {', '.join(sorted(only - kinds))}; there are: {', '.join(sorted(kinds))}")
    options = Options(
        seconds=given.seconds,
        seed=given.seed,
        intensity=given.intensity,
        jobs_per_second=given.jobs_per_second,
        power_loss=given.redis_kill_hard,
        only=only,
        folder=given.folder or ROOT / "var" / "chaos" / str(given.seed),
    )
    return options, given.plan


async def _main(console: Console, options: Options) -> int:
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with Display(console, options.seconds) as display:
        outcome = await run(options, display)
    print_outcome(console, options, outcome)
    return 1 if outcome.broken else 0


def main() -> int:
    """Run, and answer the exit code: 0 every promise kept, 1 one broken, 3 could not start, 130 interrupted."""
    options, only_plan = _options()
    console = Console(highlight=False)
    # That a process ended is no news here.
    logging.getLogger("producers.local").setLevel(logging.ERROR)
    if only_plan:
        for fault in options.plan():
            console.print(str(fault))
        return 0
    try:
        return asyncio.run(_main(console, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; everything that was started has ended")
        return 130
    except ConveyorError as error:
        console.print(f"could not start: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
