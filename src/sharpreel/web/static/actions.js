// Buttons and a download link for a job, depending on its state.

import { call, ENDED, url } from "./api.js";
import { element } from "./format.js";

const ACTIONS = [
  { name: "pause", label: "Pause", states: ["queued", "running"] },
  { name: "resume", label: "Resume", states: ["paused"] },
  { name: "retry", label: "Retry", states: ["failed", "cancelled"] },
  { name: "cancel", label: "Cancel", states: ["queued", "running", "paused"], danger: true },
  { name: "delete", label: "Delete", states: ENDED, danger: true, question: "Delete this job and its files?" },
];

// The buttons of one job. Each calls one of these: `changed(job)`; `deleted()`; `gone()` if the job was
// deleted elsewhere; `failed(error)`.
export function actionButtons(job, { changed, deleted, gone, failed }) {
  return ACTIONS.filter(({ states }) => states.includes(job.state)).map((action) => element("button", {
    type: "button", class: action.danger ? "danger" : "", "data-action": action.name,
    "aria-label": `${action.label}: ${job.name}`,
    onclick: async ({ currentTarget }) => {
      if (action.question && !confirm(action.question)) return;
      currentTarget.disabled = true;
      try {
        if (action.name === "delete") {
          await call("DELETE", `/jobs/${job.id}`);
          deleted();
        } else {
          changed(await call("POST", `/jobs/${job.id}/${action.name}`));
        }
      } catch (error) {
        if (error.status === 404) gone();
        else failed(error);
      } finally {
        currentTarget.disabled = false;
      }
    },
  }, action.label));
}

// The link to a finished video. If it has been deleted, the browser reports a failure at most, so
// `gone()` is called.
export function downloadLink(job, attributes, text, gone) {
  return element("a", {
    ...attributes, download: true, href: url(`/jobs/${job.id}/result?download=1`), "data-action": "download",
    onclick: () => call("GET", `/jobs/${job.id}`).catch(({ status }) => status === 404 && gone()),
  }, text);
}

// Replaces the buttons in a container, unless they are the same: then the focus stays.
export function showButtons(container, buttons) {
  const names = (list) => [...list].map((b) => b.dataset.action).join();
  if (names(container.querySelectorAll("button")) === names(buttons)) return;
  const focused = container.contains(document.activeElement);
  container.replaceChildren(...buttons);
  if (focused) (buttons[0] ?? document.getElementById("main")).focus();
}
