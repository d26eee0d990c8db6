// The first page: a film is chosen, sent, planned, perhaps tried for three seconds, and begun.

import { call, ENDED, jobEvents } from "./api.js";
import { bytes, duration, element, facts, percent, say } from "./format.js";
import { showSamples } from "./samples.js";
import { forget, remembered, Upload } from "./upload.js";

const $ = (id) => document.getElementById(id);
const options = $("options");
const FATES = { upscale: "made larger", copy: "kept as it is" };
const HEIGHTS = [480, 720, 1080, 1440, 2160];

let models = [];
let upload = null; // as the server describes it, when it is ready
let sending = null;

// Steps ----------------------------------------------------------------------------------------

function show(step) {
  $("choose").hidden = step !== 0;
  $("sending").hidden = step !== 1;
  $("plan").hidden = $("try").hidden = step !== 2;
  [...$("steps").children].forEach((li, k) => {
    if (k === step) li.setAttribute("aria-current", "step");
    else li.removeAttribute("aria-current");
  });
  if (step === 0) showRemembered();
}

function trouble(error) {
  $("trouble").textContent = error ? error.message + (error.requestId ? ` (request ${error.requestId})` : "") : "";
}

function showRemembered() {
  const begun = remembered();
  $("unfinished").hidden = !begun.length;
  $("unfinished-list").replaceChildren(...begun.map((one) => element("li", {},
    `${one.name}: ${percent(one.sent, one.size)} % of ${bytes(one.size)} sent `,
    element("button", {
      type: "button", "aria-label": `Forget ${one.name}`,
      onclick: () => forget(one).then(showRemembered, trouble),
    }, "Forget"))));
}

// Sending --------------------------------------------------------------------------------------

// `before`: what was sent of this file until it was paused.
async function send(file, before = null) {
  trouble(null);
  if (!file.size) {
    trouble(new Error(`${file.name} is empty.`));
    return;
  }
  const speed = { from: null };
  const started = performance.now();
  let spoken = -1;
  sending = new Upload(file, (now) => {
    speed.from ??= now.state === "sending" ? { sent: now.sent, at: performance.now() } : null;
    const share = percent(now.sent, now.size);
    $("sending-bar").value = share;
    const seconds = speed.from ? (performance.now() - speed.from.at) / 1000 : 0;
    const rate = seconds > 0.5 ? (now.sent - speed.from.sent) / seconds : 0;
    const words = {
      sending: `${bytes(now.sent)} of ${bytes(now.size)}` + (rate > 0
        ? `, ${bytes(rate)} a second, ${duration((now.size - now.sent) / rate)} left` : ""),
      waiting: `The line is lost or the server is busy: ${now.problem} Trying again …`,
      checking: now.hashed < now.size
        ? `All is sent. Checking: ${percent(now.hashed, now.size)} % …`
        : "All is sent. The server checks it …",
      ready: "Sent and checked.",
    };
    $("sending-numbers").textContent = words[now.state];
    const tens = now.state === "sending" ? Math.floor(share / 10) : now.state;
    if (tens !== spoken && performance.now() - started > 1000) {
      spoken = tens;
      $("sending-status").textContent = now.state === "sending" ? `${share} per cent sent` : words[now.state];
    }
  }, before);
  $("sending-numbers").textContent = "Asking the server …";
  $("sending-name").textContent = file.name;
  $("hold").textContent = "Pause";
  show(1);
  $("hold").focus();
  const mine = sending;
  try {
    const ready = await mine.run();
    if (mine !== sending) return;
    sending = null;
    history.replaceState(null, "", `?upload=${encodeURIComponent(ready.id)}`);
    await plan(ready);
  } catch (error) {
    if (error.name === "AbortError" || mine !== sending) return;
    trouble(error);
    show(0);
  }
}

$("hold").addEventListener("click", () => {
  if ($("hold").textContent === "Go on") {
    send(sending.file, sending);
    return;
  }
  sending.stop();
  $("hold").textContent = "Go on";
  $("sending-status").textContent = $("sending-numbers").textContent = "Paused. What is sent is kept.";
});

$("drop-upload").addEventListener("click", () => {
  const dropped = sending;
  sending = null;
  const over = dropped.cancel().catch(trouble);
  show(0);
  $("film").value = "";
  $("film").focus();
  over.then(showRemembered);
});

