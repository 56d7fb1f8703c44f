"""The groups of `conveyor api`, and the prices, which are one command."""

import typer

from producers.cli.api.deployments import deployments_app
from producers.cli.api.files import assets_app, files_app
from producers.cli.api.machines import machines_app
from producers.cli.api.options import group
from producers.cli.api.runs import runs_app
from producers.cli.api.session import Session, talk
from producers.cli.api.told import print_json
from producers.cli.api.versions import versions_app
from producers.cli.api.workflows import workflows_app
from producers.cli.columns import columns
from producers.cli.options import AsJson

api_app = group(
    "api",
    """Talk to the ComfyUI Deploy API itself: workflows, versions, deployments, machines, files, runs, prices.

    Needs COMFY_DEPLOY_API_KEY. Every call pays a token of the budget that workers use, too.

    [dim]$ conveyor api workflows list[/dim]

    [dim]$ conveyor api deployments put b0000000-… --environment production --machine a0000000-…[/dim]
    """,
)
for part in (workflows_app, versions_app, deployments_app, machines_app, files_app, assets_app, runs_app):
    api_app.add_typer(part)


@api_app.command()
def prices(*, as_json: AsJson = False) -> None:
    """List what a GPU costs, in US dollars.

    [dim]$ conveyor api prices[/dim]
    """

    async def work(session: Session) -> None:
        async with session.call() as api:
            found = await api.prices.list()
        if as_json:
            print_json(found)
            return
        rows = [(gpu, f"{price:f}", f"{price * 3600:.2f}") for gpu, price in sorted(found.items(), key=lambda x: x[1])]
        for line in columns(("gpu", "a second", "an hour"), rows):
            typer.echo(line)

    talk(work)
