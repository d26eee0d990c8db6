// The table of all jobs, kept up to date by the server's events.

import { actionButtons, downloadLink, showButtons } from "./actions.js";
import { call, jobEvents } from "./api.js";
import { duration, element, percent, say, STATES, when } from "./format.js";

const $ = (id) => document.getElementById(id);
const rows = new Map(); // job id -> its row

function row(job) {
  const cells = {
    state: element("td", { "data-label": "State" }, element("span", { class: "state" })),
    progress: element("td", { "data-label": "Progress" },
      element("progress", { max: 100, value: 0, "aria-label": `Progress of ${job.name}` }),
      element("span", { class: "soft" })),
    speed: element("td", { "data-label": "Speed" }),
    left: element("td", { "data-label": "Left" }),
    begun: element("td", { "data-label": "Begun" }),
    actions: element("td", { "data-label": "Actions" }, element("div", { class: "row" })),
  };
  const name = element("a", { href: `/jobs/${job.id}` }, job.name || "film");
  const kind = job.kind === "sample" ? element("span", { class: "hint" }, "sample") : "";
  const made = element("tr", { "data-id": job.id }, element("th", { scope: "row" }, element("span", {}, name, kind)), ...Object.values(cells));
  rows.set(job.id, { made, cells, name: job.name, state: null });
  // The newest first.
  const later = [...$("rows").children].find((other) => Number(other.dataset.created) < job.created);
  made.dataset.created = job.created;
  $("rows").insertBefore(made, later ?? null);
  return rows.get(job.id);
}

function show(job) {
  const one = rows.get(job.id) ?? row(job), { cells } = one;
  const badge = cells.state.firstChild;
  badge.dataset.state = job.state;
  badge.textContent = STATES[job.state] ?? job.state;
  const done = job.state === "done" ? 100 : percent(job.frames, job.total);
  cells.progress.firstChild.value = done;
  cells.progress.lastChild.textContent = `${done} %`;
  const running = job.state === "running";
  cells.speed.textContent = running && job.fps ? `${job.fps.toFixed(1)} frames/s` : "–";
  cells.left.textContent = running ? duration(job.eta_seconds) : "–";
  cells.begun.textContent = !job.started && job.state === "queued" ? STATES.queued : when(job.started);
  if (one.state && one.state !== job.state) $("said").textContent = `${job.name}: ${STATES[job.state]}`;
  one.state = job.state;
  const buttons = actionButtons(job, {
    changed: show, deleted: () => remove(job.id), gone: () => gone(job.id), failed: trouble,
  });
  if (job.state === "done" && job.result) {
    const attributes = { class: "button", "aria-label": `Download ${job.name}` };
    buttons.unshift(downloadLink(job, attributes, "Download", () => gone(job.id)));
  }
  const place = cells.actions.firstChild;
  if (place.dataset.state !== job.state) showButtons(place, buttons);
  place.dataset.state = job.state;
  filled();
}

function remove(id) {
  const { made } = rows.get(id) ?? {};
  rows.delete(id);
  filled();
  if (made?.contains(document.activeElement)) $("main").focus();
  made?.remove();
}

// Deleted elsewhere, or expired.
function gone(id) {
  const one = rows.get(id);
  if (one) $("said").textContent = `${one.name}: deleted`;
  remove(id);
}

function filled() {
  $("all").hidden = !rows.size;
  $("none").hidden = rows.size > 0;
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
}

// What the server tells of its own accord is newer than an answer that was on its way.
let told = new Set();

async function all() {
  const since = told = new Set();
  try {
    const jobs = await call("GET", "/jobs");
    if (since !== told) return; // it was asked again
    const there = new Set(jobs.map((job) => job.id));
    [...rows.keys()].filter((id) => !there.has(id) && !since.has(id)).forEach(remove);
    jobs.filter((job) => !since.has(job.id)).forEach(show);
    filled();
    trouble(null);
  } catch (error) {
    trouble(error);
  }
}

all();
jobEvents("/events", {
  onJob(job) {
    told.add(job.id);
    show(job);
  },
  onGone(id) {
    told.add(id);
    gone(id);
  },
  onOpen() {
    say($("line"), "");
    all(); // some may have gone before
  },
  onLost(words) {
    say($("line"), words);
    all();
  },
});
