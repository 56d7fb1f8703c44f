"""Where do benchmarks write? Each into its own part of docs/performance.md, between two marks."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def put(part: str, text: str) -> None:
    """Replace a part of the document; a new one goes to its end."""
    begin, end = f"<!-- {part}: written by the benchmark -->", f"<!-- end of {part} -->"
    page = DOCUMENT.read_text() if DOCUMENT.exists() else "# Performance\n"
    block = f"{begin}\n\n{text.strip()}\n\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = known.sub(lambda _: block, page) if known.search(page) else f"{page.rstrip()}\n\n{block}\n"
    DOCUMENT.write_text(page)
