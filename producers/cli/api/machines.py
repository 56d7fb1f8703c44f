"""`conveyor api machines`: what our workflows run on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.api.graphs import read_object
from producers.cli.api.options import Limit, Offset, Search, Yes, given, group, may_delete
from producers.cli.api.session import Session, talk
from producers.cli.api.told import list_all, show_one
from producers.cli.options import AsJson
from producers.cli.outcome import REFUSED
from shared.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from shared.comfydeploy import Serverless

machines_app = group(
    "machines",
    """Machines: list, read, make, change, delete. `serverless` ones are built and run by the API, `custom` ones are yours.

    [dim]$ conveyor api machines list[/dim]

    [dim]$ conveyor api machines create serverless --name fast --gpu H100 --containers 4[/dim]
    """,
)
create_app = group(
    "create", "Make a machine. A repeat makes another; after a lost answer, list them before you repeat."
)
update_app = group("update", "Change what is given of a machine; the API may build it anew.")
machines_app.add_typer(create_app)
machines_app.add_typer(update_app)

Id = Annotated[str, typer.Argument(metavar="MACHINE_ID")]
Name = Annotated[str | None, typer.Option(help="What people call it.")]
Gpu = Annotated[str | None, typer.Option(help="CPU, T4, L4, A10G, L40S, A100, A100-80GB, H100, H200, B200.")]
Containers = Annotated[int | None, typer.Option(min=1, help="Containers at once; further runs wait.")]
PerContainer = Annotated[int | None, typer.Option(min=1, help="Runs at once in one container.")]
RunTimeout = Annotated[int | None, typer.Option(min=1, metavar="SECONDS", help="Longest run.")]
IdleTimeout = Annotated[int | None, typer.Option(min=0, metavar="SECONDS", help="A container idles so long.")]
KeepWarm = Annotated[int | None, typer.Option(min=0, metavar="N", help="Containers that stay up; they cost.")]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="JSON in the API's own words; options go before it. `-` is stdin."),
]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="Where its ComfyUI is.")]
Type = Annotated[str | None, typer.Option("--type", help="classic or runpod-serverless.", show_default="classic")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Holds the token the API has to show there. Not an argument: others could read it."
    ),
]

#: The API's words for what `Serverless` calls otherwise.
_WORDS = {"run_timeout": "run_timeout_seconds", "idle_timeout": "idle_timeout_seconds"}
_SET = (
    "name",
    "gpu",
    "concurrency_limit",
    "allow_concurrent_inputs",
    "run_timeout_seconds",
    "idle_timeout_seconds",
    "keep_warm",
)


def _serverless(from_: Path | None, **options: Any) -> "Serverless":
    """What a file and the options say together. Raises `InvalidInput`."""
    from shared.comfydeploy import Serverless  # noqa: PLC0415 - brings the HTTP client

    content = {_WORDS.get(name, name): value for name, value in (read_object(from_) if from_ else {}).items()}
    known = {name: value for name, value in content.items() if name in _SET}
    build = {name: value for name, value in content.items() if name not in _SET}
    wanted = Serverless(**(known | given(**options)), build=build or None)
    if not any(wanted.body().values()):
        raise InvalidInput([Problem("machine", "say what it shall be, by options or --from FILE")])
    return wanted


def _custom(from_: Path | None, token_file: Path | None, **options: Any) -> dict[str, Any]:
    content = read_object(from_) if from_ else {}
    words = {"type": "machine_type"}
    known = {words.get(name, name): value for name, value in content.items()}
    unknown = [name for name in known if name not in {"name", "endpoint", "machine_type", "auth_token"}]
    if unknown:
        raise InvalidInput([Problem(name, "is nothing a custom machine has") for name in unknown])
    if token_file is not None:
        try:
            known["auth_token"] = token_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise InvalidInput([Problem("--token-file", "cannot be read")]) from None
    return known | given(**options)


@machines_app.command("list")
def list_(*, search: Search = None, limit: Limit = 100, offset: Offset = 0, as_json: AsJson = False) -> None:
    """List machines that are not deleted, newest first.

    [dim]$ conveyor api machines list --search video[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await api.machines.list(search, limit=limit, offset=offset)
        headings = {"machine": "id", "name": "name", "type": "type", "gpu": "gpu", "status": "status"}
        list_all(found, headings, as_json=as_json, limit=limit)

    talk(work)


@machines_app.command()
def get(machine_id: Id, *, as_json: AsJson = False) -> None:
    """Show one machine with its limits, also a deleted one.

    [dim]$ conveyor api machines get a0000000-0000-4000-8000-000000000001[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            show_one(await api.machines.get(machine_id), as_json=as_json)

    talk(work)


@create_app.command("serverless")
def create_serverless(
    *,
    name: Name = None,
    gpu: Gpu = None,
    containers: Containers = None,
    per_container: PerContainer = None,
    run_timeout: RunTimeout = None,
    idle_timeout: IdleTimeout = None,
    keep_warm: KeepWarm = None,
    from_: From = None,
    as_json: AsJson = False,
) -> None:
    """Make a serverless machine; the API builds its image afterwards (`building`). Needs a name and a GPU.

    [dim]$ conveyor api machines create serverless --name fast --gpu H100 --containers 4[/dim]

    [dim]$ conveyor api machines create serverless --from machine.json --name "another like it"[/dim]
    """

    async def work(session: Session) -> None:
        wanted = _serverless(
            from_,
            name=name,
            gpu=gpu,
            concurrency_limit=containers,
            allow_concurrent_inputs=per_container,
            run_timeout_seconds=run_timeout,
            idle_timeout_seconds=idle_timeout,
            keep_warm=keep_warm,
        )
        async with session.call() as api:
            show_one(await api.machines.create_serverless(wanted), as_json=as_json)
        await session.changed()

    talk(work)


@create_app.command("custom")
def create_custom(
    *,
    name: Name = None,
    endpoint: Endpoint = None,
    type_: Type = None,
    token_file: TokenFile = None,
    from_: From = None,
    as_json: AsJson = False,
) -> None:
    """Make a machine of a ComfyUI of your own. Its runs can never be cancelled. Needs a name and an endpoint.

    [dim]$ conveyor api machines create custom --name own --endpoint https://gpu.example:8188 --token-file token[/dim]
    """

    async def work(session: Session) -> None:
        wanted = _custom(from_, token_file, name=name, endpoint=endpoint, machine_type=type_)
        lacking = [Problem(f"--{word}", "is needed") for word in ("name", "endpoint") if not wanted.get(word)]
        if lacking:
            raise InvalidInput(lacking)
        async with session.call() as api:
            show_one(await api.machines.create_custom(**wanted), as_json=as_json)
        await session.changed()

    talk(work)


@update_app.command("serverless")
def update_serverless(
    machine_id: Id,
    *,
    name: Name = None,
    gpu: Gpu = None,
    containers: Containers = None,
    per_container: PerContainer = None,
    run_timeout: RunTimeout = None,
    idle_timeout: IdleTimeout = None,
    keep_warm: KeepWarm = None,
    from_: From = None,
    as_json: AsJson = False,
) -> None:
    """Change a serverless machine.

    [dim]$ conveyor api machines update serverless a0000000-… --containers 8 --keep-warm 1[/dim]
    """

    async def work(session: Session) -> None:
        wanted = _serverless(
            from_,
            name=name,
            gpu=gpu,
            concurrency_limit=containers,
            allow_concurrent_inputs=per_container,
            run_timeout_seconds=run_timeout,
            idle_timeout_seconds=idle_timeout,
            keep_warm=keep_warm,
        )
        async with session.call() as api:
            show_one(await api.machines.update_serverless(machine_id, wanted), as_json=as_json)
        await session.changed()

    talk(work)


@update_app.command("custom")
def update_custom(
    machine_id: Id,
    *,
    name: Name = None,
    endpoint: Endpoint = None,
    type_: Type = None,
    token_file: TokenFile = None,
    from_: From = None,
    as_json: AsJson = False,
) -> None:
    """Change a machine of your own.

    [dim]$ conveyor api machines update custom a0000000-… --endpoint https://gpu2.example:8188[/dim]
    """

    async def work(session: Session) -> None:
        wanted = _custom(from_, token_file, name=name, endpoint=endpoint, machine_type=type_)
        if not wanted:
            raise InvalidInput([Problem("update", "say what to change")])
        async with session.call() as api:
            show_one(await api.machines.update_custom(machine_id, **wanted), as_json=as_json)
        await session.changed()

    talk(work)


@machines_app.command()
def delete(
    machine_id: Id,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also while deployments run on it.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a machine. Refused while deployments need it, unless with `--force`, and while containers are kept warm.

    [dim]$ conveyor api machines delete a0000000-0000-4000-8000-000000000003[/dim]
    """

    async def work(session: Session) -> int | None:
        name = None
        if not yes:
            async with session.call() as api:
                name = (await api.machines.get(machine_id)).name
        if not may_delete("machine", name, machine_id, yes=yes):
            return REFUSED
        async with session.call() as api:
            await api.machines.delete(machine_id, force=force)
        typer.echo("Deleted.")
        await session.changed()
        return None

    talk(work)
