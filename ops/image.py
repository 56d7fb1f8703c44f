"""The image in a folder: built by the Dockerfile's own lines, and its processes shut in as containers are.

`app` and `opt/venv` are where the image has `/app` and `/opt/venv`. Used by `rehearse_image.py`, which says what this proves.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ops.dockerfile import stages

ROOT = Path(__file__).resolve().parents[1]
USER = "10001"

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
