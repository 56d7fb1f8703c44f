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
from producers.local.redis_server import free_port, server_binary

ROOT = Path(__file__).resolve().parents[1]
USER = "10001"
HEALTHY_SECONDS = 60.0
PASSWORD = "rehearsed/p@ss"
SECRETS = {
    "redis_password": PASSWORD,
    "comfy_deploy_api_key": "sim-key",
    "conveyor_secret": "rehearsed-secret",
    "conveyor_api_keys": "web:rehearsed-key",
    "flower_basic_auth": "operator:rehearsed-password",
}

#: $0 is the scratch folder, $1 where this Python lives, the rest a command. A Python in root's home is made visible to
#: others; everything becomes read-only but the scratch folder; then the image's user carries the command out.
CONFINED = f"""
mount --make-rprivate /
case "$1" in /root/*)
  mount --bind "$1" "$0"
  mount -t tmpfs -o mode=755 tmpfs /root
  mkdir -p "$1"
  mount --bind "$0" "$1"
  umount "$0"
esac
shift
mount -t tmpfs -o mode=1777,size=64m tmpfs "$0"
mount -o remount,bind,ro /
exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs "$@"
"""


class Image:
    """What the build left behind in a folder: `app`, `opt/venv`, and what runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch, self.secrets = folder / "tmp", folder / "run/secrets"
        for path in (self.app, self.scratch, self.secrets):
            path.mkdir(parents=True)
        self._prefix: list[str] = []

    @property
    def app(self) -> Path:
        """Where the code is."""
        return self.folder / "app"

    def build(self) -> None:
        """Carry out the RUN and COPY lines of both stages. Ends with its output when one fails."""
        build, final = stages((ROOT / "Dockerfile").read_text())
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for word, argument in build.steps:
            if word == "COPY":
                self._copy(argument)
            elif word == "RUN":
                self._run(argument, {**os.environ, "PATH": path, "EXTRAS": ""})
        shutil.rmtree(self.app)  # the final stage takes only the environment along
        self.app.mkdir()
        path = f"{self.folder}/opt/venv/bin:{os.environ['PATH']}"
        for word, argument in final.steps:
            if word == "COPY" and not argument.startswith("--from"):
                self._copy(argument)
            elif word == "RUN" and not argument.startswith("useradd"):
                self._run(argument, {**os.environ, "PATH": path})
        subprocess.run(["chmod", "-R", "a-w,a+rX", self.app, self.folder / "opt"], check=True)

    def _run(self, command: str, env: dict[str, str]) -> None:
        said = f"  RUN {command[:100]}"
        print(said, flush=True)
        # pip's cache is for layers not to hold; here it saves the download.
        command = command.replace("/opt/venv", f"{self.folder}/opt/venv").replace("--no-cache-dir", "")
        done = subprocess.run(
            ["/bin/sh", "-ec", command], cwd=self.app, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise SystemExit(f"{done.stdout[-1000:]}{done.stderr[-3000:]}")

    def _copy(self, argument: str) -> None:
        *sources, target = argument.split()
        let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
        for source in sources:
            if source not in let_through:
                raise FileNotFoundError(f".dockerignore keeps {source} from the builder")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, self.app / target, ignore=shutil.ignore_patterns("__pycache__", ".env"))
            else:
                shutil.copy2(ROOT / source, self.app / target)

    def sizes(self) -> str:
        """Megabytes of the environment and of the code."""
        mb = [
            sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
            for path in (self.folder / "opt", self.app)
        ]
        return f"environment {mb[0]:.0f} MB, code {mb[1]:.1f} MB"

    def confine(self) -> str:
        """Find out how far processes can be shut in on this machine, and say so."""
        prefix = ["unshare", "--mount", "sh", "-ec", CONFINED, str(self.scratch), sys.base_prefix]
        python = str(self.folder / "opt/venv/bin/python")
        if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv"):
            tried = subprocess.run([*prefix, python, "-c", "import celery"], timeout=30, check=False)
            if tried.returncode == 0:
                self._prefix = prefix
                return f"read-only root, user {USER}, one tmpfs"
        return "no mount namespace here: the tree has no write bits, the user is ours"

    def environment(self, **more: str) -> dict[str, str]:
        """What a container of the image has in its environment, and more."""
        final = stages((ROOT / "Dockerfile").read_text())[1]
        pairs = dict(pair.split("=", 1) for line in final.all("ENV") for pair in line.split())
        own = {"PATH": f"{self.folder}/opt/venv/bin:/usr/bin:/bin", "PYTHONPATH": str(self.app)}
        places = {"HOME": str(self.scratch), "TMPDIR": str(self.scratch)}
        return {**pairs, **own, **places, "LANG": "C.UTF-8", **more}

    def start(self, command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a process as a container would, its output into a file."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [*self._prefix, *command], cwd=self.app, env=env, stdout=output, stderr=subprocess.STDOUT
            )


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
        for port in re.findall(r"\b(?:6379|8000|5555|9100)\b", text):
            text = text.replace(port, self._ports.setdefault(port, str(free_port())))
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
