"""The command line: `conveyor`. `app.py` holds the commands, one file each below it."""


def main() -> None:
    """What the console script calls."""
    from producers.cli.app import app  # noqa: PLC0415 - importing the package must cost nothing

    app()
