"""A store that speaks S3, real, on loopback: moto's server in a process of its own. It believes every signature."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def s3_open() -> Iterator[str]:
    """Its address; it has one bucket, `pictures`."""
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            with urllib.request.urlopen(urllib.request.Request(f"{url}/pictures", method="PUT"), timeout=10):
                pass
            yield url
        finally:
            server.terminate()
