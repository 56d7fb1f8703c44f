"""Who pulls a lever, and why? What the audit (`conveyor:audit`) keeps of an operator."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class By:
    """An operator, and the reason given; both are shown to other operators, the reason of a pause to users as well."""

    who: str
    reason: str = ""

    def json(self) -> str:
        """As the scripts take it."""
        return json.dumps({"who": self.who, "reason": self.reason}, ensure_ascii=False)
