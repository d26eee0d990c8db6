// Human-readable numbers, and small helpers for the page.

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
  queued: "queued", running: "running", paused: "paused", cancelled: "cancelled", failed: "failed",
  done: "done",
};

// An element with attributes and children; text is text, never markup.
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) created.addEventListener(name.slice(2), value);
    else if (value === true) created.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) created.setAttribute(name, value);
  }
  created.append(...children);
  return created;
}

// Sets the text of an element, only if it differs: screen readers read changes aloud.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Fills a <dl> with pairs of term and value; empty values are skipped.
export function facts(list, pairs) {
  list.replaceChildren(...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, String(value))]));
}
