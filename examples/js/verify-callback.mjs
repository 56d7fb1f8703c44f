// Is this callback from Conveyor, and unchanged? Standard Webhooks, with nothing but Node's own crypto.

import { createHmac, timingSafeEqual } from "node:crypto";

/** Seconds a signature is good for: longer lets somebody send an old one again, shorter needs better clocks. */
const TOLERANCE_SECONDS = 300;

/**
 * The event of a callback. Throws when the signature is not by `secret`, or is old.
 *
 * @param {string} secret `whsec_…`, as it was given with the job
 * @param {Record<string, string | string[] | undefined>} headers in lower case, as Node gives them
 * @param {Buffer | string} body the raw bytes, before any JSON parser
 */
export function verifyCallback(secret, headers, body, now = Date.now()) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  if (!/^\d+$/.test(timestamp ?? "") || Math.abs(now / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) {
    throw new Error("callback: missing or old timestamp");
  }
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  // Several signatures, separated by blanks, are allowed: a sender that changes its secret signs with both.
  const good = String(headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const [version, text] = signature.split(",", 2);
    const given = Buffer.from(text ?? "", "base64");
    return version === "v1" && given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!good) throw new Error("callback: wrong signature");
  return JSON.parse(body.toString());
}
