// The start page: choose a video, upload it, see the plan, perhaps try three seconds, and start.

import { call, ENDED, jobEvents } from "./api.js";
import { bytes, duration, element, facts, percent, setText } from "./format.js";
import { showSamples } from "./samples.js";
import { forget, unfinished, Upload } from "./upload.js";

const $ = (id) => document.getElementById(id);
const options = $("options");
const FATES = { upscale: "upscaled", copy: "kept unchanged" };
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
  if (step === 0) showUnfinished();
}

function showError(error) {
  $("error").textContent = error ? error.message + (error.requestId ? ` (request ${error.requestId})` : "") : "";
}

function showUnfinished() {
  const started = unfinished();
  $("unfinished").hidden = !started.length;
  $("unfinished-list").replaceChildren(...started.map((one) => element("li", {},
    `${one.name}: ${percent(one.sent, one.size)} % of ${bytes(one.size)} uploaded `,
    element("button", {
      type: "button", "aria-label": `Discard ${one.name}`,
      onclick: () => forget(one).then(showUnfinished, showError),
    }, "Discard"))));
}

// Upload --------------------------------------------------------------------------------------

// `previous`: the paused upload of this file.
async function send(file, previous = null) {
  showError(null);
  if (!file.size) {
    showError(new Error(`${file.name} is empty.`));
    return;
  }
  const speed = { from: null };
  const started = performance.now();
  let announced = -1;
  sending = new Upload(file, (now) => {
    speed.from ??= now.state === "sending" ? { sent: now.sent, at: performance.now() } : null;
    const share = percent(now.sent, now.size);
    $("sending-bar").value = share;
    const seconds = speed.from ? (performance.now() - speed.from.at) / 1000 : 0;
    const rate = seconds > 0.5 ? (now.sent - speed.from.sent) / seconds : 0;
    const messages = {
      sending: `${bytes(now.sent)} of ${bytes(now.size)}` + (rate > 0
        ? `, ${bytes(rate)} per second, ${duration((now.size - now.sent) / rate)} left` : ""),
      waiting: `The connection is lost or the server is busy: ${now.problem} Retrying …`,
      checking: now.hashed < now.size
        ? `Upload complete. Computing the checksum: ${percent(now.hashed, now.size)} % …`
        : "Upload complete. Verifying …",
      ready: "Uploaded and verified.",
    };
    $("sending-numbers").textContent = messages[now.state];
    const tens = now.state === "sending" ? Math.floor(share / 10) : now.state;
    if (tens !== announced && performance.now() - started > 1000) {
      announced = tens;
      $("sending-status").textContent = now.state === "sending" ? `${share} percent uploaded` : messages[now.state];
    }
  }, previous);
  $("sending-numbers").textContent = "Contacting the server …";
  $("sending-name").textContent = file.name;
  $("hold").textContent = "Pause";
  show(1);
  $("hold").focus();
  const current = sending;
  try {
    const ready = await current.run();
    if (current !== sending) return;
    sending = null;
    history.replaceState(null, "", `?upload=${encodeURIComponent(ready.id)}`);
    await plan(ready);
  } catch (error) {
    if (error.name === "AbortError" || current !== sending) return;
    showError(error);
    show(0);
  }
}

$("hold").addEventListener("click", () => {
  if ($("hold").textContent === "Resume") {
    send(sending.file, sending);
    return;
  }
  sending.stop();
  $("hold").textContent = "Resume";
  $("sending-status").textContent = $("sending-numbers").textContent = "Paused. The uploaded part is kept.";
});

$("drop-upload").addEventListener("click", () => {
  const dropped = sending;
  sending = null;
  const done = dropped.cancel().catch(showError);
  show(0);
  $("file").value = "";
  $("file").focus();
  done.then(showUnfinished);
});