$("film").addEventListener("change", ({ target }) => target.files[0] && send(target.files[0]));

const drop = $("drop");
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.toggle("over", drop.contains(event.target));
});
addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !$("choose").hidden) send(file);
});

// The plan -------------------------------------------------------------------------------------

async function plan(ready) {
  upload = ready;
  forgetSample();
  if (!models.length) models = await call("GET", "/models");
  const { info } = ready;
  facts($("input-facts"), [
    ["Film", ready.name],
    ["Picture", `${info.width}×${info.height}, ${Number(info.fps).toFixed(2).replace(/\.?0+$/, "")} frames a second, ${info.video_codec}`],
    ["Length", duration(info.seconds)],
    ["Size", bytes(ready.size)],
  ]);
  const chosen = models.find((m) => m.default) ?? models[0];
  options.elements.model.replaceChildren(...models.map((m) => new Option(m.name, m.name, m === chosen, m === chosen)));
  $("sample-models").replaceChildren(...models.map((m) => element("label", {},
    element("input", { type: "checkbox", name: "models", value: m.name }), m.name, element("span", { class: "soft" }))));
  offerSizes();
  ticked = false;
  offerSamples();
  if (info.seconds) $("sample").elements.start.max = Math.max(0, Math.floor(info.seconds - 1));
  show(2);
  $("plan-title").focus();
  await replan();
}

// Factors that the network has, and heights that are larger than the film's.
function offerSizes() {
  const model = models.find((m) => m.name === options.elements.model.value);
  const { width, height } = upload.info, select = options.elements.size, before = select.value;
  const largest = Math.max(...model.scales);
  select.replaceChildren(
    ...model.scales.map((s) => new Option(`${s}×: ${Math.round(width * s)}×${Math.round(height * s)}`, `x${s}`)),
    ...HEIGHTS.filter((h) => h > height && h < largest * height)
      .map((h) => new Option(`${h} pixels high`, `${h}`)),
  );
  if ([...select.options].some((o) => o.value === before)) select.value = before;
  $("model-note").textContent = `${model.name}: ${[model.note, model.licence].filter(Boolean).join(" · ")}`;
}

// The chosen factor; with a height, the smallest of the network's that reaches it.
function sampleScale() {
  const size = options.elements.size.value;
  if (size.startsWith("x")) return Number(size.slice(1));
  const { scales } = models.find((m) => m.name === options.elements.model.value);
  return scales.find((s) => s * upload.info.height >= Number(size)) ?? Math.max(...scales);
}

// The chosen network beside bicubic, or what the user has ticked; what lacks the factor cannot be.
let ticked = false;

function offerSamples() {
  const scale = sampleScale();
  $("try-scale").textContent = scale;
  for (const box of $("sample-models").querySelectorAll("input")) {
    const { name, scales } = models.find((m) => m.name === box.value);
    const has = scales.includes(scale);
    box.disabled = !has;
    box.checked = has && (ticked ? box.checked : name === options.elements.model.value || name === "bicubic");
    box.nextElementSibling.textContent = has ? "" : `has ${scales.map((s) => `${s}×`).join(", ")} only`;
  }
}

function wanted() {
  const { model, size, codec, crf, container } = options.elements;
  const made = { model: model.value };
  if (size.value.startsWith("x")) made.scale = Number(size.value.slice(1));
  else made.height = Number(size.value);
  if (codec.value) made.codec = codec.value;
  if (crf.value) made.crf = Number(crf.value);
  if (container.value) made.container = container.value;
  return made;
}

let asked = null;

async function replan() {
  asked?.abort();
  const mine = asked = new AbortController();
  $("begin").disabled = true;
  $("planned").hidden = true;
  $("plan-state").textContent = "Reckoning: a few frames are tried …";
  try {
    const made = await call("POST", "/plans", { upload: upload.id, options: wanted() }, mine.signal);
    $("plan-state").textContent = "";
    showPlan(made);
    $("begin").disabled = false;
  } catch (error) {
    if (error.name !== "AbortError") $("plan-state").textContent = `Not possible: ${error.message}`;
  }
}

