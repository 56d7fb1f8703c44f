// How is shown what a job made? A picture as a picture, a film as a film; what cannot be shown can be opened.
// Addresses expire after about an hour: then that is said in the place of the picture.

import { make } from "./element.js";
import { bytes } from "./words.js";

/** All outputs of a result; `view(url, alt)` shows a picture large. */
export function outputsOf(result, about, view) {
  const sorted = [...result.outputs].sort((one, other) => rank(one) - rank(other));
  const outputs = sorted.map((output) => figure(output, about, view));
  const pictures = sorted.filter((output) => isPicture(output)).length;
  const group = make("div", { className: pictures > 1 ? "outputs several" : "outputs" }, ...outputs);
  return result.outputs.length ? group : make("p", { className: "note", textContent: "The run made no files." });
}

/** Pictures first, whatever order the nodes have. */
function rank(output) {
  return isPicture(output) ? 0 : isFilm(output) ? 1 : 2;
}

function isPicture(output) {
  return output.url && (output.kind === "image" || (output.kind === "animation" && !isFilm(output)));
}

function isFilm(output) {
  return output.kind === "video" || (output.content_type ?? "").startsWith("video/");
}

function figure(output, about, view) {
  if (output.kind === "text" && output.text != null) return make("blockquote", { className: "text", textContent: output.text });
  if (!output.url) return make("p", { className: "note", textContent: output.text ?? "An output without an address." });
  if (isPicture(output)) return picture(output, about, view);
  if (isFilm(output)) {
    const film = make("video", { src: output.url, controls: true, loop: true, playsInline: true, preload: "metadata", muted: true });
    film.setAttribute("aria-label", about);
    return orExpired(film, output);
  }
  if (output.kind === "audio") return orExpired(make("audio", { src: output.url, controls: true, preload: "metadata" }), output);
  return file(output);
}

function picture(output, about, view) {
  const image = make("img", { alt: about, decoding: "async" });
  const button = make("button", { type: "button", className: "picture loading" }, image);
  button.setAttribute("aria-label", `Show large: ${about}`);
  button.addEventListener("click", () => view(output.url, about));
  image.addEventListener("load", () => button.classList.remove("loading"));
  image.src = output.url;
  return orExpired(button, output, image);
}

function orExpired(element, output, loader = element) {
  loader.addEventListener("error", () => {
    const expired = output.url_expires_at && new Date(output.url_expires_at) < new Date();
    const why = expired ? "The address of this file has expired. Run it again to have it anew." : "This file cannot be shown.";
    element.replaceWith(expired ? make("p", { className: "note", textContent: why }) : make("div", { className: "note" }, why, " ", file(output)));
  });
  return element;
}

function file(output) {
  const name = output.filename ?? output.kind;
  const size = output.size ? ` (${bytes(output.size)})` : "";
  return make("a", { className: "file", href: output.url, target: "_blank", rel: "noopener noreferrer", textContent: `${name}${size}` });
}
