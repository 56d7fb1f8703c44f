"""Where do secrets come from? From a variable, or from the file that the variable `<name>_FILE` names.

A file shows neither in `docker inspect` nor in `/proc/<pid>/environ`, and Compose, Kubernetes and systemd can each mount one.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from shared.errors import MissingSetting

SUFFIX = "_FILE"

#: A secret is a line or a few; more is the wrong file.
MOST_BYTES = 16_384


def with_secret_files(environ: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """The environment with the content of `<name>_FILE` in the place of `<name>`, for each of `names`.

    The newline that editors and `echo` leave at the end is not part of the secret. An empty variable counts as not set.
    Raises `MissingSetting` that names every variable whose file is of no use and says why, never what is in it.
    """
    found, problems = dict(environ), []
    for name in sorted(names):
        path = found.pop(name + SUFFIX, "")
        if not path:
            continue
        if environ.get(name):
            problems.append(f"{name} and {name}{SUFFIX} are both set")
            continue
        try:
            found[name] = _read(Path(path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            problems.append(f"{name}{SUFFIX}: {path}: {why}")
    if problems:
        raise MissingSetting(
            f"Secret files: {'; '.join(problems)}.",
            check="that each secret is set once, and its file has one line and can be read by this user.",
        )
    return found


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES:,} bytes")
    try:
        text = content.decode().strip("\r\n")
    except UnicodeDecodeError:
        # The error would show the content.
        raise ValueError("not text") from None
    if not text.strip():
        raise ValueError("empty")
    return text