$("file").addEventListener("change", ({ target }) => target.files[0] && send(target.files[0]));

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
  clearSample();
  if (!models.length) models = await call("GET", "/models");
  const { info } = ready;
  facts($("input-facts"), [
    ["File", ready.name],
    ["Video", `${info.width}×${info.height}, ${Number(info.fps).toFixed(2).replace(/\.?0+$/, "")} frames per second, ${info.video_codec}`],
    ["Duration", duration(info.seconds)],
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

// The scales of the model, and heights above that of the video.
function offerSizes() {
  const model = models.find((m) => m.name === options.elements.model.value);
  const { width, height } = upload.info, select = options.elements.size, previous = select.value;
  const largest = Math.max(...model.scales);
  select.replaceChildren(
    ...model.scales.map((s) => new Option(`${s}×: ${Math.round(width * s)}×${Math.round(height * s)}`, `x${s}`)),
    ...HEIGHTS.filter((h) => h > height && h < largest * height)
      .map((h) => new Option(`${h} pixels high`, `${h}`)),
  );
  if ([...select.options].some((o) => o.value === previous)) select.value = previous;
  $("model-note").textContent = `${model.name}: ${[model.note, model.licence].filter(Boolean).join(" · ")}`;
}

// The chosen scale; for a height, the smallest scale of the model that reaches it.
function sampleScale() {
  const size = options.elements.size.value;
  if (size.startsWith("x")) return Number(size.slice(1));
  const { scales } = models.find((m) => m.name === options.elements.model.value);
  return scales.find((s) => s * upload.info.height >= Number(size)) ?? Math.max(...scales);
}

// Ticks the chosen model and bicubic, or what the user has ticked; models without the scale are disabled.
let ticked = false;

function offerSamples() {
  const scale = sampleScale();
  $("try-scale").textContent = scale;
  for (const box of $("sample-models").querySelectorAll("input")) {
    const { name, scales } = models.find((m) => m.name === box.value);
    const supported = scales.includes(scale);
    box.disabled = !supported;
    box.checked = supported && (ticked ? box.checked : name === options.elements.model.value || name === "bicubic");
    box.nextElementSibling.textContent = supported ? "" : `only ${scales.map((s) => `${s}×`).join(", ")}`;
  }
}

function chosenOptions() {
  const { model, size, codec, crf, container } = options.elements;
  const chosen = { model: model.value };
  if (size.value.startsWith("x")) chosen.scale = Number(size.value.slice(1));
  else chosen.height = Number(size.value);
  if (codec.value) chosen.codec = codec.value;
  if (crf.value) chosen.crf = Number(crf.value);
  if (container.value) chosen.container = container.value;
  return chosen;
}

let planRequest = null;

async function replan() {
  planRequest?.abort();
  const request = planRequest = new AbortController();
  $("begin").disabled = true;
  $("planned").hidden = true;
  $("plan-state").textContent = "Estimating: timing a few frames …";
  try {
    const planned = await call("POST", "/plans", { upload: upload.id, options: chosenOptions() }, request.signal);
    $("plan-state").textContent = "";
    showPlan(planned);
    $("begin").disabled = false;
  } catch (error) {
    if (error.name !== "AbortError") $("plan-state").textContent = `Not possible: ${error.message}`;
  }
}

function showPlan(planned) {
  const cells = [
    ["Result", `${planned.width}×${planned.height}`],
    ["Time", planned.eta_seconds === null ? "unknown" : `about ${duration(planned.eta_seconds)}`],
    ["Size", planned.bytes_estimate === null ? "unknown" : `about ${bytes(planned.bytes_estimate)}`],
    ["Frames", planned.frames ?? "unknown"],
    ["Engine", planned.engine],
  ];
  $("plan-figures").replaceChildren(...cells.map(([term, value]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, String(value)))));
  $("streams").replaceChildren(...planned.streams.map(({ kind, label, fate }) => {
    const known = (label ?? "").replace(/ und$/, ""); // "und": undetermined language
    return element("li", {}, `${kind}${known ? ` (${known})` : ""}: ${FATES[fate] ?? fate}`);
  }));
  $("streams-box").hidden = !planned.streams.length;
  $("plan-notes").replaceChildren(...planned.notes.map((note) => element("li", {}, note)));
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
  showError(null);
  try {
    const job = await call("POST", "/jobs", { upload: upload.id, options: chosenOptions() });
    location.assign(`/jobs/${job.id}`);
  } catch (error) {
    showError(error);
    $("begin").disabled = false;
  }
});

$("another").addEventListener("click", () => {
  upload = null;
  history.replaceState(null, "", "/");
  $("file").value = "";
  show(0);
  $("file").focus();
});

// Three seconds by several models ------------------------------------------------------------

let events = null; // of the current sample

// Removes the sample of the previous video.
function clearSample() {
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
    $("sample-state").textContent = "Choose at least one model.";
    return;
  }
  $("make-sample").disabled = true;
  $("sample-results").hidden = true;
  $("sample-bar").hidden = false;
  $("sample-bar").value = 0;
  $("sample-state").textContent = "Queued …";
  const sampled = upload;
  try {
    const job = await call("POST", "/samples", {
      upload: upload.id, models: names, scale: sampleScale(),
      start: Number($("sample").elements.start.value) || 0, seconds: 3,
    });
    if (sampled === upload) watchSample(job.id);
  } catch (error) {
    if (sampled === upload) sampleEnded(error.message);
  }
});

function sampleEnded(message) {
  events?.close();
  events = null;
  $("make-sample").disabled = false;
  $("sample-bar").hidden = true;
  $("sample-state").textContent = message;
}

function watchSample(id) {
  const gone = () => sampleEnded("The sample was deleted.");
  const lost = ({ status, message }) => (status === 404 ? gone() : setText($("sample-state"), message));
  const current = events = jobEvents(`/jobs/${id}/events`, {
    onJob: showSample,
    onGone: gone,
    onOpen() {},
    onLost: () => call("GET", `/jobs/${id}`).then((job) => events === current && showSample(job), (error) => events === current && lost(error)),
  });
}

function showSample(job) {
  if (!ENDED.includes(job.state)) {
    $("sample-bar").value = percent(job.frames, job.total);
    setText($("sample-state"), job.state === "running" ? "Upscaling …" : "Queued …");
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

// After a reload, the page shows the same upload.
const uploadId = new URLSearchParams(location.search).get("upload");
show(0);
if (uploadId) {
  call("GET", `/uploads/${encodeURIComponent(uploadId)}`)
    .then((found) => (found.state === "ready" ? plan(found) : history.replaceState(null, "", "/")))
    .catch((error) => {
      history.replaceState(null, "", "/");
      if (error.status !== 404) showError(error);
    });
}
