"""Is a secret anywhere where it must not be? Looked for by value, in everything a run of tests leaves behind.

Secrets that tests use begin with `hunted-`, or are those of `KNOWN`. They are searched for in

* the log files of all programs that `Supervised` starts, and the log records of this process *before* anything is taken out,
* every key and value of Redis, of every type, at the end; and of the Redis of the running site every command while it runs,
  so also what was written and deleted, and what was only published (Celery's events),
* exported spans, and what Flower answers.

A user's own data is no secret of ours, and some of it has to be there: inputs, context and meta stand in the job's record,
in its events, and in its Celery result. But they are nobody's business in a log, a span, a Celery event or a page of
Flower. `PRIVATE` is such a value; `Site.enqueue` puts it into every job.

What was found is told at the end of the module (files, records, spans, pages) or of the run (Redis).
"""

import asyncio
import logging
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import redis

API_KEY = "hunted-api-key-4f1c9b"
SECRET = "hunted-conveyor-secret-7d2e61"
GATEWAY_KEY = "hunted-gateway-key-a83f50"
REDIS_PASSWORD = "hunted-redis-password-19ce04"
#: In every job of the running site, as a user's own data.
PRIVATE = "hunted-private-token-c05d27"

#: Secrets that tests of single parts use: the simulator's key, and the gateway's.
KNOWN = ("sim-key", "web-key-1234", "telegram-key-1234")

_ANY = re.compile("|".join(["hunted-[a-z-]+-[0-9a-f]{6}", *map(re.escape, KNOWN)]))
_ANY_BYTES = re.compile(_ANY.pattern.encode())
#: Where a user's own data has to be.
_RECORDS = re.compile(r"(.*:)?(job:|results:|callback:)|celery-task-meta-")


class Hunt:
    """What was found so far, and where to look."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        #: So many of them have been told.
        self._told = 0
        #: So often a user's own data was seen where it may be.
        self.allowed = 0
        #: Log file -> how far it has been read.
        self._logs: dict[Path, int] = {}

    def log_file(self, path: Path) -> None:
        """A program writes its log there."""
        self._logs.setdefault(path, 0)

    def text(self, where: str, text: str, *, private: bool = False) -> None:
        """Search a text; a user's own data may be in it when it is `private`."""
        for hit in _ANY.finditer(text):
            if private and hit.group() == PRIVATE:
                self.allowed += 1
                continue
            around = text[max(0, hit.start() - 80) : hit.end() + 20].replace("\n", " ")
            self._found.setdefault(f"{where}: {hit.group()} in …{around}…")

    def redis(self, url: str) -> None:
        """Search every key and value of every database of a server."""
        with redis.Redis.from_url(url) as client:
            names = list(client.info("keyspace"))
        for name in names:
            self.database(urlsplit(url)._replace(path=f"/{name.removeprefix('db')}").geturl())

    def database(self, url: str) -> None:
        """Search one database, the one that the address names."""
        with redis.Redis.from_url(url, decode_responses=True, encoding_errors="replace") as database:
            self._database(f"db{urlsplit(url).path[1:]}", database)

    def _database(self, name: str, database: "redis.Redis") -> None:
        keys = list(database.scan_iter(count=5000))
        for start in range(0, len(keys), 2000):
            some = keys[start : start + 2000]
            pipe = database.pipeline(transaction=False)
            for key in some:
                pipe.type(key)
            kinds = pipe.execute()
            for key, kind in zip(some, kinds, strict=True):
                _ask(pipe, key, kind)
            for key, value in zip(some, pipe.execute(), strict=True):
                where = f"Redis {name} {key}"
                self.text(f"{where} (its name)", key)
                self.text(where, str(value), private=bool(_RECORDS.match(key)))

    def search(self, *, whole: bool = False) -> None:
        """Read on in the log files. Raises `AssertionError` when something was found since the last time, or in the `whole` run."""
        for path, read in self._logs.items():
            if path.exists() and path.stat().st_size > read:
                with path.open("rb") as file:
                    file.seek(read)
                    text = file.read()
                self._logs[path] = read + len(text)
                self.text(f"log {path.name}", text.decode(errors="replace"))
        found = list(self._found)
        news, self._told = found[0 if whole else self._told :], len(found)
        assert not news, "secrets where they must not be:\n" + "\n".join(news[:20])


def _ask(pipe: "redis.client.Pipeline", key: str, kind: str) -> None:
    match kind:
        case "string":
            pipe.get(key)
        case "hash":
            pipe.hgetall(key)
        case "list":
            pipe.lrange(key, 0, -1)
        case "set":
            pipe.smembers(key)
        case "zset":
            pipe.zrange(key, 0, -1, withscores=True)
        case "stream":
            pipe.xrange(key)
        case _:
            pipe.exists(key)  # gone meanwhile


class Records(logging.Handler):
    """Searches what this process logs, as it is given: the redaction is a net, and nothing shall need it."""

    def __init__(self, hunt: Hunt) -> None:
        super().__init__()
        self._hunt = hunt
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Search one."""
        self._hunt.text(f"log record of {record.name}", f"{self.format(record)} {_extras(record)}")


def _extras(record: logging.LogRecord) -> str:
    return str({name: value for name, value in record.__dict__.items() if name not in _PLAIN})


_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class Monitor:
    """Searches every command a Redis carries out, through its MONITOR, also across restarts. Use as `with`."""

    def __init__(self, hunt: Hunt, port: int, password: str) -> None:
        self._hunt, self._port, self._password = hunt, port, password
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        #: The last that was heard.
        self._last = b""

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=0.2) as peer:
                    greeting = f"AUTH {self._password}\r\n" if self._password else ""
                    peer.sendall(f"{greeting}MONITOR\r\n".encode())
                    self._listen(peer)
            except OSError:
                continue  # it is being restarted

    def _listen(self, peer: socket.socket) -> None:
        rest = b""
        while not self._stop.is_set():
            try:
                heard = peer.recv(1 << 20)
            except TimeoutError:
                continue
            if not heard:
                return
            self._last = heard
            whole, _, rest = (rest + heard).rpartition(b"\r\n")
            for hit in _ANY_BYTES.finditer(whole):
                begin, end = whole.rfind(b"\r\n", 0, hit.start()) + 1, whole.find(b"\r\n", hit.end())
                self.command(whole[begin : end if end >= 0 else None].decode(errors="replace"), hit)

    def command(self, line: str, hit: re.Match[bytes]) -> None:
        """Judge a command with something in it. What is sent to the broker or to Flower is no place for users' data."""
        verb = line.partition('"')[2].partition('"')[0].upper()
        is_sent = verb in ("PUBLISH", "LPUSH") and "celery-task-meta-" not in line
        self._hunt.text(f"Redis command {verb}", hit.group().decode(), private=not is_sent)

    async def hears(self) -> None:
        """Wait until it has heard everything up to now."""
        word = f"hunt-{uuid.uuid4().hex}"
        with redis.Redis(port=self._port, password=self._password or None) as client:
            end = time.monotonic() + 10
            while word.encode() not in self._last:
                assert time.monotonic() < end, "the monitor hears nothing"
                client.echo(word)
                await asyncio.sleep(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


#: Of this run of tests.
HUNT = Hunt()
