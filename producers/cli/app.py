"""The commands of `conveyor`, and what their options mean. What they do is in the files beside this one.

Libraries that take long to load are imported in the command that needs them.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.cli.api.app import api_app
from producers.cli.levers_app import levers_app
from producers.cli.options import AsJson
from producers.cli.options import user as user_here
from producers.cli.outcome import OK, carry_out
from producers.cli.rate_app import rate_app
from producers.cli.rerun import rerun
from producers.cli.results_app import results_app
from producers.cli.windows_app import windows_app

app = typer.Typer(
    name="conveyor",
    help="Put generation jobs in, and hear what became of them.",
    epilog="Exit codes: 0 ok, 1 a job failed, 2 usage or refused input, 3 unavailable.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(results_app)
app.add_typer(rate_app)
app.add_typer(api_app)
app.add_typer(windows_app)
app.add_typer(levers_app)


@app.command()
def enqueue(
    *,
    workflow: Annotated[str | None, typer.Option(help="Name of a workflow; case and blanks do not matter.")] = None,
    deployment: Annotated[str | None, typer.Option(help="A deployment's id, instead of --workflow.")] = None,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="An input, as JSON or text. Repeatable.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="production, staging, preview, …")] = None,
    frontend: Annotated[str, typer.Option(help="Whose result stream gets the events.")] = "cli",
    user: Annotated[str | None, typer.Option(help="Who asks; names the lane.", show_default="you")] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs like this.")] = 1,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key answers the same job; with --count: KEY-1, KEY-2, …")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9, 9 first.")] = None,
    run_timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="Longest run.")] = None,
    progress: Annotated[bool, typer.Option("--progress", help="Ask for progress events.")] = False,
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Hold inputs against what the workflow takes.")
    ] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until all have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put one or several jobs in.

    [dim]$ conveyor enqueue --workflow portrait --input prompt="a cat in the rain" --input seed=7 --wait[/dim]

    [dim]$ conveyor enqueue --deployment 3f0c… --count 20 --json | jq -r .job_id[/dim]
    """
    from producers.cli.enqueue import Order, enqueue_jobs  # noqa: PLC0415

    fields: dict[str, Any] = {
        "workflow": workflow,
        "deployment_id": deployment,
        "environment": environment,
        "frontend": frontend,
        "user": {"id": user or user_here()},
        "idempotency_key": idempotency_key,
        "priority": priority,
        "run_timeout_seconds": run_timeout,
        "progress": progress,
    }
    order = Order(
        {name: value for name, value in fields.items() if value is not None},
        input_ or [],
        count,
        wait=wait,
        validate=validate,
        as_json=as_json,
    )
    carry_out(lambda: enqueue_jobs(order), on_stop=order.still_going)


app.command()(rerun)


@app.command()
def watch(job_ids: Annotated[list[str], typer.Argument(metavar="JOB_ID...")], as_json: AsJson = False) -> None:
    """Watch jobs until all have ended: what happened so far, then what happens.

    [dim]$ conveyor watch 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e[/dim]
    """

    async def work() -> int:
        from producers.cli.progress import display  # noqa: PLC0415
        from producers.cli.watch import watch as watch_jobs  # noqa: PLC0415
        from producers.producer import Producer  # noqa: PLC0415

        async with Producer.from_env() as producer:
            return await watch_jobs(producer, job_ids, display(job_ids, as_json=as_json))

    carry_out(work, on_stop=lambda: ["The jobs go on."])


@app.command()
def status(job_id: Annotated[str, typer.Argument(metavar="JOB_ID")], as_json: AsJson = False) -> None:
    """Say where a job is.

    [dim]$ conveyor status 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e --json | jq .state[/dim]
    """

    async def work() -> int:
        from producers.cli.status import show  # noqa: PLC0415
        from producers.producer import Producer  # noqa: PLC0415

        async with Producer.from_env() as producer:
            show(await producer.status(job_id), as_json=as_json)
        return OK

    carry_out(work)


