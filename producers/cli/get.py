"""Files on the command line: a job's outputs saved, and inputs uploaded."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from producers.cli.outcome import JOB_FAILED, OK, lines_of, say
from producers.producer import Producer
from shared.errors import JobFailed
from shared.media.names import safe_name


async def get(job_id: str, folder: Path | None, *, force: bool, wait: bool, as_json: bool) -> int:
    """Save a job's outputs and print where; 1 when the job ended in something other than success."""
    async with Producer.from_env() as producer:
        if wait:
            await producer.wait(job_id)
        with ExitStack() as shown:
            # On stderr: what is printed on the other is for programs.
            console = Console(stderr=True)
            tell = _bars(shown, console) if console.is_terminal and not as_json else None
            try:
                saved = await producer.fetch(job_id, folder or Path(safe_name(job_id)), force=force, tell=tell)
            except JobFailed as error:
                say(*lines_of(error))
                return JOB_FAILED
    for one in saved:
        if as_json:
            typer.echo(json.dumps(one.snapshot(), ensure_ascii=False))
        else:
            typer.echo(f"{one.path}  {one.content_type}, {one.size:,} bytes{'' if one.written else ', was there'}")
    if not saved:
        say("The job has no outputs.")
    return OK


async def upload(source: str, *, as_json: bool) -> int:
    """Upload a file or what an address holds, and print the address it has now."""
    is_address = source.lower().startswith(("http://", "https://"))
    async with Producer.from_env() as producer:
        kept = await producer.upload(source if is_address else Path(source))
    typer.echo(json.dumps(asdict(kept), ensure_ascii=False) if as_json else kept.url)
    return OK


def _bars(shown: ExitStack, console: Console) -> Callable[[int, int, int | None], None]:
    """Bars for what is coming, made as it comes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = shown.enter_context(Progress(*columns, console=console, transient=True))
    bars: dict[int, TaskID] = {}

    def tell(place: int, done: int, total: int | None) -> None:
        if place not in bars:
            bars[place] = progress.add_task(f"output {place + 1}", total=total)
        progress.update(bars[place], completed=done, total=total)

    return tell
