// One job: its progress as it goes, then the result beside the film it came from.

import { actionButtons, showButtons } from "./actions.js";
import { call, ENDED, jobEvents, url } from "./api.js";
import { compareSlider, Together } from "./compare.js";
import { bytes, clock, duration, element, facts, percent, STATES, when } from "./format.js";
import { showSamples } from "./samples.js";

const $ = (id) => document.getElementById(id);
const id = $("job").dataset.id;
const FRAME_SECONDS = 1.5; // between two pictures of a running job

let events = null;
let state = null;
let spoken = -1;
let framesShown = { at: 0, count: -1 };

function show(job) {
  trouble(null);
  document.title = `${job.name} · sharpreel`;
  $("name").textContent = job.name;
  if (state !== job.state) {
    $("state").dataset.state = job.state;
    $("state").textContent = STATES[job.state] ?? job.state;
  }
  $("stage").textContent = job.state === "running" ? job.stage ?? "" : "";
  showProgress(job);
  showActions(job);
  showDetails(job);
  if (job.kind === "sample") {
    if (job.state === "done" && state !== "done") {
      $("samples").hidden = false;
      showSamples(job.results, $("sample-videos"), $("sample-play"));
    }
  } else if (job.urls.before && job.urls.after) {
    if (state !== "done") showVideos(job);
  } else { // it runs, or browsers do not play it
    showFrames(job);
  }
  state = job.state;
  if (ENDED.includes(state)) {
    events?.close();
    events = null;
  } else {
    watch();
  }
}

function showProgress(job) {
  const share = job.state === "done" ? 100 : percent(job.frames, job.total);
  $("progress").hidden = job.state === "done";
  $("bar").value = share;
  $("done").textContent = job.total ? `${share} %, ${job.frames} of ${job.total}` : `${job.frames} frames`;
  const running = job.state === "running";
  $("fps").textContent = running && job.fps ? job.fps.toFixed(1) : "–";
  $("eta").textContent = running ? duration(job.eta_seconds) : "–";
  $("segment").textContent = job.segments ? `${Math.min(job.segment + 1, job.segments)} of ${job.segments}` : `${job.segment + 1}`;
  const tens = Math.floor(share / 10);
  if (running && tens !== spoken) {
    $("said").textContent = `${share} per cent done, ${duration(job.eta_seconds)} left`;
    spoken = tens;
  }
}

function showActions(job) {
  if ($("actions").dataset.state === job.state) return;
  $("actions").dataset.state = job.state;
  const buttons = actionButtons(job, (now, action) => {
    if (action === "delete") location.assign("/jobs");
    else show(now);
  }, trouble);
  if (job.state === "done" && job.result) {
    buttons.unshift(element("a", { class: "button main", id: "download", "data-action": "download", href: url(`/jobs/${id}/result?download=1`) },
      `Download (${bytes(job.result.bytes)})`));
  }
  showButtons($("actions"), buttons);
}

function showDetails(job) {
  const { result, options } = job;
  const seconds = job.started && job.finished ? job.finished - job.started : null;
  facts($("facts"), [
    ["Result", result && `${result.name}, ${result.width}×${result.height}, ${bytes(result.bytes)}`],
    ["Asked for", Object.entries(options).map(([key, value]) => `${key} ${value}`).join(", ")],
    ["Came", when(job.created)],
    ["Began", job.started && when(job.started)],
    ["Ended", job.finished && when(job.finished)],
    ["Took", seconds && duration(seconds)],
    ["Failed because", job.error],
  ]);
  const notes = job.notes ?? [];
  if ($("notes").children.length !== notes.length) {
    $("notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
  }
}

// While it runs: the newest finished frame, before and after.
function showFrames(job) {
  const now = performance.now();
  if (!job.urls.frame_after || job.frames === framesShown.count || now < framesShown.at + 1000 * FRAME_SECONDS) return;
  framesShown = { at: now, count: job.frames };
  const pictures = [["frame-before", "before"], ["frame-after", "after"]].map(([place, which]) => {
    const picture = new Image();
    picture.src = url(`/jobs/${id}/frame/${which}?frames=${job.frames}`);
    return picture.decode().then(() => [$(place), picture.src]);
  });
  // Both or none: they are of one frame.
  Promise.all(pictures).then((both) => {
    if ($("after").src) return;
    for (const [place, src] of both) {
      place.src = src;
      place.hidden = false;
    }
    $("look").hidden = false;
    $("look-note").textContent = "The newest finished frame. Drag in the picture, or use the arrow keys on the line below it.";
  }).catch(() => {});
}

// When it is done: both films, playing together.
function showVideos({ urls }) {
  const before = $("before"), after = $("after"), play = $("play"), seek = $("seek");
  for (const [video, which] of [[before, "before"], [after, "after"]]) {
    video.src = urls[which];
    video.addEventListener("error", () => {
      $("look-note").textContent = "Your browser cannot play this film here. The download holds it as it was made.";
    });
    video.addEventListener("loadeddata", ready);
  }
  function ready() {
    if (Math.min(before.readyState, after.readyState) < 2) return;
    for (const video of [before, after]) video.hidden = false;
    for (const place of ["frame-before", "frame-after"]) $(place).hidden = true;
    $("player").hidden = false;
    seek.max = after.duration || 0;
    tick();
  }
  function tick() {
    if (document.activeElement !== seek || !after.seeking) seek.value = after.currentTime;
    $("clock").textContent = `${clock(after.currentTime)} / ${clock(after.duration)}`;
    seek.setAttribute("aria-valuetext", `${clock(after.currentTime)} of ${clock(after.duration)}`);
  }
  new Together([after, before]);
  after.addEventListener("timeupdate", tick);
  after.addEventListener("durationchange", () => { seek.max = after.duration || 0; });
  after.addEventListener("play", () => { play.textContent = "Pause"; });
  after.addEventListener("pause", () => { play.textContent = "Play"; });
  play.addEventListener("click", () => (after.paused ? after.play().catch(trouble) : after.pause()));
  seek.addEventListener("input", () => { after.currentTime = Number(seek.value); });
  $("look-note").textContent = "Drag in the picture, or use the arrow keys on the line below it. Both films play together; the page plays smaller copies where a browser could not play the files themselves.";
  $("look").hidden = false;
}

function watch() {
  events ??= jobEvents(`/jobs/${id}/events`, show);
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
}

compareSlider($("look"));
call("GET", `/jobs/${id}`).then(show, (error) => {
  $("state").textContent = "unknown";
  trouble(error.status === 404 ? new Error("There is no such job; perhaps it was deleted or has expired.") : error);
});
