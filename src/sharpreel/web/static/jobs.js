// The table of all jobs, updated by server-sent events.

import { actionButtons, downloadLink, showButtons } from "./actions.js";
import { call, jobEvents } from "./api.js";
import { duration, element, percent, setText, STATES, when } from "./format.js";

const $ = (id) => document.getElementById(id);
const rows = new Map(); // job id -> its row

function addRow(job) {
  const cells = {
    state: element("td", { "data-label": "State" }, element("span", { class: "state" })),
    progress: element("td", { "data-label": "Progress" },
      element("progress", { max: 100, value: 0, "aria-label": `Progress of ${job.name}` }),
      element("span", { class: "soft" })),
    speed: element("td", { "data-label": "Speed" }),
    left: element("td", { "data-label": "Time left" }),
    started: element("td", { "data-label": "Started" }),
    actions: element("td", { "data-label": "Actions" }, element("div", { class: "row" })),
  };
  const name = element("a", { href: `/jobs/${job.id}` }, job.name || "video");
  const kind = job.kind === "sample" ? element("span", { class: "hint" }, "sample") : "";
  const tableRow = element("tr", { "data-id": job.id }, element("th", { scope: "row" }, element("span", {}, name, kind)), ...Object.values(cells));
  rows.set(job.id, { tableRow, cells, name: job.name, state: null });
  // Newest first.
  const later = [...$("rows").children].find((other) => Number(other.dataset.created) < job.created);
  tableRow.dataset.created = job.created;
  $("rows").insertBefore(tableRow, later ?? null);
  return rows.get(job.id);
}

function show(job) {
  const entry = rows.get(job.id) ?? addRow(job), { cells } = entry;
  const badge = cells.state.firstChild;
  badge.dataset.state = job.state;
  badge.textContent = STATES[job.state] ?? job.state;
  const done = job.state === "done" ? 100 : percent(job.frames, job.total);
  cells.progress.firstChild.value = done;
  cells.progress.lastChild.textContent = `${done} %`;
  const running = job.state === "running";
  cells.speed.textContent = running && job.fps ? `${job.fps.toFixed(1)} frames/s` : "–";
  cells.left.textContent = running ? duration(job.eta_seconds) : "–";
  cells.started.textContent = !job.started && job.state === "queued" ? STATES.queued : when(job.started);
  if (entry.state && entry.state !== job.state) $("announcement").textContent = `${job.name}: ${STATES[job.state]}`;
  entry.state = job.state;
  const buttons = actionButtons(job, {
    changed: show, deleted: () => remove(job.id), gone: () => gone(job.id), failed: showError,
  });
  if (job.state === "done" && job.result) {
    const attributes = { class: "button", "aria-label": `Download ${job.name}` };
    buttons.unshift(downloadLink(job, attributes, "Download", () => gone(job.id)));
  }
  const container = cells.actions.firstChild;
  if (container.dataset.state !== job.state) showButtons(container, buttons);
  container.dataset.state = job.state;
  updateVisibility();
}

function remove(id) {
  const { tableRow } = rows.get(id) ?? {};
  rows.delete(id);
  updateVisibility();
  if (tableRow?.contains(document.activeElement)) $("main").focus();
  tableRow?.remove();
}

// Deleted elsewhere, or expired.
function gone(id) {
  const entry = rows.get(id);
  if (entry) $("announcement").textContent = `${entry.name}: deleted`;
  remove(id);
}

function updateVisibility() {
  $("all").hidden = !rows.size;
  $("none").hidden = rows.size > 0;
}

function showError(error) {
  $("error").textContent = error ? error.message : "";
}

// An event is newer than the response to a request that was sent before it.
let reported = new Set();

async function loadAll() {
  const since = reported = new Set();
  try {
    const jobs = await call("GET", "/jobs");
    if (since !== reported) return; // there is a newer request
    const existing = new Set(jobs.map((job) => job.id));
    [...rows.keys()].filter((id) => !existing.has(id) && !since.has(id)).forEach(remove);
    jobs.filter((job) => !since.has(job.id)).forEach(show);
    updateVisibility();
    showError(null);
  } catch (error) {
    showError(error);
  }
}

loadAll();
jobEvents("/events", {
  onJob(job) {
    reported.add(job.id);
    show(job);
  },
  onGone(id) {
    reported.add(id);
    gone(id);
  },
  onOpen() {
    setText($("connection"), "");
    loadAll(); // some may have been deleted before
  },
  onLost(message) {
    setText($("connection"), message);
    loadAll();
  },
});
