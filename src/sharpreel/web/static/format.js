// Numbers as people read them.

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (count >= 999.5 && k < units.length - 1) [count, k] = [count / 1000, k + 1];
  return `${k && count < 99.5 ? count.toFixed(1) : Math.round(count)} ${units[k]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h) return `${h} h ${String(m).padStart(2, "0")} min`;
  return m ? `${m} min ${String(s).padStart(2, "0")} s` : `${s} s`;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export const percent = (part, whole) => (whole ? Math.min(100, Math.floor(100 * part / whole)) : 0);

export function when(time) {
  if (!time) return "–";
  const date = new Date(typeof time === "number" ? 1000 * time : time);
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export const STATES = {
  queued: "waits", running: "running", paused: "paused", cancelled: "cancelled", failed: "failed",
  done: "done",
};

// An element with attributes and children; text is text, never markup.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Text into a place that is read aloud when it changes, so only when it does.
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// Pairs of a word and what it says, into a <dl>.
export function facts(list, pairs) {
  list.replaceChildren(...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([word, value]) => [element("dt", {}, word), element("dd", {}, String(value))]));
}
