// How does the page ask? One request at a time to the public API, with a deadline; every error is one of two kinds.

/** The gateway refused, and says why (RFC 9457). */
export class Problem extends Error {
  constructor(status, document, retryAfter) {
    super(document.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = document.code ?? "";
    this.fields = document.problems ?? [];
    this.requestId = document.request_id ?? "";
    /** Seconds, or null. */
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later; the refused one wrote nothing. */
  get passing() {
    return this.status === 429 || this.status === 408 || this.status >= 500;
  }
}

/** No answer: whether the request was carried out is not known. */
export class Unreachable extends Error {}

const ANSWER_MS = 15_000;
const UPLOAD_MS = 180_000;

export class Client {
  #key;

  /** `key` is asked for the API key: `key.current`, and `key.ask(why)` which answers when there is a new one. */
  constructor(key) {
    this.#key = key;
  }

  /** Ask and answer the JSON. Throws `Problem`, `Unreachable`. A repeat is harmless if the request says so. */
  async ask(method, path, { body, headers = {} } = {}) {
    const request = { method, headers, body, ms: body instanceof FormData ? UPLOAD_MS : ANSWER_MS };
    if (body !== undefined && !(body instanceof FormData)) {
      request.body = JSON.stringify(body);
      request.headers = { ...headers, "Content-Type": "application/json" };
    }
    return (await this.#send(path, request)).json;
  }

  /** Open a stream and answer the response; `signal` ends it. Throws like `ask`. */
  async open(path, headers, signal) {
    return (await this.#send(path, { method: "GET", headers, signal, stream: true })).answer;
  }

  async #send(path, request) {
    for (;;) {
      const used = this.#key.current;
      try {
        return await exchange(path, request, used);
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 401) throw error;
        // Somebody else may have asked for a key meanwhile.
        if (used === this.#key.current) await this.#key.ask(used ? "That key is not known here." : "");
      }
    }
  }
}

async function exchange(path, { method, headers, body, ms = ANSWER_MS, signal, stream = false }, key) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ms);
  signal?.addEventListener("abort", () => late.abort(), { signal: late.signal });
  try {
    const answer = await fetch(path, {
      method,
      body,
      headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers,
      signal: late.signal,
      credentials: "omit",
      cache: "no-store",
    });
    if (!answer.ok) throw await problem(answer);
    return stream ? { answer } : { json: await answer.json() };
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Unreachable("The server cannot be reached.", { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

async function problem(answer) {
  const document = await answer.json().catch(() => ({}));
  const seconds = Number(answer.headers.get("Retry-After"));
  return new Problem(answer.status, document, seconds > 0 ? seconds : null);
}