@app.command()
def cancel(job_id: Annotated[str, typer.Argument(metavar="JOB_ID")], as_json: AsJson = False) -> None:
    """Ask for a job's end. A waiting job ends at once; a run may still succeed, and is then delivered.

    [dim]$ conveyor cancel 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e[/dim]
    """

    async def work() -> int:
        from producers.cli.status import CANCELLED  # noqa: PLC0415
        from producers.producer import Producer  # noqa: PLC0415

        async with Producer.from_env() as producer:
            word = await producer.cancel(job_id)
        typer.echo(json.dumps({"job_id": job_id, "cancel": word}) if as_json else CANCELLED[word])
        return OK

    carry_out(work)


@app.command()
def get(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID")],
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where to.", show_default="a folder JOB_ID")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Save a job's outputs: files under safe names, texts as `.txt`. A repeat saves what is missing.

    [dim]$ conveyor get 01a1fb4b-efc2-79a1-94b1-f3ed4809d12e -o pictures[/dim]
    """
    from producers.cli.get import get as get_outputs  # noqa: PLC0415

    carry_out(lambda: get_outputs(job_id, output, force=force, wait=wait, as_json=as_json))


@app.command()
def upload(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_URL")],
    as_json: AsJson = False,
) -> None:
    """Upload a file for an input, and print its address. The same content is uploaded once.

    An address is read from here and never passed on, so it may hold a secret; private addresses are refused.

    [dim]$ conveyor enqueue --workflow upscale --input image="$(conveyor upload fox.png)"[/dim]
    """
    from producers.cli.get import upload as upload_file  # noqa: PLC0415

    carry_out(lambda: upload_file(source, as_json=as_json))


@app.command()
def workflows(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A workflow, or a deployment's id.")] = None,
    *,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Read it from the API now, instead of our copy; costs some calls.")
    ] = False,
    graph: Annotated[
        bool, typer.Option("--graph", help="With NAME: print the graph that its deployment runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what can be run: name, environment, deployment, machine. Of one workflow: what it takes and gives.

    It is a copy and says how old it is. Leaves with 3 when `--refresh` could not be had; then shows the copy all the same.

    [dim]$ conveyor workflows[/dim]

    [dim]$ conveyor workflows "sdxl portrait" --json | jq .schema[/dim]
    """
    from producers.cli.workflows import show  # noqa: PLC0415

    carry_out(lambda: show(name, refresh=refresh, graph=graph, as_json=as_json))


@app.command()
def doctor(
    *,
    settings: Annotated[
        bool, typer.Option("--settings", help="First show what each setting is, secrets masked.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Call neither the ComfyUI Deploy API nor our public address.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 1 when something is to be looked at.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check Redis, workers, the budget, the API, webhooks, jobs and streams; say how to fix what is wrong.

    Each line is ok, warn (look at it) or fail (something does not work, or will be lost). Leaves with 0 when nothing
    failed, else with 3. No check takes longer than 15 seconds. Asking the API costs one call of the budget.

    [dim]$ conveyor doctor[/dim]

    [dim]$ conveyor doctor --offline --json | jq 'select(.verdict != "ok")'[/dim]
    """
    from producers.cli.doctor.examine import examine  # noqa: PLC0415

    carry_out(lambda: examine(show_settings=settings, offline=offline, strict=strict, as_json=as_json))


@app.command()
def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.2, max=60, help="Time between two looks.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Show what goes on: calls, windows, lanes, runs, workers, slow jobs, failures. q or Ctrl-C ends it.

    With --json a line for each look. It asks Redis alone, and not much: it may stay open.

    [dim]$ conveyor top[/dim]

    [dim]$ conveyor top --once --json | jq .waiting[/dim]
    """
    from producers.cli.top.live import top as show_top  # noqa: PLC0415

    carry_out(lambda: show_top(once=once, seconds=every, as_json=as_json))


@app.command()
def demo(
    jobs: Annotated[int, typer.Option(min=1, max=1000, help="How many jobs.")] = 30,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data of earlier demos.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed makes the same jobs.")] = 7,
) -> None:
    """Generate through everything on this machine: Redis, simulator, workers; pictures land in var/demo/.

    [dim]$ conveyor demo --jobs 10[/dim]
    """
    from producers.local.demo import run  # noqa: PLC0415

    raise typer.Exit(run(jobs=jobs, keep=keep, seed=seed))


@app.command()
def up() -> None:
    """Stay up on this machine: Redis, simulator, workers, Flower, until Ctrl-C.

    [dim]$ conveyor up[/dim]
    """
    from producers.local.up import run  # noqa: PLC0415

    raise typer.Exit(run())
