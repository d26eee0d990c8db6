// One job: its progress as it goes, then the result beside the film it came from.

import { actionButtons, downloadLink, showButtons } from "./actions.js";
import { call, ENDED, jobEvents, url } from "./api.js";
import { compareSlider, Together } from "./compare.js";
import { bytes, clock, duration, element, facts, percent, say, STATES, when } from "./format.js";
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
  if (ENDED.includes(state)) unwatch();
  else watch();
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
  const deleted = () => location.assign("/jobs");
  const buttons = actionButtons(job, { changed: show, deleted, gone, failed: trouble });
  if (job.state === "done" && job.result) {
    const attributes = { class: "button main", id: "download" };
    buttons.unshift(downloadLink(job, attributes, `Download (${bytes(job.result.bytes)})`, gone));
  }
  showButtons($("actions"), buttons);
}

function showDetails(job) {
  const { result, options } = job;
  $("details").hidden = false;
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
    if ($("after").src || $("details").hidden) return;
    for (const [place, src] of both) {
      place.src = src;
      place.hidden = false;
    }
    shape($("frame-after").naturalWidth, $("frame-after").naturalHeight);
    $("look").hidden = false;
    $("look-note").textContent = "The newest finished frame. Drag in the picture, or use the arrow keys on the line below it.";
  }).catch(() => {});
}

// When it is done: both films, playing together.
function showVideos({ urls, result }) {
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
    shape(after.videoWidth, after.videoHeight);
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
  const first = result.plays_seconds ? `the first ${duration(result.plays_seconds)} of both films play` : "both films play together";
  $("look-note").textContent = `Drag in the picture, or use the arrow keys on the line below it. Here ${first}, as smaller copies where a browser could not play the files themselves.`;
  $("look").hidden = false;
}

// Shows the pictures' box, in their shape, so that there are no bars beside them.
function shape(width, height) {
  if (width && height) $("look").style.setProperty("--ratio", `${width} / ${height}`);
  $("pictures").hidden = $("slide").hidden = false;
}

function watch() {
  events ??= jobEvents(`/jobs/${id}/events`, {
    onJob: show,
    onGone: gone,
    onOpen: () => say($("line"), ""),
    onLost(words) {
      say($("line"), words);
      look();
    },
  });
}

function unwatch() {
  events?.close();
  events = null;
  say($("line"), "");
}

function look() {
  call("GET", `/jobs/${id}`).then(show, (error) => {
    if (error.status === 404) {
      gone();
    } else {
      trouble(error);
      watch();
    }
  });
}

function gone() {
  unwatch();
  const was = state !== null;
  for (const video of document.querySelectorAll("video")) video.pause();
  for (const part of document.querySelectorAll("#job section")) part.hidden = true;
  showButtons($("actions"), []);
  $("stage").textContent = "";
  delete $("state").dataset.state;
  say($("state"), was ? "deleted" : "unknown");
  say($("trouble"), was ? "This job was deleted." : "There is no such job; perhaps it was deleted or has expired.");
}

function trouble(error) {
  say($("trouble"), error ? error.message : "");
}

compareSlider($("look"));
look();
