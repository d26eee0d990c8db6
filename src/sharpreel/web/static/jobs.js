// The table of all jobs, kept up to date by the server's events.

import { actionButtons, showButtons } from "./actions.js";
import { call, jobEvents, url } from "./api.js";
import { duration, element, percent, STATES, when } from "./format.js";

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
    begun: element("td", { "data-label": "Begun" }, when(job.created)),
    actions: element("td", { "data-label": "Actions" }, element("div", { class: "row" })),
  };
  const name = element("a", { href: `/jobs/${job.id}` }, job.name || "film");
  const kind = job.kind === "sample" ? element("span", { class: "hint" }, "sample") : "";
  const made = element("tr", { "data-id": job.id }, element("th", { scope: "row" }, element("span", {}, name, kind)), ...Object.values(cells));
  rows.set(job.id, { made, cells, state: null });
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
  if (one.state && one.state !== job.state) $("said").textContent = `${job.name}: ${STATES[job.state]}`;
  one.state = job.state;
  const buttons = actionButtons(job, (now, action) => (action === "delete" ? remove(job.id) : show(now)), trouble);
  if (job.state === "done" && job.result) {
    buttons.unshift(element("a", {
      class: "button", href: url(`/jobs/${job.id}/result?download=1`), "aria-label": `Download ${job.name}`,
    }, "Download"));
  }
  const place = cells.actions.firstChild;
  if (place.dataset.state !== job.state) showButtons(place, buttons);
  place.dataset.state = job.state;
  filled();
}

function remove(id) {
  rows.get(id)?.made.remove();
  rows.delete(id);
  filled();
}

function filled() {
  $("all").hidden = !rows.size;
  $("none").hidden = rows.size > 0;
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
}

async function all() {
  try {
    const jobs = await call("GET", "/jobs");
    const there = new Set(jobs.map((job) => job.id));
    [...rows.keys()].filter((id) => !there.has(id)).forEach(remove);
    jobs.forEach(show);
    filled();
    trouble(null);
  } catch (error) {
    trouble(error);
  }
}

// After a lost connection some jobs may be gone.
jobEvents("/events", show, all);
