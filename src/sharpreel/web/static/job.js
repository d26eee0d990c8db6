// One job: its progress, then the result next to its input.

import { actionButtons, downloadLink, showButtons } from "./actions.js";
import { call, ENDED, jobEvents, url } from "./api.js";
import { compareSlider, SyncedVideos } from "./compare.js";
import { bytes, clock, duration, element, facts, percent, setText, STATES, when } from "./format.js";
import { showSamples } from "./samples.js";

const $ = (id) => document.getElementById(id);
const id = $("job").dataset.id;
const THUMBNAIL_SECONDS = 1.5; // between two thumbnails of a running job

let events = null;
let state = null;
let announced = -1;
let framesShown = { at: 0, count: -1 };

function show(job) {
  showError(null);
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
  } else { // it is running, or browsers cannot play it
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
  if (running && tens !== announced) {
    $("announcement").textContent = `${share} percent done, ${duration(job.eta_seconds)} left`;
    announced = tens;
  }
}

function showActions(job) {
  if ($("actions").dataset.state === job.state) return;
  $("actions").dataset.state = job.state;
  const deleted = () => location.assign("/jobs");
  const buttons = actionButtons(job, { changed: show, deleted, gone, failed: showError });
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
    ["Options", Object.entries(options).map(([key, value]) => `${key} ${value}`).join(", ")],
    ["Submitted", when(job.created)],
    ["Started", job.started && when(job.started)],
    ["Finished", job.finished && when(job.finished)],
    ["Processing time", seconds && duration(seconds)],
    ["Error", job.error],
  ]);
  const notes = job.notes ?? [];
  if ($("notes").children.length !== notes.length) {
    $("notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
  }
}

// While the job is running: the newest finished frame, before and after.
function showFrames(job) {
  const now = performance.now();
  if (!job.urls.frame_after || job.frames === framesShown.count || now < framesShown.at + 1000 * THUMBNAIL_SECONDS) return;
  framesShown = { at: now, count: job.frames };
  const images = [["frame-before", "before"], ["frame-after", "after"]].map(([target, which]) => {
    const image = new Image();
    image.src = url(`/jobs/${id}/frame/${which}?frames=${job.frames}`);
    return image.decode().then(() => [$(target), image.src]);
  });
  // Both or none: they belong to the same frame.
  Promise.all(images).then((both) => {
    if ($("after").src || $("details").hidden) return;
    for (const [target, src] of both) {
      target.src = src;
      target.hidden = false;
    }
    setAspectRatio($("frame-after").naturalWidth, $("frame-after").naturalHeight);
    $("compare").hidden = false;
    $("compare-note").textContent = "The newest finished frame. Drag in the image, or use the arrow keys on the slider below it.";
  }).catch(() => {});
}

// When the job is done: both videos, synchronised.
function showVideos({ urls, result }) {
  const before = $("before"), after = $("after"), play = $("play"), seek = $("seek");
  for (const [video, which] of [[before, "before"], [after, "after"]]) {
    video.src = urls[which];
    video.addEventListener("error", () => {
      $("compare-note").textContent = "Your browser cannot play this video. Download the result to watch it.";
    });
    video.addEventListener("loadeddata", ready);
  }
  function ready() {
    if (Math.min(before.readyState, after.readyState) < 2) return;
    setAspectRatio(after.videoWidth, after.videoHeight);
    for (const video of [before, after]) video.hidden = false;
    for (const target of ["frame-before", "frame-after"]) $(target).hidden = true;
    $("player").hidden = false;
    seek.max = after.duration || 0;
    tick();
  }
  function tick() {
    if (document.activeElement !== seek || !after.seeking) seek.value = after.currentTime;
    $("clock").textContent = `${clock(after.currentTime)} / ${clock(after.duration)}`;
    seek.setAttribute("aria-valuetext", `${clock(after.currentTime)} of ${clock(after.duration)}`);
  }
  new SyncedVideos([after, before]);
  after.addEventListener("timeupdate", tick);
  after.addEventListener("durationchange", () => { seek.max = after.duration || 0; });
  after.addEventListener("play", () => { play.textContent = "Pause"; });
  after.addEventListener("pause", () => { play.textContent = "Play"; });
  play.addEventListener("click", () => (after.paused ? after.play().catch(showError) : after.pause()));
  seek.addEventListener("input", () => { after.currentTime = Number(seek.value); });
  const first = result.plays_seconds ? `The first ${duration(result.plays_seconds)} of both videos play` : "Both videos play";
  $("compare-note").textContent = `Drag in the image, or use the arrow keys on the slider below it. ${first} in sync, as smaller copies if browsers cannot play the original files.`;
  $("compare").hidden = false;
}

// Shows the comparison in the aspect ratio of the images, so that there are no bars around them.
function setAspectRatio(width, height) {
  if (width && height) $("compare").style.setProperty("--ratio", `${width} / ${height}`);
  $("comparison").hidden = $("slide").hidden = false;
}

function watch() {
  events ??= jobEvents(`/jobs/${id}/events`, {
    onJob: show,
    onGone: gone,
    onOpen: () => setText($("connection"), ""),
    onLost(message) {
      setText($("connection"), message);
      refresh();
    },
  });
}

function unwatch() {
  events?.close();
  events = null;
  setText($("connection"), "");
}

function refresh() {
  call("GET", `/jobs/${id}`).then(show, (error) => {
    if (error.status === 404) {
      gone();
    } else {
      showError(error);
      watch();
    }
  });
}

function gone() {
  unwatch();
  const existed = state !== null;
  for (const video of document.querySelectorAll("video")) video.pause();
  for (const part of document.querySelectorAll("#job section")) part.hidden = true;
  showButtons($("actions"), []);
  $("stage").textContent = "";
  delete $("state").dataset.state;
  setText($("state"), existed ? "deleted" : "unknown");
  setText($("error"), existed ? "This job was deleted." : "There is no such job. It may have been deleted or expired.");
}

function showError(error) {
  setText($("error"), error ? error.message : "");
}

compareSlider($("compare"));
refresh();
