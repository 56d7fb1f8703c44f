"""What may a file be called? A name that is safe on any disk, and whose ending says what the file is. Pure."""

import mimetypes
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from shared.errors import InvalidInput, Problem
from shared.jobs.event import Output
from shared.media.addresses import last_part
from shared.media.kinds import FileKind, kind_of_ending

#: In UTF-8. Disks take 255; the rest is for what is put before or behind a name.
LONGEST_NAME_BYTES = 180
_LONGEST_ENDING = 16

_REFUSED = frozenset('/\\<>:"|?*%')
#: Windows opens a device under these names, whatever the ending.
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10)))
)

#: Families the API takes (CONTRACT section 17); it goes by the name, so text files are refused whatever is in them.
_TAKEN = ("image/", "video/", "audio/", "application/")


def safe_name(given: str, fallback: str = "file") -> str:
    """A name for a file in a folder: no other folder, no hidden file, no device, nothing invisible, not too long.

    The same for its own answer. An ending is kept when it is a usual one.
    """
    name = given.replace("\\", "/").rpartition("/")[2]
    name = "".join("_" if one in _REFUSED else one for one in name if one.isprintable())
    name = unicodedata.normalize("NFC", name).rstrip(" .").lstrip(" .-~")
    stem, ending = split(name)
    if stem.partition(".")[0].rstrip().lower() in _DEVICES:
        stem = f"_{stem}"
    room = LONGEST_NAME_BYTES - len(ending.encode())
    stem = stem.encode()[:room].decode(errors="ignore").rstrip(" .")
    return f"{stem}{ending}" if stem else fallback


def name_of(output: Output) -> str:
    """What the API calls the file; empty when it does not."""
    return output.filename or last_part(output.url or "")


def names_for(outputs: Iterable[Output]) -> list[str]:
    """A safe name for each output, in order; no two are the same on any disk, and a repeat gives the same."""
    taken: set[str] = set()
    names = []
    for output in outputs:
        is_text = output.url is None and output.text is not None
        wanted = f"{output.key}.txt" if is_text else name_of(output)
        stem, ending = split(safe_name(wanted, safe_name(output.key)))
        name, number = f"{stem}{ending}", 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}{ending}"
        taken.add(name.casefold())
        names.append(name)
    return names


def split(name: str) -> tuple[str, str]:
    """A name as stem and ending (`.png`); the ending is empty when there is none, or none of a usual form."""
    ending = PurePosixPath(name).suffix
    usual = 2 <= len(ending) <= _LONGEST_ENDING and ending[1:].isalnum() and ending.isascii()
    return (name.removesuffix(ending), ending) if usual else (name, "")


def type_of_name(name: str) -> str:
    """The content type a name claims; `application/octet-stream` when it claims none, as the API does."""
    kind = kind_of_ending(split(name)[1])
    return kind.content_type if kind else mimetypes.guess_type(name)[0] or "application/octet-stream"


def agreed(name: str, kind: FileKind | None) -> tuple[str, str]:
    """The name and content type to upload a file under, from its name and what `sniff` found.

    The content decides: a picture that is called `photo.txt` goes as `photo.png`, since the API looks at the name alone.
    Raises `InvalidInput` when the name claims a kind we know by its bytes and the bytes are of no kind we know (an error
    page called `fox.png`), and for text, which the API does not take.
    """
    name = safe_name(name)
    stem, ending = split(name)
    claimed = kind_of_ending(ending)
    if kind is None:
        if claimed is not None:
            raise InvalidInput([Problem("file", f"is called {ending}, and its content is something else")])
        content_type = type_of_name(name)
        if not content_type.startswith(_TAKEN):
            raise InvalidInput(
                [Problem("file", "is a text, by its name; only images, videos, audio and archives are taken")]
            )
        return name, content_type
    if claimed == kind:
        return name, kind.content_type
    if kind.holds_others and ending and claimed is None and type_of_name(name).startswith("application/"):
        return name, type_of_name(name)
    return f"{stem if ending and _is_known(ending) else name}{kind.endings[0]}", kind.content_type


def _is_known(ending: str) -> bool:
    """Whether an ending means something, so that another takes its place; `.2` of `fox.2` does not."""
    return kind_of_ending(ending) is not None or mimetypes.guess_type(f"x{ending}")[0] is not None
