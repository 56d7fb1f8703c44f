// Put a job in by HTTP and follow it to its end, in JavaScript without any package:
//
//     CONVEYOR_URL=http://127.0.0.1:8000 node produce.mjs 'SDXL Portrait' '{"prompt": "a fox"}'

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** 1, 2, 4 … seconds, at most 30, with jitter. */
const pause = (failures) => Math.min(30_000, 1000 * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);

/** Milliseconds. The gateway's comments come every 15 s; three times nothing is a connection that is dead. */
const SILENCE_MS = 45_000;

export class Gateway {
  constructor(url, key = "") {
    this.url = url.replace(/\/$/, "");
    this.headers = key ? { authorization: `Bearer ${key}` } : {};
  }

  /**
   * Put a job in, and answer `{ job_id, created, … }`. Asks again for half a minute or so while the gateway is away or
   * busy; the key sees to it that there is one job, however often it is asked for. Best is what your platform calls the
   * message (its update id): then a restart of yours does not ask twice, either.
   */
  async enqueue(request, idempotencyKey = randomUUID(), tries = 6) {
    for (let failures = 1; ; failures++) {
      let wait = pause(failures);
      try {
        const answer = await fetch(`${this.url}/v1/jobs`, {
          method: "POST",
          headers: { ...this.headers, "content-type": "application/json", "idempotency-key": idempotencyKey },
          body: JSON.stringify(request),
          signal: AbortSignal.timeout(10_000),
        });
        if (answer.ok) return await answer.json();
        const problem = await answer.json().catch(() => ({}));
        const error = new Error(problem.detail ?? `HTTP ${answer.status}`);
        error.problems = problem.problems ?? []; // every field that is wrong
        error.final = answer.status < 500 && answer.status !== 429 && answer.status !== 408;
        wait = Math.max(wait, 1000 * (Number(answer.headers.get("retry-after")) || 0));
        throw error;
      } catch (error) {
        if (error.final || failures === tries) throw error;
        await sleep(wait);
      }
    }
  }

  /** Every event of a job, up to the final one, each once; a lost connection is made again where it was. */
  async *follow(jobId, tries = 10) {
    let last = "0";
    for (let failures = 0; ; ) {
      const connection = new AbortController();
      let timer;
      const heard = () => {
        clearTimeout(timer);
        timer = setTimeout(() => connection.abort(), SILENCE_MS);
      };
      try {
        heard();
        const answer = await fetch(`${this.url}/v1/jobs/${jobId}/events`, {
          headers: { ...this.headers, accept: "text/event-stream", "last-event-id": last },
          signal: connection.signal,
        });
        if (answer.status === 204) return; // its end has been told
        if (!answer.ok) {
          const error = new Error(`HTTP ${answer.status}`);
          error.final = [401, 403, 404].includes(answer.status);
          throw error;
        }
        for await (const { id, data } of messages(answer.body, heard)) {
          [last, failures] = [id, 0];
          const event = JSON.parse(data);
          yield event;
          if (event.final) return;
        }
      } catch (error) {
        if (error.final || failures >= tries) throw error;
      } finally {
        clearTimeout(timer);
        connection.abort();
      }
      await sleep(pause(++failures));
    }
  }
}

/** The messages of a text/event-stream; `heard` is called for everything that comes, comments among it. */
async function* messages(body, heard) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of body) {
    heard();
    text = (text + decoder.decode(chunk, { stream: true })).replaceAll("\r\n", "\n");
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const fields = { id: "", data: "" };
      for (const line of text.slice(0, end).split("\n")) {
        const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name in fields) fields[name] += value;
      }
      if (fields.data) yield fields;
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [workflow = "SDXL Portrait", inputs = '{"prompt": "a fox"}'] = process.argv.slice(2);
  const gateway = new Gateway(process.env.CONVEYOR_URL ?? "http://127.0.0.1:8000", process.env.CONVEYOR_KEY);
  const job = await gateway.enqueue({ workflow, inputs: JSON.parse(inputs), user: { id: "42" }, progress: true });
  for await (const event of gateway.follow(job.job_id)) {
    const outputs = event.result?.outputs.map((output) => output.url ?? output.text) ?? [];
    console.log([event.type, event.progress?.text, event.error?.user_message, ...outputs].filter(Boolean).join("  "));
  }
}
