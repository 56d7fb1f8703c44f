// How long until the next try? Waits that grow with jitter, and end early when there is a reason.

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

/** Wait until the page can be seen. */
export function inSight() {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(), { once: true });
  });
}

/** Call `act` when the page has been out of sight for so long; `end()` of what is answered takes that back. */
export function outOfSight(ms, act) {
  let timer;
  const look = () => {
    clearTimeout(timer);
    if (document.visibilityState === "hidden") timer = setTimeout(act, ms);
  };
  look();
  document.addEventListener("visibilitychange", look);
  return {
    end() {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    },
  };
}
