// Hear what became of the jobs of one frontend, in JavaScript, until each event is acknowledged:
//
//     REDIS_URL=redis://… node consume-results.mjs telegram bot bot-1

import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createClient } from "redis";

/** 1, 2, 4 … seconds, at most 30, with jitter. */
const pause = (failures, unitMs = 1000) => Math.min(30 * unitMs, unitMs * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);

/**
 * Hand each event of a frontend to `handle`, one after the other, until `signal` is aborted. An event is acknowledged
 * when `handle` is through with it, so it comes again when this process dies before.
 *
 * @param {(event: object) => Promise<void>} handle throws when the event could not be told; it is tried again `tries`
 *     times, then becomes a dead letter. Must end within `claimIdleMs`, or another consumer takes the event over.
 */
export async function consume({
  url, frontend, group, consumer, handle, signal, blockMs = 5_000, claimIdleMs = 60_000, tries = 5, retryMs = 1_000,
}) {
  const stream = `conveyor:results:${frontend}`;
  const client = createClient({
    url,
    socket: { connectTimeout: 3_000, socketTimeout: 3 * blockMs, reconnectStrategy: (retries) => pause(retries + 1) },
    pingInterval: blockMs, // a handler that takes long must not let the connection look dead
  });
  client.on("error", (error) => console.error(`redis: ${error.message}`)); // it connects again by itself
  let waiting = true; // for Redis, and not at work on an event
  const stop = () => waiting && client.destroy();
  signal?.addEventListener("abort", stop);

  /** Job -> the last `seq` told: a repeat, or an older event of a dead consumer, is not told again. */
  const told = new Map();

  async function settle({ id, message }) {
    const { job_id: job, seq } = message;
    if (Number(seq) > (told.get(job) ?? 0)) {
      const reason = await tell(JSON.parse(message.data));
      if (reason) {
        const letter = { ...message, reason, entry: id, group, consumer, deliveries: String(tries) };
        await client.multi().xAdd(`${stream}:dead`, "*", letter).xAck(stream, group, id).exec();
        return;
      }
      told.delete(job); // so that it becomes the newest
      told.set(job, Number(seq));
      if (told.size > 10_000) told.delete(told.keys().next().value);
    }
    await client.xAck(stream, group, id);
  }

  /** Why the event could not be told, or nothing. */
  async function tell(event) {
    for (let failures = 1; ; failures++) {
      try {
        return void (await handle(event));
      } catch (error) {
        if (failures === tries) return String(error.message).slice(0, 500);
        await sleep(pause(failures, retryMs));
      }
    }
  }

  let unfinished = true; // what this consumer took before its last end comes first
  let claimAt = Date.now() + claimIdleMs / 4;
  let cursor = "0-0";

  async function next() {
    if (Date.now() >= claimAt) {
      const { nextId, messages } = await client.xAutoClaim(stream, group, consumer, claimIdleMs, cursor, { COUNT: 10 });
      cursor = nextId;
      if (cursor === "0-0") claimAt = Date.now() + claimIdleMs / 4;
      return messages.filter(Boolean); // null: trimmed meanwhile
    }
    if (unfinished) {
      const ids = (await client.xPendingRange(stream, group, "-", "+", 10, { consumer })).map(({ id }) => id);
      if (ids.length) {
        const kept = (await client.xClaim(stream, group, consumer, 0, ids)).filter(Boolean);
        const trimmed = ids.filter((id) => !kept.some((entry) => entry.id === id));
        if (trimmed.length) await client.xAck(stream, group, trimmed);
        return kept;
      }
      unfinished = false;
    }
    const from = { key: stream, id: ">" };
    const [read] = (await client.xReadGroup(group, consumer, [from], { COUNT: 10, BLOCK: blockMs })) ?? [];
    return read?.messages ?? [];
  }

  for (let failures = 0; !signal?.aborted; ) {
    try {
      if (!client.isOpen) await client.connect();
      const entries = await next();
      waiting = false;
      for (const entry of entries) if (!signal?.aborted) await settle(entry);
      failures = 0;
    } catch (error) {
      if (signal?.aborted) break;
      // No group yet, or it was destroyed: from the beginning of the stream, nothing is lost.
      if (error.message.startsWith("NOGROUP")) {
        await client.xGroupCreate(stream, group, "0", { MKSTREAM: true }).catch((e) => console.error(`redis: ${e.message}`));
      } else {
        console.error(`redis: ${error.message}`);
        await sleep(pause(++failures), undefined, { signal }).catch(() => {});
      }
    } finally {
      waiting = true;
    }
  }
  signal?.removeEventListener("abort", stop);
  if (client.isOpen) client.destroy();
}

/** What a bot would send. */
async function tell(event) {
  const chat = event.context.chat_id ?? "?";
  if (event.type === "job.queued") console.log(`${chat}: you are number ${event.queue.position}`);
  else if (event.type === "job.succeeded")
    for (const output of event.result.outputs) console.log(`${chat}: ${output.kind} ${output.url ?? output.text}`);
  else if (event.final) console.log(`${chat}: ${event.error.user_message}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [frontend = "telegram", group = "bot", consumer = "bot-1"] = process.argv.slice(2);
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"]) process.once(name, () => stopping.abort());
  const url = process.env.REDIS_URL ?? "redis://localhost:6379/0";
  await consume({ url, frontend, group, consumer, handle: tell, signal: stopping.signal });
}
