"""A frontend's dead letters on the command line: list them, and put them back."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import typer

from producers.cli.columns import columns
from producers.cli.confirm import agreed
from producers.cli.options import operator
from producers.cli.outcome import OK, REFUSED, say
from producers.levers.audit import note
from producers.results.dead_letters import DeadLetter, DeadLetters, Replayed
from shared.database import Database
from shared.errors import InvalidInput, Problem
from shared.jobs.by import By
from shared.settings import Settings

#: What became of letters, as the end of a sentence that begins with their number.
SAID: dict[Replayed, str] = {
    "pending": "pending again in the group that failed",
    "copied": "copied to the end of the stream, since the original was trimmed: other groups read them again",
    "gone": "were gone already: replayed by somebody else",
    "no group": "kept: their group does not exist; start its consumer once, then replay again",
    "empty": "kept: only the reason is left, the event itself was trimmed",
}


@dataclass(frozen=True)
class Choice:
    """Which letters to replay: some ids, all of one job, or all; of any group or of one."""

    ids: Sequence[str] = ()
    job: str | None = None
    all_: bool = False
    group: str | None = None

    def check(self) -> None:
        """Raise `InvalidInput` unless exactly one way to choose was used."""
        ways = [bool(self.ids), self.job is not None, self.all_]
        if sum(ways) != 1:
            raise InvalidInput([Problem("replay", "say which letters: ENTRY_ID..., or --job ID, or --all")])

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is among them."""
        if self.group is not None and letter.group != self.group:
            return False
        return self.all_ or letter.id in self.ids or (self.job is not None and letter.job_id == self.job)


async def show(frontend: str, *, last: int, group: str | None, as_json: bool) -> int:
    """List the last dead letters, oldest first; says on stderr when there are more."""
    async with Database.open(Settings.from_env().redis_url) as database:
        letters, count = await DeadLetters(database, frontend).newest(last)
    shown = [letter for letter in letters if group in (None, letter.group)]
    if as_json:
        for letter in shown:
            typer.echo(json.dumps(asdict(letter) | {"at": letter.at.isoformat()}, ensure_ascii=False))
    elif shown:
        headings = ("entry", "when", "job", "seq", "type", "group", "deliveries", "reason")
        for line in columns(headings, [_row(letter) for letter in shown]):
            typer.echo(line)
    else:
        say("There are no dead letters.")
    if count > len(letters):
        say(f"{count - len(letters)} older ones are not shown; --last N shows more.")
    return OK


def _row(letter: DeadLetter) -> Sequence[object]:
    when = letter.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    job, seq, type_ = letter.job_id or "?", letter.seq or "?", letter.type or "?"
    return (letter.id, when, job, seq, type_, letter.group, letter.deliveries, letter.reason)


async def replay(frontend: str, choice: Choice, reason: str, *, yes: bool, as_json: bool) -> int:
    """Put letters back, after asking. 2 when one had to be kept, or when nobody agreed."""
    choice.check()
    async with Database.open(Settings.from_env().redis_url) as database:
        dead = DeadLetters(database, frontend)
        letters = [letter async for letter in dead.all() if choice.takes(letter)]
        missing = sorted(set(choice.ids) - {letter.id for letter in letters})
        if missing:
            raise InvalidInput([Problem(name, f"is no dead letter of {frontend} (any more)") for name in missing])
        if not letters:
            say("There is nothing to replay.")
            return OK
        if not yes and not _agreed(frontend, letters):
            return REFUSED
        words: Counter[Replayed] = Counter()
        try:
            async for letter, word in dead.replay(letters):
                words[word] += 1
                if as_json:
                    told = {"id": letter.id, "job_id": letter.job_id, "seq": letter.seq, "group": letter.group}
                    typer.echo(json.dumps(told | {"replayed": word}))
        finally:
            # Also of a replay that was stopped half way: what was told of is done.
            if words:
                by, before = By(operator(), reason), str(len(letters))
                await note(database, by, "replay", frontend, before=before, after=json.dumps(words))
    if not as_json:
        for word, number in words.items():
            typer.echo(f"{number} {SAID[word]}.")
    return REFUSED if words["no group"] or words["empty"] else OK


def _agreed(frontend: str, letters: Sequence[DeadLetter]) -> bool:
    groups = ", ".join(sorted({letter.group for letter in letters}))
    jobs = len({letter.job_id for letter in letters})
    what = (
        f"{len(letters)} dead {'letter' if len(letters) == 1 else 'letters'} of {jobs} {'job' if jobs == 1 else 'jobs'}"
    )
    return agreed(
        f"Replay {what} to {groups} on {frontend}?",
        unasked=f"{what} would go to {groups} on {frontend}",
        refused="Nothing was replayed.",
    )
