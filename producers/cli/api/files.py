"""`conveyor api files` and `conveyor api assets`: files on their way to the API, and what it keeps of them."""

import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from producers.cli.api.options import Yes, group, may_delete
from producers.cli.api.session import Session, talk
from producers.cli.api.told import list_all, print_json, show_fields, show_one
from producers.cli.options import AsJson
from producers.cli.outcome import REFUSED
from shared.errors import InvalidInput, Problem

files_app = group(
    "files",
    """Files as the API takes them. For inputs of jobs `conveyor upload` is better: it uploads the same content once.

    [dim]$ conveyor api files upload fox.png[/dim]

    [dim]$ conveyor api files put checkpoint.safetensors --register[/dim]
    """,
)
assets_app = group(
    "assets",
    """The asset library, as people see it on the API's own pages.

    [dim]$ conveyor api assets list[/dim]

    [dim]$ conveyor api assets search fox[/dim]
    """,
)

File = Annotated[Path, typer.Argument(metavar="FILE")]
Type = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="Its content type.", show_default="by the name's ending")
]
AssetId = Annotated[str, typer.Argument(metavar="ASSET_ID")]
HEADINGS = {"asset": "id", "name": "name", "type": "content_type", "bytes": "size", "folder": "is_folder"}
CHUNK_BYTES = 1 << 20


def _type_of(name: str, content_type: str | None) -> str:
    return content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidInput([Problem(str(path), f"cannot be read: {error.strerror}")]) from None


async def _parts(file: BinaryIO) -> AsyncIterator[bytes]:
    while part := file.read(CHUNK_BYTES):
        yield part


@files_app.command()
def upload(file: File, *, content_type: Type = None, as_json: AsJson = False) -> None:
    """Upload a file through the API, up to 250 MB, and print its address. The API judges it by its name alone.

    [dim]$ conveyor api files upload fox.png[/dim]
    """

    async def work(session: Session) -> None:
        with _opened(file) as opened:
            size = file.stat().st_size
            async with session.call() as api:
                kind = _type_of(file.name, content_type)
                kept = await api.files.upload(file.name, _parts(opened), kind, size=size)
        if as_json:
            show_one(kept, as_json=True)
        else:
            typer.echo(kept.url)

    talk(work)


@files_app.command()
def presign(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the file shall be called.")],
    *,
    content_type: Type = None,
    as_json: AsJson = False,
) -> None:
    """Ask for an address to put a file to within an hour. Whoever knows it may write there: it is a secret.

    [dim]$ conveyor api files presign fox.png --json | jq -r .put_url[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            to = await api.files.presign(name, _type_of(name, content_type))
        fields = {"put_url": to.put_url, "headers": to.headers, "url": to.url, "file_id": to.file_id, "path": to.path}
        if as_json:
            print_json(fields)
        else:
            show_fields(fields)

    talk(work)


@files_app.command()
def put(
    file: File,
    *,
    content_type: Type = None,
    register: Annotated[bool, typer.Option("--register", help="List it in the asset library; a call more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a file of any size and kind to the store behind the API, read as it goes, and print its address.

    [dim]$ conveyor api files put checkpoint.safetensors --register[/dim]
    """

    async def work(session: Session) -> None:
        with _opened(file) as opened:
            size = file.stat().st_size
            async with session.call() as api:
                to = await api.files.presign(file.name, _type_of(file.name, content_type))
            await session.api.files.put(to, _parts(opened), size=size)
        if register:
            async with session.call() as api:
                await api.assets.register(to, file.name, size)
        if as_json:
            print_json({"url": to.url, "file_id": to.file_id, "size": size, "registered": register})
        else:
            typer.echo(to.url)

    talk(work)


@assets_app.command("list")
def list_(
    *,
    path: Annotated[str, typer.Option(help="Which folder.")] = "/",
    as_json: AsJson = False,
) -> None:
    """List what is in a folder of the library.

    [dim]$ conveyor api assets list --path /photos[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            list_all(await api.assets.list(path), HEADINGS, as_json=as_json)

    talk(work)


@assets_app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A part of the name.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at the most.")] = 5,
    as_json: AsJson = False,
) -> None:
    """List files and folders whose name holds a text, in any folder.

    [dim]$ conveyor api assets search fox --limit 20[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            list_all(await api.assets.search(text, limit=limit), HEADINGS, as_json=as_json)

    talk(work)


@assets_app.command()
def get(asset_id: AssetId, *, as_json: AsJson = False) -> None:
    """Show one file or folder of the library.

    [dim]$ conveyor api assets get img_mRk3Xw8Pq2Lz7Tfv[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            show_one(await api.assets.get(asset_id), as_json=as_json)

    talk(work)


@assets_app.command()
def delete(asset_id: AssetId, *, yes: Yes = False) -> None:
    """Take a file or folder out of the library.

    [dim]$ conveyor api assets delete img_mRk3Xw8Pq2Lz7Tfv[/dim]
    """

    async def work(session: Session) -> int | None:
        if not may_delete("asset", None, asset_id, yes=yes):
            return REFUSED
        async with session.call() as api:
            await api.assets.delete(asset_id)
        typer.echo("Deleted.")
        return None

    talk(work)
