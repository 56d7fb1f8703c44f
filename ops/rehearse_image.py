"""Would the image build, and would its containers work? As far as that can be told without a container engine.

    python -m ops.rehearse_image        takes half a minute; needs the package index, as the image's build does

The RUN lines of the Dockerfile are carried out with `/app` and `/opt/venv` in a folder, its COPY lines copy what
.dockerignore lets through, and the commands of docker-compose.yml are started on the result, with their environment and
their secret files, until their health checks pass; then a job goes through. As root each process gets a mount namespace in
which everything but one small tmpfs is read-only, and the image's user; otherwise the tree loses its write bits.

Not rehearsed: base images, networks, limits of memory and CPU, capabilities.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
import yaml

from ops.dockerfile import stages
from ops.image import ROOT, Image
from producers.local.redis_server import free_port, server_binary

HEALTHY_SECONDS = 60.0
PASSWORD = "rehearsed/p@ss"
SECRETS = {
    "redis_password": PASSWORD,
    "comfy_deploy_api_key": "sim-key",
    "conveyor_secret": "rehearsed-secret",
    "conveyor_api_keys": "web:rehearsed-key",
    "flower_basic_auth": "operator:rehearsed-password",
}


class Rehearsal:
    """The services of docker-compose.yml on one image."""

    def __init__(self, image: Image, stack: ExitStack) -> None:
        self._image, self._stack = image, stack
        self._services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        #: Port in the container -> the free one it has here.
        self._ports: dict[str, str] = {}
        for name, value in SECRETS.items():
            (image.secrets / name).write_text(f"{value}\n")

    def _mapped(self, text: str) -> str:
        def here(port: re.Match[str]) -> str:
            return self._ports.setdefault(port[0], str(free_port()))

        text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text)  # as with an empty .env
        text = re.sub(r"\b(?:6379|8000|5555|9100)\b", here, text)
        text = text.replace("redis://redis:", "redis://127.0.0.1:").replace("$$", "$")
        return text.replace("/run/secrets", str(self._image.secrets))

    def redis(self) -> None:
        """Start Redis with the very command of the compose file."""
        folder = self._image.folder
        (folder / "bin").mkdir()
        (folder / "bin/valkey-server").symlink_to(server_binary())
        data = folder / "data"
        data.mkdir()
        *shell, script = self._services["redis"]["command"]
        port = int(self._mapped("6379"))
        script = self._mapped(script).replace("--dir /data", f"--dir {data} --bind 127.0.0.1 --port {port}")
        path = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
        process = subprocess.Popen([*shell, script], env=path, stdout=subprocess.DEVNULL, cwd=data)
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.terminate)
        with redis.Redis(port=port, password=PASSWORD, socket_timeout=2) as client:
            until(client.ping, 10, redis.RedisError)
            kept = {name: client.config_get(name)[name] for name in ("appendonly", "maxmemory", "maxmemory-policy")}
        print(f"  redis: {kept}, and a password")
        with redis.Redis(port=port, socket_timeout=2) as stranger:
            try:
                stranger.ping()
            except redis.AuthenticationError:
                return
        raise SystemExit("Redis lets in who has no password")

    def simulator(self) -> str:
        """Start the simulator from the environment of the developers; its address."""
        port = free_port()
        command = [sys.executable, "-m", "simulator", "--port", str(port), "--speed", "20"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.terminate)
        return f"http://127.0.0.1:{port}/api"

    def services(self, api_url: str) -> dict[str, Any]:
        """Start worker, gateway and Flower, and wait until each is healthy."""
        running: dict[str, Any] = {}
        for name in ("worker", "gateway", "flower"):
            service = self._services[name]
            env = {key: self._mapped(value) for key, value in service["environment"].items()}
            env = {key: "127.0.0.1" if value == "0.0.0.0" else value for key, value in env.items()}
            env = self._image.environment(**env, COMFY_DEPLOY_API_URL=api_url, CONVEYOR_LOG_FORMAT="json")
            log = self._image.folder / f"{name}.log"
            process = self._image.start(service["command"].split(), env, log)
            self._stack.callback(stop, process, 5.0)
            running[name] = (process, env, log, time.monotonic())
        for name, (process, env, log, began) in running.items():
            check = self._health(name)
            while subprocess.run(
                check, env=env, cwd=self._image.app, capture_output=True, timeout=30, check=False
            ).returncode:
                if process.poll() is not None or time.monotonic() > began + HEALTHY_SECONDS:
                    raise SystemExit(f"{name} did not become healthy:\n{log.read_text()[-3000:]}")
                time.sleep(0.5)
            took, used = time.monotonic() - began, resident_mb(process.pid)
            print(f"  {name}: healthy after {took:.1f} s, {used:.0f} MB")
        return running

    def _health(self, name: str) -> list[str]:
        test = self._services[name].get("healthcheck", {}).get("test")
        if test is None:  # the image's own
            line = stages((ROOT / "Dockerfile").read_text())[1].all("HEALTHCHECK")[0]
            test = ["CMD", *json.loads(line.partition("CMD ")[2])]
        return [self._mapped(word) for word in test[1:]]

    def guarded(self) -> None:
        """Flower and the gateway ask who is there."""
        for address in (
            f"http://127.0.0.1:{self._ports['5555']}/tasks",
            f"http://127.0.0.1:{self._ports['8000']}/v1/workflows",
        ):
            try:
                urllib.request.urlopen(address, timeout=10)
            except urllib.error.HTTPError as error:
                if error.code == 401:
                    continue
            raise SystemExit(f"{address} lets in who has no key")
        print("  flower and gateway: 401 to strangers")

    def job(self, env: dict[str, str]) -> None:
        """Put a job through, from the command line of the image."""
        command = ["conveyor", "enqueue", "--workflow", "SDXL Portrait", "--input", "prompt=a fox", "--wait", "--json"]
        log = self._image.folder / "job.log"
        process = self._image.start(command, env, log)
        if process.wait(60):
            raise SystemExit(f"the job did not succeed:\n{log.read_text()[-2000:]}")
        print(f"  a job: {json.loads(log.read_text().splitlines()[-1])['state']}")

    def written(self, running: dict[str, Any]) -> None:
        """Tell what each process wrote: its scratch folder, seen through its own mount namespace."""
        for name, (process, *_) in running.items():
            scratch = Path(f"/proc/{process.pid}/root{self._image.scratch}")
            found = sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*"))
            print(f"  {name} wrote: {', '.join(found) or 'nothing'}")

    def stopped(self, running: dict[str, Any]) -> None:
        """SIGTERM ends each within its grace period."""
        for name, (process, _, log, _) in running.items():
            grace = float(self._services[name]["stop_grace_period"].removesuffix("s"))
            began = time.monotonic()
            if not stop(process, grace):
                raise SystemExit(f"{name} did not end within {grace} s:\n{log.read_text()[-2000:]}")
            print(f"  {name}: ended {time.monotonic() - began:.1f} s after SIGTERM, exit code {process.returncode}")


def until(fact: Any, seconds: float, not_yet: type[Exception]) -> None:
    """Wait until a call raises `not_yet` no more."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fact()
        except not_yet:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def stop(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """End a process; False when it had to be killed. Stopping twice is fine."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def resident_mb(pid: int) -> float:
    """Memory a process has in RAM; 0 where there is no /proc."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1000 if found else 0.0


@contextmanager
def folder() -> Iterator[Path]:
    """A folder every user may enter; gone at the end."""
    path = Path(tempfile.mkdtemp(prefix="conveyor-image-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        subprocess.run(["chmod", "-R", "u+w", path], check=False)
        shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Build, start, use, stop; ends with a message and exit code 1 at the first thing that does not work."""
    began = time.monotonic()
    with folder() as path, ExitStack() as stack:
        print("Build")
        image = Image(path)
        image.build()
        print(f"  {image.sizes()}\nRun ({image.confine()})")
        rehearsal = Rehearsal(image, stack)
        rehearsal.redis()
        running = rehearsal.services(rehearsal.simulator())
        rehearsal.guarded()
        rehearsal.job(running["worker"][1])
        rehearsal.written(running)
        rehearsal.stopped(running)
    print(f"Rehearsed in {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
