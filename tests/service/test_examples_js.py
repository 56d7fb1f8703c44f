"""The JavaScript of `examples/js/` does what the guides say, run by the Node that is here."""

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/js"
NODE = shutil.which("node")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on the path (.ci/run installs it where it may)")


# -- verify-callback.mjs ------------------------------------------------------------------------------------------------

VERIFY = """
import { verifyCallback } from "%s";
const cases = JSON.parse(process.argv[1]);
console.log(JSON.stringify(cases.map(([secret, headers, body]) => {
  try { return verifyCallback(secret, headers, Buffer.from(body, "base64")); } catch (error) { return error.message; }
})));
"""


def verified(*cases: tuple[str, dict[str, str], bytes]) -> list[Any]:
    """What the example says to each."""
    given = json.dumps([(secret, headers, base64.b64encode(body).decode()) for secret, headers, body in cases])
    script = VERIFY % (EXAMPLES / "verify-callback.mjs").as_uri()
    done = subprocess.run(
        [str(NODE), "--input-type=module", "--eval", script, given],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_example_takes_what_the_specification_signs_and_nothing_else() -> None:
    """A good signature is taken, alone or beside another; a forged, changed, missing or old one is not."""
    body = '{"schema":"conveyor.event/1","name":"Zoë"}'.encode()
    now = datetime.now(UTC)

    def headers(at: datetime = now, **more: str) -> dict[str, str]:
        signature = Webhook(SECRET).sign("job_5", at, body.decode())
        found = {"webhook-id": "job_5", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
        return found | {f"webhook-{name}": text for name, text in more.items()}

    good = headers()["webhook-signature"]
    other = "whsec_" + base64.b64encode(bytes(32)).decode()

    assert verified(
        (SECRET, headers(), body),
        (SECRET, headers(signature=f"v1,AAAA v2,{good[3:]} {good}"), body),
        (other, headers(), body),
        (SECRET, headers(), body.replace(b"Zo", b"Jo")),
        (SECRET, headers(id="job_6"), body),
        (SECRET, headers(signature=good.replace("v1,", "v2,")), body),
        (SECRET, {}, body),
        (SECRET, headers(at=now - timedelta(minutes=6)), body),
        (SECRET, headers(at=now + timedelta(minutes=6)), body),
    ) == [
        json.loads(body),
        json.loads(body),
        *["callback: wrong signature"] * 4,
        *["callback: missing or old timestamp"] * 3,
    ]
