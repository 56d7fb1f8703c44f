"""The programs of the guides run as they stand on the page, with a worker and the simulator."""

import asyncio
import re
import sys
from pathlib import Path

from producers.local.processes import ROOT
from tests.e2e.site import Site

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)

#: Page -> what each of its programs says, in order.
PROGRAMS = {
    "first-steps": [
        [
            r"^SDXL Portrait production d0000000-",
            r"^  prompt text portrait of a lighthouse keeper$",
            r"^  seed integer -1$",
        ],
        [r"^[0-9a-f-]{36} new (queued|submitting|submitted)$"],
        [r"^queued\n(.*\n)*running$", r"^\d+% \w+", r"^image http://(.*\n)image http://.*\.png$"],
        [r"^pictures/ComfyUI_\S+\.png image/png \d+$"],
    ],
    "recipes": [
        [r"^succeeded \d+ \{.*'prompt': 'a fox in the snow'"],
        [r"^succeeded None$"],
    ],
}


async def say(source: str, folder: Path, site: Site) -> str:
    """Run a program in a folder as a process of its own; what it prints."""
    (folder / "pictures").mkdir(parents=True)
    for path in (folder / "fox.png", folder / "pictures" / "1.png"):
        path.write_bytes(PICTURE)
    program = folder / "program.py"
    program.write_text(source)
    env = {**site.stack.env, "PYTHONPATH": str(ROOT), "CONVEYOR_CACHE_FOLDER": str(folder / "cache")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, cwd=folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert not errors, errors.decode()
    return out.decode()


async def test_the_programs_of_the_guides_do_what_the_page_says(site: Site, tmp_path: Path) -> None:
    """Every Python block of the pages is a whole program; all of them at once, each in a folder of its own."""
    blocks = {page: BLOCK.findall((ROOT / f"docs/guides/{page}.md").read_text()) for page in PROGRAMS}
    assert {page: len(found) for page, found in blocks.items()} == {page: len(said) for page, said in PROGRAMS.items()}
    places = [(page, place) for page in PROGRAMS for place in range(len(blocks[page]))]
    usual = (await site.http.get("/_sim/config")).json()["durations"]["image"]
    # Three seconds: long enough to be seen running.
    await site.configure(durations={"image": {"median": 150.0, "sigma": 0.0}})
    try:
        heard = await asyncio.gather(
            *(say(blocks[page][place], tmp_path / f"{page}-{place}", site) for page, place in places)
        )
    finally:
        await site.configure(durations={"image": usual})
    for (page, place), text in zip(places, heard, strict=True):
        for pattern in PROGRAMS[page][place]:
            assert re.search(pattern, text, re.MULTILINE), f"{page} {place + 1} said:\n{text}\nnot {pattern}"
