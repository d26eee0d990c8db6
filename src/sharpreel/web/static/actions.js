// What can be done with a job in each state, as buttons.

import { call, ENDED } from "./api.js";
import { element } from "./format.js";

const ACTIONS = [
  { name: "pause", label: "Pause", states: ["queued", "running"] },
  { name: "resume", label: "Go on", states: ["paused"] },
  { name: "retry", label: "Try again", states: ["failed", "cancelled"] },
  { name: "cancel", label: "Cancel", states: ["queued", "running", "paused"], grave: true },
  { name: "delete", label: "Delete", states: ENDED, grave: true, ask: "Delete this job and its files?" },
];

// The buttons of one job; `changed(job, action)` is told afterwards, `failed(error)` of an error.
export function actionButtons(job, changed, failed) {
  return ACTIONS.filter(({ states }) => states.includes(job.state)).map((action) => element("button", {
    type: "button", class: action.grave ? "grave" : "", "data-action": action.name,
    "aria-label": `${action.label}: ${job.name}`,
    onclick: async ({ currentTarget }) => {
      if (action.ask && !confirm(action.ask)) return;
      currentTarget.disabled = true;
      try {
        const answer = action.name === "delete"
          ? await call("DELETE", `/jobs/${job.id}`)
          : await call("POST", `/jobs/${job.id}/${action.name}`);
        changed(answer ?? job, action.name);
      } catch (error) {
        failed(error);
      } finally {
        currentTarget.disabled = false;
      }
    },
  }, action.label));
}

// Puts buttons into a place only when they are others than those there, so that focus stays.
export function showButtons(place, buttons) {
  const names = (list) => [...list].map((b) => b.dataset.action).join();
  if (names(place.querySelectorAll("button")) === names(buttons)) return;
  const focused = place.contains(document.activeElement);
  place.replaceChildren(...buttons);
  if (focused) (buttons[0] ?? document.getElementById("main")).focus();
}
