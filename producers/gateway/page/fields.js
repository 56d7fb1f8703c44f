// Which field does an input get? Words, numbers with bounds, choices, yes or no; files are in file_field.js.

import { make } from "./element.js";
import { Field } from "./field.js";
import { FileField } from "./file_field.js";
import { isPrompt } from "./words.js";

class LineField extends Field {
  makeControl() {
    return make("input", { type: "text", autocomplete: "off" });
  }
}

/** Sentences: grows with what is in it. */
class PromptField extends Field {
  makeControl() {
    const control = make("textarea", { rows: 2 });
    control.addEventListener("input", () => this.#grow());
    return control;
  }

  set(value) {
    super.set(value);
    requestAnimationFrame(() => this.#grow());
  }

  #grow() {
    this.control.style.height = "auto";
    this.control.style.height = `${this.control.scrollHeight + 2}px`;
  }
}

class NumberField extends Field {
  get explanation() {
    const { min, max } = this.input;
    const bounds =
      min != null && max != null ? `${min} to ${max}` : min != null ? `At least ${min}` : max != null ? `At most ${max}` : "";
    return [this.input.description, bounds].filter(Boolean).join(" · ");
  }

  makeControl() {
    const { min, max, step, kind } = this.input;
    const whole = kind === "integer";
    const control = make("input", { type: "number", autocomplete: "off", inputMode: whole ? "numeric" : "decimal" });
    if (min != null) control.min = min;
    if (max != null) control.max = max;
    // A step counts from `min`, and the workflow's own default may lie between two.
    control.step = whole ? "1" : "any";
    if (step != null) control.dataset.step = step;
    return control;
  }

  value() {
    return this.control.value === "" ? undefined : this.control.valueAsNumber;
  }

  problem() {
    const { validity } = this.control;
    const { min, max } = this.input;
    if (validity.badInput) return "is not a number";
    if (validity.rangeUnderflow || validity.rangeOverflow) {
      return min != null && max != null ? `has to be ${min} to ${max}` : min != null ? `has to be at least ${min}` : `may be at most ${max}`;
    }
    return validity.stepMismatch ? "has to be a whole number" : "";
  }
}

class ChoiceField extends Field {
  makeControl() {
    const options = (this.input.choices ?? []).map((choice) => make("option", { value: choice, textContent: choice }));
    return make("select", {}, ...options);
  }

  value() {
    return this.control.value === "" ? undefined : this.control.value;
  }

  set(value) {
    this.control.value = value ?? this.input.default ?? this.input.choices?.[0] ?? "";
  }
}

class CheckField extends Field {
  makeControl() {
    return make("input", { type: "checkbox" });
  }

  value() {
    return this.control.checked;
  }

  set(value) {
    this.control.checked = Boolean(value ?? this.input.default);
  }
}

const FILES = new Set(["image", "images", "video", "audio", "file"]);

export function isFile(input) {
  return FILES.has(input.kind);
}

/** The field for an input. A kind we do not know is a line of text. */
export function fieldFor(input, client) {
  if (isFile(input)) return new FileField(input, client);
  switch (input.kind) {
    case "number":
    case "integer":
      return new NumberField(input);
    case "choice":
      return new ChoiceField(input);
    case "boolean":
      return new CheckField(input);
    default:
      return isLong(input) ? new PromptField(input) : new LineField(input);
  }
}

function isLong(input) {
  return input.multiline || isPrompt(input.name) || String(input.default ?? "").length > 60;
}
