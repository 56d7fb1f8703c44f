// What is asked for next? The choice of a workflow, a form made of its inputs, and what the gateway did not like about it.

import { fieldFor, isFile } from "./fields.js";
import { make } from "./element.js";
import { browser } from "./memory.js";
import { isPrompt, promptName } from "./words.js";

const ONE_PROMPT = [{ name: "prompt", kind: "text", title: "Prompt", description: "This workflow does not say what it takes." }];

export class Composer {
  #workflows = [];
  #fields = [];
  #shown = null;

  /** `send(asked)` answers a `Problem` or null. */
  constructor(form, client, send) {
    this.form = form;
    this.client = client;
    this.onSend = send;
    this.select = form.querySelector("#workflow");
    this.main = form.querySelector("#fields");
    this.more = form.querySelector("#more-fields");
    this.settings = form.querySelector("#settings");
    this.button = form.querySelector("#send");
    this.refusal = form.querySelector("#refusal");
    this.select.addEventListener("change", () => this.#choose(this.#workflows[this.select.value]));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    form.addEventListener("input", () => this.#say(""));
  }

  /** The workflows there are; the one used last, or the simplest, is chosen. */
  offer(workflows) {
    this.#workflows = workflows;
    const groups = [
      ["Workflows", workflows.filter((one) => isMain(one))],
      ["Other environments", workflows.filter((one) => !isMain(one))],
    ].filter(([, members]) => members.length);
    this.select.replaceChildren(...groups.map(([label, members]) => make("optgroup", { label }, ...members.map((one) => this.#option(one)))));
    this.select.disabled = this.button.disabled = !workflows.length;
    if (!workflows.length) {
      this.#say("There is no workflow that could be run. Deploy one on ComfyUI Deploy, or ask the operators.");
      return;
    }
    const kept = workflows.find((one) => one.deployment_id === browser.get("workflow"));
    this.#choose(kept ?? simplest(workflows));
  }

  #option(workflow) {
    const text = isMain(workflow) ? workflow.name : `${workflow.name} (${workflow.environment})`;
    return make("option", { value: this.#workflows.indexOf(workflow), textContent: text });
  }

  /** Put what was asked before back into the form. */
  edit(asked) {
    const workflow = this.#find(asked);
    if (workflow) this.#choose(workflow, asked.inputs);
    this.focus();
  }

  /** The same once more, as it is asked for today. */
  same(asked) {
    const workflow = this.#find(asked);
    const { workflow: name, environment, deployment_id, inputs } = asked;
    if (workflow) return { ...this.#target(workflow), inputs };
    return deployment_id ? { deployment_id, inputs } : { workflow: name, environment, inputs };
  }

  /** What was chosen beside the prompt and other than the workflow has it: `[title, value]`. */
  chosen({ inputs = {}, ...asked }) {
    const known = this.#find(asked)?.inputs ?? [];
    return Object.entries(inputs).flatMap(([name, value]) => {
      const input = known.find((one) => one.name === name);
      return input && input.default === value ? [] : [[input?.title ?? name, value]];
    });
  }

  #find(asked) {
    const named = this.#workflows.filter((one) => one.name === asked.workflow);
    return (
      this.#workflows.find((one) => one.deployment_id === asked.deployment_id) ??
      named.find((one) => one.environment === asked.environment) ??
      named[0]
    );
  }

  /** To the end of what is written, or to the first field there is. */
  focus() {
    const first = this.#fields.find((field) => isPrompt(field.name)) ?? this.#fields[0];
    first?.focus();
    if (first && isPrompt(first.name)) first.control.setSelectionRange?.(-1, -1);
  }

  #choose(workflow, values = {}) {
    // What was typed goes along to a workflow that knows the same input.
    const typed = Object.fromEntries(this.#fields.filter((field) => isTyped(field)).map((field) => [field.name, field.value()]));
    this.#shown = workflow;
    this.select.value = this.#workflows.indexOf(workflow);
    browser.set("workflow", workflow.deployment_id);
    const inputs = workflow.inputs ?? ONE_PROMPT;
    const prompt = promptName(inputs.map((input) => input.name));
    this.#fields = inputs.map((input) => fieldFor(input, this.client));
    for (const field of this.#fields) field.set(values[field.name] ?? typed[field.name]);
    const isFirst = (field) => field.name === prompt || isFile(field.input);
    const first = this.#fields.filter(isFirst);
    const rest = this.#fields.filter((field) => !isFirst(field));
    if (!first.length) first.push(...rest.splice(0, 2));
    this.main.replaceChildren(...first.map((field) => field.element));
    this.more.replaceChildren(...rest.map((field) => field.element));
    this.settings.hidden = !rest.length;
    this.settings.querySelector("#settings-names").textContent = rest.map((field) => field.input.title).join(", ");
    this.form.querySelector("#about").textContent = workflow.description ?? "";
    this.form.querySelector("#hint").textContent = first.some((field) => field.control.tagName === "TEXTAREA") ? "Ctrl + Enter sends" : "";
    this.#say("");
  }

  async #submit() {
    const shown = this.#shown;
    if (!shown || this.button.getAttribute("aria-busy")) return;
    this.#say("");
    const wrong = this.#fields.map((field) => [field, field.problem()]).filter(([, reason]) => reason);
    if (wrong.length) {
      for (const [field, reason] of wrong) field.refuse(reason);
      this.#show(wrong[0][0]);
      return;
    }
    this.button.setAttribute("aria-busy", "true");
    let inputs;
    try {
      inputs = await this.#inputs();
    } catch {
      this.#show(this.#fields.find((field) => !field.wrong.hidden));
      return; // a file could not be uploaded, and its field says why
    } finally {
      this.button.removeAttribute("aria-busy");
    }
    const refused = await this.onSend({ ...this.#target(shown), inputs });
    if (refused) this.#refuse(refused);
  }

  async #inputs() {
    const values = await Promise.all(this.#fields.map((field) => field.value()));
    const pairs = this.#fields.map((field, place) => [field.name, values[place]]);
    return Object.fromEntries(pairs.filter(([, value]) => value !== undefined));
  }

  /** By name, so that events can say it; by id when the name means something else as well. */
  #target({ name, environment, deployment_id }) {
    const same = this.#workflows.filter((one) => one.name === name && one.environment === environment);
    return same.length > 1 || !environment ? { deployment_id } : { workflow: name, environment };
  }

  #refuse(problem) {
    const rest = [];
    let first = null;
    for (const { field: path, reason } of problem.fields) {
      const field = this.#fields.find((one) => path === `inputs.${one.name}` || path.startsWith(`inputs.${one.name}.`));
      if (field) {
        field.refuse(reason);
        first ??= field;
      } else {
        rest.push(`${path}: ${reason}`);
      }
    }
    if (!first || rest.length) this.#say([first ? "" : problem.message, ...rest].filter(Boolean).join(" "));
    this.#show(first);
  }

  #show(field) {
    if (!field) return;
    if (this.more.contains(field.element)) this.settings.open = true;
    field.focus();
  }

  #say(text) {
    this.refusal.textContent = text;
    this.refusal.hidden = !text;
  }
}

function isMain(workflow) {
  return workflow.environment === "production" || !workflow.environment;
}

function isTyped(field) {
  return isPrompt(field.name) && field.control.value !== String(field.input.default ?? "");
}

/** For a first visit: one that needs nothing but a sentence, in production; of several the oldest. */
function simplest(workflows) {
  const points = (one) => {
    const inputs = one.inputs ?? [];
    return (isMain(one) ? 4 : 0) + (promptName(inputs.map((input) => input.name)) ? 2 : 0) + (inputs.some(isFile) ? 0 : 1);
  };
  return workflows.reduce((best, one) => (points(one) >= points(best) ? one : best));
}
