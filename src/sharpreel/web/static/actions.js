// What can be done with a job in each state, as buttons and a link.

import { call, ENDED, url } from "./api.js";
import { element } from "./format.js";

const ACTIONS = [
  { name: "pause", label: "Pause", states: ["queued", "running"] },
  { name: "resume", label: "Go on", states: ["paused"] },
  { name: "retry", label: "Try again", states: ["failed", "cancelled"] },
  { name: "cancel", label: "Cancel", states: ["queued", "running", "paused"], grave: true },
  { name: "delete", label: "Delete", states: ENDED, grave: true, ask: "Delete this job and its files?" },
];

// The buttons of one job. Afterwards one of these is told: `changed(job)`; `deleted()`; `gone()` when
// another had deleted it; `failed(error)`.
export function actionButtons(job, { changed, deleted, gone, failed }) {
  return ACTIONS.filter(({ states }) => states.includes(job.state)).map((action) => element("button", {
    type: "button", class: action.grave ? "grave" : "", "data-action": action.name,
    "aria-label": `${action.label}: ${job.name}`,
    onclick: async ({ currentTarget }) => {
      if (action.ask && !confirm(action.ask)) return;
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

// The link to a finished film. Of one that is there no more the browser says "failed" at most, so
// `gone()` is told.
export function downloadLink(job, attributes, text, gone) {
  return element("a", {
    ...attributes, download: true, href: url(`/jobs/${job.id}/result?download=1`), "data-action": "download",
    onclick: () => call("GET", `/jobs/${job.id}`).catch(({ status }) => status === 404 && gone()),
  }, text);
}

// Puts buttons into a place only when they are others than those there, so that focus stays.
export function showButtons(place, buttons) {
  const names = (list) => [...list].map((b) => b.dataset.action).join();
  if (names(place.querySelectorAll("button")) === names(buttons)) return;
  const focused = place.contains(document.activeElement);
  place.replaceChildren(...buttons);
  if (focused) (buttons[0] ?? document.getElementById("main")).focus();
}