function showPlan(made) {
  const cells = [
    ["Result", `${made.width}×${made.height}`],
    ["Time", made.eta_seconds === null ? "unknown" : `about ${duration(made.eta_seconds)}`],
    ["Size", made.bytes_estimate === null ? "unknown" : `about ${bytes(made.bytes_estimate)}`],
    ["Frames", made.frames ?? "unknown"],
    ["Runs on", made.engine],
  ];
  $("plan-figures").replaceChildren(...cells.map(([word, value]) =>
    element("div", {}, element("dt", {}, word), element("dd", {}, String(value)))));
  $("streams").replaceChildren(...made.streams.map(({ kind, label, fate }) => {
    const known = (label ?? "").replace(/ und$/, ""); // "und": of no stated language
    return element("li", {}, `${kind}${known ? ` (${known})` : ""}: ${FATES[fate] ?? fate}`);
  }));
  $("streams-box").hidden = !made.streams.length;
  $("plan-notes").replaceChildren(...made.notes.map((note) => element("li", {}, note)));
  $("planned").hidden = false;
}

options.addEventListener("change", ({ target }) => {
  if (target.name === "model") offerSizes();
  offerSamples();
  replan();
});

options.addEventListener("submit", async (event) => {
  event.preventDefault();
  $("begin").disabled = true;
  trouble(null);
  try {
    const job = await call("POST", "/jobs", { upload: upload.id, options: wanted() });
    location.assign(`/jobs/${job.id}`);
  } catch (error) {
    trouble(error);
    $("begin").disabled = false;
  }
});

$("another").addEventListener("click", () => {
  upload = null;
  history.replaceState(null, "", "/");
  $("film").value = "";
  show(0);
  $("film").focus();
});

// Three seconds by several networks ------------------------------------------------------------

let events = null; // of the sample that is waited for

// Of the film before.
function forgetSample() {
  sampleEnded("");
  $("sample").reset();
  $("sample-results").hidden = true;
  $("sample-videos").replaceChildren();
}

$("sample-models").addEventListener("change", () => { ticked = true; });

$("sample").addEventListener("submit", async (event) => {
  event.preventDefault();
  const names = [...$("sample").querySelectorAll("input:checked")].map((box) => box.value);
  if (!names.length) {
    $("sample-state").textContent = "Choose at least one network.";
    return;
  }
  $("make-sample").disabled = true;
  $("sample-results").hidden = true;
  $("sample-bar").hidden = false;
  $("sample-bar").value = 0;
  $("sample-state").textContent = "Waiting for its turn …";
  const film = upload;
  try {
    const job = await call("POST", "/samples", {
      upload: upload.id, models: names, scale: sampleScale(),
      start: Number($("sample").elements.start.value) || 0, seconds: 3,
    });
    if (film === upload) watchSample(job.id);
  } catch (error) {
    if (film === upload) sampleEnded(error.message);
  }
});

function sampleEnded(words) {
  events?.close();
  events = null;
  $("make-sample").disabled = false;
  $("sample-bar").hidden = true;
  $("sample-state").textContent = words;
}

function watchSample(id) {
  const gone = () => sampleEnded("The sample was deleted.");
  const lost = ({ status, message }) => (status === 404 ? gone() : say($("sample-state"), message));
  const mine = events = jobEvents(`/jobs/${id}/events`, {
    onJob: showSample,
    onGone: gone,
    onOpen() {},
    onLost: () => call("GET", `/jobs/${id}`).then((job) => events === mine && showSample(job), (error) => events === mine && lost(error)),
  });
}

function showSample(job) {
  if (!ENDED.includes(job.state)) {
    $("sample-bar").value = percent(job.frames, job.total);
    say($("sample-state"), job.state === "running" ? "Being made …" : "Waiting for its turn …");
    return;
  }
  if (job.state !== "done") {
    sampleEnded(job.error ? `The sample failed: ${job.error}` : "The sample was cancelled.");
    return;
  }
  sampleEnded("The sample is ready.");
  $("sample-results").hidden = false;
  showSamples(job.results, $("sample-videos"), $("sample-play"));
}

// A page that is loaded again goes on where it was.
const known = new URLSearchParams(location.search).get("upload");
show(0);
if (known) {
  call("GET", `/uploads/${encodeURIComponent(known)}`)
    .then((found) => (found.state === "ready" ? plan(found) : history.replaceState(null, "", "/")))
    .catch((error) => {
      history.replaceState(null, "", "/");
      if (error.status !== 404) trouble(error);
    });
}
