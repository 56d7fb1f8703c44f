// How does the page hear of its jobs? One stream of Server-Sent Events for the user, read with fetch, again and again.
//
// Not EventSource: that one cannot send an API key, and does not say when it has gone silent. After a lost connection the
// stream goes on behind the last event that was heard (`Last-Event-ID`), so none is missing.

import { backoff, inSight, outOfSight, pause } from "./waiting.js";

/** The gateway sends a comment every 15 s; three missing ones are a dead connection. */
const SILENCE_MS = 45_000;
/** A stream that lived as long as this was a good one. */
const GOOD_MS = 5_000;
/** A page out of sight gives its connection back: a browser has six for one server, and people have many tabs. */
const HIDDEN_MS = 60_000;

/**
 * Follow `path` for ever, from the event `last` on.
 *
 * `hear(event)` gets every event; `live(yes)` every change of the connection; `gap()` says that events were missed for good
 * and answers, as a promise, where to go on.
 */
export async function follow(client, path, last, { hear, live, gap }) {
  let tries = 0;
  for (;;) {
    await inSight();
    const stop = new AbortController();
    const away = outOfSight(HIDDEN_MS, () => stop.abort());
    let began = 0;
    try {
      const answer = await client.open(path, { "Last-Event-ID": last }, stop.signal);
      live(true);
      began = performance.now();
      for await (const message of messages(answer.body)) {
        last = message.id || last;
        if (message.type === "stream.gap") last = await gap();
        else if (message.data) handOver(hear, message.data);
      }
    } catch {
      // Whatever it was, the way on is the same.
    } finally {
      away.end();
      stop.abort();
    }
    live(false);
    tries = began && performance.now() - began > GOOD_MS ? 0 : tries + 1;
    await pause(backoff(tries));
  }
}

/** A fault of ours must not look like a lost connection. */
function handOver(hear, data) {
  try {
    hear(JSON.parse(data));
  } catch (error) {
    reportError(error);
  }
}

/** The messages of a stream as `{type, id, data}`. Throws after a long silence. */
export async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = fresh();
  try {
    for (;;) {
      const { value, done } = await inTime(reader.read());
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (message.id || message.data.length) yield { ...message, data: message.data.join("\n") };
          message = fresh();
        } else {
          take(message, line);
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const fresh = () => ({ type: "message", id: "", data: [] });

function take(message, line) {
  const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
  if (name === "event") message.type = value;
  else if (name === "id") message.id = value;
  else if (name === "data") message.data.push(value);
}

async function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("silent")), SILENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
