// What is known of each job? One entry for each message of the page, whoever told of it first: the page itself when it was
// sent, a listing, a status, or an event. `seq` says which of two is newer, so it does not matter which comes first.

/** States of a message that has no job (yet), beside those of jobs. */
export const SENDING = "sending";
export const REFUSED = "refused";
/** The server does not know the job any more. */
export const GONE = "gone";

const FINAL = new Set(["succeeded", "failed", "cancelled", "timed_out", "expired"]);

/** One message: what was asked, and what became of it. */
export class Entry {
  jobId = null;
  /** The idempotency key it was sent with from this browser, if it was. */
  key = null;
  state = SENDING;
  seq = 0;
  /** What was asked: `workflow`, `environment`, `deployment_id`, `inputs`. */
  asked = {};
  createdAt = new Date();
  queue = null;
  progress = null;
  result = null;
  error = null;
  cancelling = false;
  /** Given up before it was known to have arrived: to be cancelled when it has. */
  unwanted = false;
  /** Why it is not sent yet, or was refused: a sentence. */
  trouble = "";
  /** When it will have ended, as a rule, in milliseconds since 1970; null when nobody knows. */
  endsAt = null;

  get final() {
    return FINAL.has(this.state) || this.state === REFUSED || this.state === GONE;
  }

  /** Whether it has a job that has not ended. */
  get open() {
    return this.jobId !== null && !this.final;
  }
}

/** All messages, oldest first. Tells `onAdd(entry, before)`, `onChange(entry)` and `onRemove(entry)`. */
export class Conversation {
  entries = [];
  #byJob = new Map();
  #byKey = new Map();

  constructor({ onAdd, onChange, onRemove }) {
    this.onAdd = onAdd;
    this.onChange = onChange;
    this.onRemove = onRemove;
  }

  get open() {
    return this.entries.filter((entry) => entry.open);
  }

  find(jobId) {
    return this.#byJob.get(jobId) ?? null;
  }

  /** A message that is about to be sent under this key: the newest, whatever this machine's clock says. */
  sending(key, asked, at = Date.now()) {
    const newest = this.entries.at(-1)?.createdAt.getTime() ?? 0;
    const entry = Object.assign(new Entry(), { key, asked, createdAt: new Date(Math.max(at, newest)) });
    this.#byKey.set(key, entry);
    this.#add(entry);
    return entry;
  }

  /** The server has taken a message as this job. */
  taken(entry, jobId) {
    this.#bind(entry, jobId);
    entry.trouble = "";
    if (entry.state === SENDING) entry.state = "queued";
    this.onChange(entry);
  }

  remove(entry) {
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.#byKey.delete(entry.key);
    this.#byJob.delete(entry.jobId);
    this.onRemove(entry);
  }

  changed(entry) {
    this.onChange(entry);
  }

  /** A job as a status tells it, or a listing, which leaves its place in line out. */
  see(view, { listed = false } = {}) {
    const entry = this.#entry(view.job_id, view.context) ?? this.#arrived(view);
    entry.createdAt = new Date(view.created_at);
    entry.asked = { ...entry.asked, ...asked(view) };
    entry.cancelling = Boolean(view.cancel_requested_at) || entry.cancelling;
    this.#tell(entry, view, listed ? entry.queue : view.queue);
  }

  /** A fact about a job. False when the job is not known here: ask for it, since an event does not say what was asked. */
  hear(event) {
    const entry = this.#entry(event.job_id, event.context);
    if (entry !== null && event.seq > entry.seq) this.#tell(entry, event, event.queue);
    return entry !== null;
  }

  #tell(entry, told, queue) {
    if (entry.final && !told.final) return;
    if (told.seq < entry.seq && !told.final) return;
    entry.seq = told.seq;
    entry.state = told.state;
    entry.trouble = "";
    entry.progress = told.progress ?? entry.progress;
    entry.queue = queue;
    if (told.eta_seconds != null) entry.endsAt = Date.now() + told.eta_seconds * 1000;
    entry.result = told.result ?? entry.result;
    entry.error = told.error ?? entry.error;
    this.onChange(entry);
  }

  /** The message of a job; one of ours whose answer was lost is known by the key that came back in the context. */
  #entry(jobId, context) {
    const entry = this.#byJob.get(jobId) ?? this.#byKey.get(context?.page_key) ?? null;
    if (entry !== null && entry.jobId === null) this.#bind(entry, jobId);
    return entry;
  }

  #bind(entry, jobId) {
    entry.jobId = jobId;
    if (entry.unwanted) entry.state = SENDING;
    this.#byJob.set(jobId, entry);
  }

  #arrived(view) {
    const entry = Object.assign(new Entry(), { key: view.context?.page_key ?? null, createdAt: new Date(view.created_at) });
    if (entry.key) this.#byKey.set(entry.key, entry);
    this.#bind(entry, view.job_id);
    entry.asked = asked(view);
    this.#add(entry);
    return entry;
  }

  #add(entry) {
    const place = this.entries.findIndex((other) => other.createdAt > entry.createdAt);
    const before = place === -1 ? null : this.entries[place];
    this.entries.splice(place === -1 ? this.entries.length : place, 0, entry);
    this.onAdd(entry, before);
  }
}

function asked(view) {
  const found = { inputs: view.inputs };
  if (view.workflow) found.workflow = view.workflow;
  if (view.deployment_id) found.deployment_id = view.deployment_id;
  return found;
}
