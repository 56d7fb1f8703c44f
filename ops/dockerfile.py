"""What does a Dockerfile say? Its instructions in order, as far as ours needs them: for tests and the rehearsal."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    #: (instruction, its argument) with continued lines joined.
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction."""
        return [argument for word, argument in self.steps if word == instruction]


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile. Raises `ValueError` for a line that is no instruction."""
    found: list[Stage] = []
    for word, argument in _instructions(text):
        if word == "FROM":
            found.append(Stage(argument.partition(" AS ")[2]))
        elif found:
            found[-1].steps.append((word, argument))
    return found


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        match = re.fullmatch(r"([A-Z]+) (.+)", line)
        if not match:
            raise ValueError(f"not an instruction: {line!r}")
        yield match[1], match[2]
