"""`conveyor rerun`: ask for what an earlier job asked for, once more."""

import json
from typing import Annotated

import typer

from producers.cli.inputs import read_inputs
from producers.cli.options import AsJson
from producers.cli.outcome import OK, carry_out, say


def rerun(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID")],
    *,
    new_seed: Annotated[bool, typer.Option("--new-seed", help="Draw another seed: a variation.")] = False,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="Change this input. Repeatable.")
    ] = None,
    frontend: Annotated[
        str | None, typer.Option(help="Whose result stream gets the events.", show_default="as the first job")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for what a job asked for, again: the same seed, a new one, or with some inputs changed.

    Events go where those of the first job went, so its user hears of it; `--frontend cli` keeps them here.

    [dim]$ conveyor rerun 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e --new-seed --wait[/dim]

    [dim]$ conveyor rerun 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e --input prompt="a fox at night"[/dim]
    """
    going = list[str]()

    async def work() -> int:
        from producers.cli.progress import display  # noqa: PLC0415 - `--help` must not wait for them
        from producers.cli.watch import watch  # noqa: PLC0415
        from producers.producer import Producer  # noqa: PLC0415
        from producers.recipes import rerun as ask_again  # noqa: PLC0415

        changes = read_inputs(input_ or [])
        request = {"frontend": frontend} if frontend else {}
        async with Producer.from_env() as producer:
            ordered = await ask_again(producer, job_id, inputs=changes, new_seed=new_seed, **request)
            going.append(ordered.job.id)
            if as_json:
                told = {"job_id": ordered.job.id, "created": ordered.job.created}
                typer.echo(json.dumps(told | {"seed": ordered.seed, "inputs": ordered.inputs}, ensure_ascii=False))
            elif not wait:
                typer.echo(ordered.job.id)
            if ordered.seed is None:
                say("Its seed is drawn on the GPU or it has none: the outputs may differ from run to run.")
            elif new_seed:
                say(f"seed {ordered.seed}")
            if not wait:
                return OK
            return await watch(producer, going, display(going, as_json=as_json, final_only=True))

    carry_out(work, on_stop=lambda: [f"The job goes on: conveyor watch {one}" for one in going] or ["Stopped."])
