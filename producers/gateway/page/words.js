// How is a state said to people? Every sentence of the page about a job.

import { GONE, REFUSED, SENDING } from "./conversation.js";

/** One line about how it stands. */
export function standing(entry) {
  if (entry.cancelling && entry.open) return "Cancelling…";
  switch (entry.state) {
    case SENDING:
      return entry.trouble ? `Not sent yet: ${entry.trouble} Trying again…` : "Sending…";
    case REFUSED:
      return entry.trouble;
    case GONE:
      return "This job is not known any more.";
    case "queued":
      return entry.queue ? place(entry.queue) : "In line";
    case "submitting":
      return "Starting…";
    case "submitted":
      return "Waiting for a machine";
    case "running":
      return "Generating";
    case "succeeded":
      return summary(entry.result);
    case "cancelled":
      return "Cancelled";
    default:
      return entry.error?.user_message || "It did not work.";
  }
}

/** What is announced when a message has come to this state. */
export function announcement(entry) {
  const about = title(entry);
  if (entry.state === "succeeded") return `Done: ${about}. ${summary(entry.result)}`;
  return `${about}: ${standing(entry)}`;
}

/** How long it will take, if anybody knows. */
export function remaining(entry, now = Date.now()) {
  if (!entry.open || entry.endsAt === null) return "";
  const seconds = (entry.endsAt - now) / 1000;
  return seconds < 1 ? "any moment now" : `about ${duration(seconds)} left`;
}

/** What the job is called: its longest text, or its workflow. */
export function title(entry) {
  return promptOf(entry.asked.inputs) || entry.asked.workflow || "Job";
}

/** The text among the inputs that says what to make. */
export function promptOf(inputs = {}) {
  const name = promptName(Object.keys(inputs).filter((one) => typeof inputs[one] === "string" && !isAddress(inputs[one])));
  return name ? inputs[name] : "";
}

/** Which of these inputs is the prompt? */
export function promptName(names) {
  return names.find((name) => /^(positive_?)?prompt$/i.test(name)) ?? names.find((name) => isPrompt(name)) ?? "";
}

/** Whether an input is by its name something one writes sentences into. */
export function isPrompt(name) {
  return /prompt|caption|lyrics/i.test(name) && !/negative/i.test(name);
}

export function isAddress(value) {
  return typeof value === "string" && /^https?:\/\/\S+$/.test(value);
}

/** `8 s`, `3 min`, `2 h`. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  return size < 1e6 ? `${Math.round(size / 1e3)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}

/** What the run is doing, from the name of its node: `CLIPTextEncode` is `CLIP Text Encode`. */
export function step(text) {
  return (text ?? "").replace(/^ComfyU?I?DeployExternal/, "").replace(/([a-z\d])([A-Z])/g, "$1 $2").replace(/([A-Z])([A-Z][a-z])/g, "$1 $2");
}

function place({ position, ahead, eta_seconds: eta, paused }) {
  if (paused) return `Paused by the operators: ${paused}`;
  const where = position === 1 && ahead === 0 ? "Next in line" : `In line, ${ahead} ahead`;
  return eta ? `${where}, its turn in about ${duration(eta)}` : where;
}

function summary(result) {
  const took = result?.timing?.total;
  const cost = result?.cost?.usd;
  const words = [took ? `Done in ${duration(took)}` : "Done"];
  if (cost) words.push(`about $${Number(cost).toPrecision(2)}`);
  return words.join(" · ");
}
