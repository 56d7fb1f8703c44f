"""A job asked for with a callback, through real workers."""

from standardwebhooks import Webhook

from shared.database import Database
from tests.e2e.site import Site, until
from tests.service.receiver import receiving

SECRET = "whsec_" + "c2VjcmV0" * 4


async def test_a_callback_arrives_and_leaves_no_trace_of_its_secret(site: Site) -> None:
    """The receiver hears of the picture; no log, stream, broker message, Celery result or record holds the secret."""
    async with receiving() as receiver, Database.open(site.settings.redis_url) as database:
        receiver.answers = [500]
        handle = await site.enqueue(callback={"url": receiver.url, "secret": SECRET})

        async def tried() -> bool:
            if receiver.received:
                await database.redis.zadd(database.keys.callbacks, {handle.id: 0}, xx=True)
            return len(receiver.received) == 2

        await until(tried, what="the second attempt")

        async def decided() -> bool:
            callback = (await handle.status()).job.callback
            return callback is not None and callback.state == "delivered"

        await until(decided, what="it is noted as delivered")
        told = Webhook(SECRET).verify(receiver.received[-1].body, receiver.received[-1].headers)
        assert told["result"]["outputs"][0]["url"]
        assert len({got.headers["webhook-id"] for got in receiver.received}) == 1

        await site.celery_result(handle.id)
        async for key in database.redis.scan_iter(count=1000):
            assert SECRET not in str(key)
            assert SECRET not in await _text(database, str(key)), key
        for program in site.stack.processes:
            assert SECRET not in program.log_path.read_text(errors="replace"), program.name


async def _text(database: Database, key: str) -> str:
    """A key's whole value as text."""
    redis = database.redis
    match await redis.type(key):
        case "string":
            return str(await redis.get(key))
        case "hash":
            return str(await redis.hgetall(key))
        case "list":
            return str(await redis.lrange(key, 0, -1))
        case "stream":
            return str(await redis.xrange(key))
        case "zset":
            return str(await redis.zrange(key, 0, -1))
        case _:
            return str(await redis.smembers(key))
