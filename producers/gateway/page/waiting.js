// How long until the next try? Waits that end early when there is a reason, and grow with jitter when there is none.

/** Milliseconds before try number `tries` (0 is the first repeat): half to whole of base × 2^tries, never above 15 s. */
export function backoff(tries, base = 1000) {
  return Math.min(15_000, base * 2 ** Math.min(tries, 10)) * (0.5 + Math.random() / 2);
}

/** Wait; the network's return, or the page's return to the front, ends it early. */
export function pause(ms) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      document.removeEventListener("visibilitychange", seen);
      resolve();
    };
    const seen = () => document.visibilityState === "visible" && end();
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
    document.addEventListener("visibilitychange", seen);
  });
}

/** Wait, whatever happens: for what a server said (`Retry-After`). */
export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
