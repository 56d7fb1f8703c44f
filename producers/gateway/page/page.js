// The chat page: a client of the public API and nothing else. Here its parts meet; each is in a file of its own.
//
//   composer ── asked ──▶ outbox ── POST, with one key ──▶ ┌─────────┐
//   messages ◀─ entries ─ conversation ◀── events ──────── │ gateway │
//                             ▲  └──────── listing, status ┤         │
//                           watch (places in line; all when └─────────┘
//                                  events do not come)

import { Client, Problem, Unreachable } from "./client.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { make } from "./element.js";
import { follow } from "./events.js";
import { Key } from "./key.js";
import { user } from "./memory.js";
import { MessageView } from "./message.js";
import { Outbox } from "./outbox.js";
import { backoff, pause } from "./waiting.js";
import { Watch } from "./watch.js";
import { announcement } from "./words.js";

const PAGE = 30;
const byId = (id) => document.getElementById(id);

const key = new Key(byId("key-dialog"), byId("enter-key"));
const client = new Client(key);
const views = new Map();
const conversation = new Conversation({ onAdd: added, onChange: changed, onRemove: removed });
const outbox = new Outbox(client, conversation);
const composer = new Composer(byId("composer"), client, send);
let live = false;
let earlier = null;
let started = false;
const watch = new Watch(client, conversation, () => live);

// -- messages ---------------------------------------------------------------------------------------------------------

const list = byId("messages");
const scroll = byId("scroll");
const acts = {
  cancel,
  again,
  edit: (entry) => composer.edit(entry.asked),
  view,
  chosen: (asked) => composer.chosen(asked),
};
let atEnd = true;

scroll.addEventListener("scroll", () => {
  atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
});
// A picture that arrives makes the list longer, a form that opens the room smaller: whoever was at the end stays there.
const growing = new ResizeObserver(() => atEnd && toEnd());
growing.observe(list);
growing.observe(scroll);

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
}

function added(entry, before) {
  const message = new MessageView(entry, acts);
  views.set(entry, message);
  list.insertBefore(message.element, before ? views.get(before).element : null);
  count();
}

function changed(entry) {
  const message = views.get(entry);
  const came = message.element.dataset.state !== entry.state;
  message.update();
  if (came && started) announce(entry);
  if (entry.unwanted && entry.open) {
    entry.unwanted = false;
    cancel(entry);
  }
  count();
}

/** For who cannot see it: the moments that matter, each a line of its own. */
function announce(entry) {
  if (!entry.final && entry.state !== "running") return;
  const told = byId("told");
  told.append(make("p", { textContent: announcement(entry) }));
  while (told.children.length > 5) told.firstChild.remove();
}

function removed(entry) {
  views.get(entry).element.remove();
  views.delete(entry);
  count();
}

function count() {
  const open = conversation.entries.filter((entry) => !entry.final).length;
  document.title = open ? `(${open}) Conveyor` : "Conveyor";
  byId("welcome").hidden = !started || conversation.entries.length > 0;
}

setInterval(() => conversation.open.forEach((entry) => views.get(entry).tick()), 1000);

// -- what a person does -----------------------------------------------------------------------------------------------

async function send(asked) {
  atEnd = true;
  const sent = await outbox.send(asked, "form");
  // The form says what is wrong, beside the fields: the message would only say it again.
  if (sent?.problem) conversation.remove(sent.entry);
  return sent?.problem ?? null;
}

async function again(entry) {
  atEnd = true;
  await outbox.send(composer.same(entry.asked), entry.key ?? entry.jobId);
}

async function cancel(entry) {
  if (entry.jobId === null) {
    outbox.giveUp(entry);
    return;
  }
  entry.cancelling = true;
  conversation.changed(entry);
  for (let tries = 0; entry.open; tries += 1) {
    try {
      await client.ask("POST", `v1/jobs/${entry.jobId}/cancel`);
      return; // how it ends, its final event says: it may still succeed
    } catch (error) {
      if (error instanceof Problem && !error.passing) {
        entry.cancelling = false;
        conversation.changed(entry);
        return;
      }
      await pause(backoff(tries));
    }
  }
}

function view(url, about) {
  byId("viewer-image").src = url;
  byId("viewer-image").alt = about;
  byId("viewer-open").href = url;
  byId("viewer").showModal();
}

byId("viewer-close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("click", (event) => event.target === byId("viewer") && byId("viewer").close());
byId("earlier").addEventListener("click", showEarlier);

// -- what the gateway tells ---------------------------------------------------------------------------------------------

function say(text, trouble = false) {
  byId("connection").textContent = text;
  byId("connection").classList.toggle("trouble", trouble);
}

/** Ask until there is an answer, saying so meanwhile. */
async function surely(path) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await client.ask("GET", path);
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      const why = error instanceof Problem ? error.message : "The server cannot be reached.";
      say(`${why} Reconnecting…`, true);
      await pause(Math.max(backoff(tries), (error.retryAfter ?? 0) * 1000));
    }
  }
}

async function listing(cursor = "") {
  const page = await surely(`v1/jobs?user=${encodeURIComponent(user())}&limit=${PAGE}${cursor && `&cursor=${cursor}`}`);
  for (const job of page.jobs.reverse()) conversation.see(job, { listed: true });
  earlier = page.next_cursor;
  byId("earlier").hidden = earlier === null;
  return page.last_event_id;
}

async function showEarlier() {
  const height = scroll.scrollHeight;
  atEnd = false;
  await listing(earlier);
  scroll.scrollTop += scroll.scrollHeight - height;
}

async function catalog() {
  let found = await surely("v1/workflows");
  composer.offer(found.workflows);
  // A gateway that has just begun may be quicker than the first worker.
  for (let tries = 0; !found.workflows.length; tries += 1) {
    await pause(backoff(tries));
    found = await surely("v1/workflows");
    if (found.workflows.length) composer.offer(found.workflows);
  }
}

function hear(event) {
  if (!conversation.hear(event)) watch.read(event.job_id);
}

async function begin() {
  outbox.resume();
  const [last] = await Promise.all([listing(), catalog()]);
  started = true;
  // Only now it is known which inputs are as the workflow has them anyway.
  views.forEach((message) => message.update());
  count();
  toEnd();
  byId("send").focus({ preventScroll: true });
  watch.run();
  await follow(client, `v1/users/${encodeURIComponent(user())}/events`, last, {
    hear,
    live: (yes) => {
      live = yes;
      say(yes ? "Live" : "Reconnecting…", !yes);
    },
    gap: () => listing(),
  });
}

begin();
