// What does one input look like? A field with a label, a value, and room for what is wrong with it.

import { make } from "./element.js";

let count = 0;

/** What all fields have in common. `control` is what gets the focus. */
export class Field {
  constructor(input) {
    this.input = input;
    this.name = input.name;
    count += 1;
    this.id = `field-${count}`;
    this.label = make("label", { htmlFor: this.id, textContent: input.title || input.name });
    this.wrong = make("p", { className: "wrong", id: `${this.id}-wrong`, hidden: true });
    this.note = make("p", { className: "note", id: `${this.id}-note`, textContent: this.explanation });
    this.control = this.makeControl();
    this.control.id = this.id;
    this.control.setAttribute("aria-describedby", `${this.note.id} ${this.wrong.id}`);
    this.control.addEventListener("input", () => this.refuse(""));
    this.element = make("div", { className: "field" }, this.label, ...this.parts(), this.note, this.wrong);
    this.element.dataset.name = this.name;
  }

  get explanation() {
    return this.input.description ?? "";
  }

  parts() {
    return [this.control];
  }

  /** What is sent; undefined leaves the input out, so that the workflow's own default holds. May be a promise. */
  value() {
    return this.control.value === "" && this.input.default == null ? undefined : this.control.value;
  }

  set(value) {
    this.control.value = value ?? this.input.default ?? "";
  }

  /** What is wrong with what was typed, before anybody is asked; "" when nothing is. */
  problem() {
    return "";
  }

  /** Say beside the field what is wrong; "" takes it back. */
  refuse(reason) {
    this.wrong.textContent = reason.charAt(0).toUpperCase() + reason.slice(1);
    this.wrong.hidden = !reason;
    if (reason) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }

  focus() {
    this.control.focus();
  }
}
