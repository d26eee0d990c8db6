// The live page: sends reduced frames of a camera or a file to the server, and shows them upscaled.
//
//   video frame -> small canvas -> JPEG -> socket ........ socket -> JPEG -> three canvases
//
// At most two frames are in flight: one in the network and one waiting. While there are two, frames of
// the video are dropped; the next one that is sent is always the newest. The messages are described in
// web/http/live_protocol.py.

import { Bicubic } from "./bicubic.js";

const IN_FLIGHT = 2;
const MIN_INTERVAL = 1000 / 62; // milliseconds between two frames: 60 per second on any display
const REQUEST_HEADER = 12, RESPONSE_HEADER = 20; // bytes
const QUALITY = 0.9;
const WINDOW = 100; // latencies in the median and p95
const TRY_AGAIN_LATER = 1013, REFUSED = [1003, 1007, 1008, 1009]; // close codes of RFC 6455

const $ = (id) => document.getElementById(id);
const form = $("source"), views = $("views");
const scale = Number(views.dataset.scale);

let session = null;

function showState(state, text, bad = false) {
  views.dataset.state = state;
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

// The size to which frames are reduced, and the part of the source that is used.
function geometry(size, width, height) {
  const [w, h] = size.split("x").map(Number);
  if (h) {
    const zoom = Math.min(width / w, height / h), [sw, sh] = [w * zoom, h * zoom];
    return { width: w, height: h, from: [(width - sw) / 2, (height - sh) / 2, sw, sh] };
  }
  const even = (side) => Math.max(16, 2 * Math.round(side * w / Math.max(width, height) / 2));
  return { width: even(width), height: even(height), from: [0, 0, width, height] };
}

class LatencyMeter {
  constructor() {
    this.latencies = [];
    this.drawn = [];
    this.server = [];
  }

  add(latency, server) {
    const now = performance.now();
    this.latencies.push(latency);
    this.server.push(server);
    if (this.latencies.length > WINDOW) [this.latencies, this.server].forEach((l) => l.shift());
    this.drawn.push(now);
    while (this.drawn[0] < now - 3000) this.drawn.shift();
  }

  get fps() {
    if (this.drawn.length < 2) return null;
    const now = performance.now(), recent = this.drawn.filter((at) => at > now - 3000);
    return recent.length < 2 ? 0 : 1000 * (recent.length - 1) / (now - recent[0]);
  }

  static quantile(values, q) {
    if (!values.length) return null;
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  }
}

class Session {
  constructor(video, size, type) {
    Object.assign(this, { video, size, type, meter: new LatencyMeter() });
    this.sequence = 0;
    this.captured = 0; // when the last frame was captured
    this.attempts = 0;
    this.droppedHere = 0; // frames of the video that were not sent
    this.droppedThere = this.droppedBefore = 0; // on the server: in this socket, in lost ones
    this.ended = false;
    this.watch();
    this.connect();
    this.timer = setInterval(() => this.show(), 500);
  }

  // Offers each frame of the video once.
  watch() {
    const { video } = this;
    if (video.requestVideoFrameCallback) {
      const next = () => {
        if (this.ended) return;
        video.requestVideoFrameCallback(next);
        this.offer();
      };
      video.requestVideoFrameCallback(next);
      return;
    }
    let previous = -1;
    const onPaint = () => {
      if (this.ended) return;
      requestAnimationFrame(onPaint);
      if (video.currentTime !== previous) this.offer();
      previous = video.currentTime;
    };
    requestAnimationFrame(onPaint);
  }

  connect() {
    if (this.ended) return;
    if (!this.attempts) showState("connecting", "Connecting to the server …");
    const url = new URL(views.dataset.socket, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.flight = new Map(); // sequence -> the reduced frame as it was sent
    this.drawing = Promise.resolve();
    this.waiting = this.encoding = this.ready = false;
    const socket = this.socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") {
        this.ready = true;
        this.attempts = 0;
        showState("running", `Running: ${JSON.parse(data).model} upscales your video.`);
        this.offer();
      } else {
        this.receive(data);
      }
    };
    socket.onclose = ({ code, reason }) => socket === this.socket && this.lost(code, reason);
  }

  lost(code, reason) {
    if (this.ended) return;
    this.ready = false;
    this.droppedBefore += this.droppedThere;
    this.droppedThere = 0;
    reason = reason.replace(/\.$/, "");
    if (REFUSED.includes(code)) {
      this.stop();
      finished("refused", `The server ended the connection: ${reason || "code " + code}. Press Start to try again.`, true);
      return;
    }
    const delay = code === TRY_AGAIN_LATER ? 5 : Math.min(8, 0.5 * 2 ** this.attempts);
    this.attempts += 1;
    if (code === TRY_AGAIN_LATER) showState("busy", `The server is busy: ${reason}. Retrying every ${delay} seconds.`, true);
    else showState("lost", "The connection to the server is lost. Retrying …", true);
    this.retry = setTimeout(() => this.connect(), 1000 * delay);
  }

  // Sends a new frame, or remembers that there is one.
  offer() {
    const { video } = this;
    if (!this.ready || !video.videoWidth) return;
    if (this.waiting) this.droppedHere += 1;
    this.waiting = true;
    this.send();
  }

  async send() {
    const { socket } = this, captured = performance.now();
    if (!this.waiting || this.encoding || !this.ready || this.flight.size >= IN_FLIGHT) return;
    if (captured < this.captured + MIN_INTERVAL) return;
    this.waiting = false;
    this.encoding = true;
    this.captured = captured;
    const target = geometry(this.size, this.video.videoWidth, this.video.videoHeight);
    const image = await this.reduced(target).catch(() => null);
    if (socket !== this.socket || !this.ready) return;
    if (!image) { // the browser failed to encode it; the next may succeed
      this.encoding = false;
      this.droppedHere += 1;
      return;
    }
    const header = new DataView(new ArrayBuffer(REQUEST_HEADER));
    const sequence = this.sequence++;
    header.setUint32(0, sequence);
    header.setFloat64(4, captured);
    this.flight.set(sequence, { image, ...target });
    socket.send(new Blob([header, image]));
    this.encoding = false;
    this.send();
  }

  async reduced({ width, height, from }) {
    if (this.canvas?.width !== width || this.canvas?.height !== height) {
      this.canvas = self.OffscreenCanvas
        ? new OffscreenCanvas(width, height)
        : Object.assign(document.createElement("canvas"), { width, height });
      this.context = this.canvas.getContext("2d", { alpha: false });
      this.context.imageSmoothingQuality = "high";
    }
    this.context.drawImage(this.video, ...from, 0, 0, width, height);
    if (this.canvas.convertToBlob) return this.canvas.convertToBlob({ type: this.type, quality: QUALITY });
    return new Promise((resolve) => this.canvas.toBlob(resolve, this.type, QUALITY));
  }

  receive(data) {
    const header = new DataView(data, 0, RESPONSE_HEADER);
    const sequence = header.getUint32(0), captured = header.getFloat64(4);
    const server = header.getFloat32(12);
    this.droppedThere = header.getUint32(16);
    const sent = this.flight.get(sequence);
    // The server dropped those before it.
    for (const old of [...this.flight.keys()]) if (old <= sequence) this.flight.delete(old);
    if (!sent) return;
    const upscaled = new Blob([new Uint8Array(data, RESPONSE_HEADER)], { type: this.type });
    this.drawing = this.drawing.then(async () => {
      const [low, ours] = await Promise.all([createImageBitmap(sent.image), createImageBitmap(upscaled)]);
      if (this.ended) return;
      this.draw(low, ours);
      this.meter.add(performance.now() - captured, server);
    }).catch(() => { this.droppedHere += 1; }); // an unreadable frame must not stop the others
    this.drawing.then(() => this.send());
  }

  draw(low, ours) {
    const { width, height } = low;
    if (this.bicubic?.width !== width || this.bicubic?.height !== height) {
      this.bicubic = new Bicubic(width, height, scale);
      for (const [id, side] of [["low", 1], ["bicubic", scale], ["ours", scale]]) {
        Object.assign($(id), { width: width * side, height: height * side });
        $(id).style.aspectRatio = `${width} / ${height}`;
        $(`${id}-size`).textContent = `${width * side}×${height * side},`;
      }
      this.contexts = Object.fromEntries(["low", "bicubic", "ours"].map((id) =>
        [id, $(id).getContext("2d", { alpha: false, willReadFrequently: id !== "ours" })]));
    }
    this.contexts.low.drawImage(low, 0, 0);
    this.contexts.ours.drawImage(ours, 0, 0);
    this.contexts.bicubic.putImageData(this.bicubic.run(this.contexts.low.getImageData(0, 0, width, height)), 0, 0);
    low.close();
    ours.close();
    views.dataset.drawn = Number(views.dataset.drawn || 0) + 1;
  }

  show() {
    const { meter } = this, ms = (value) => value === null ? "–" : `${value.toFixed(0)} ms`;
    $("fps").textContent = meter.fps === null ? "–" : meter.fps.toFixed(1);
    $("median").textContent = ms(LatencyMeter.quantile(meter.latencies, 0.5));
    $("p95").textContent = ms(LatencyMeter.quantile(meter.latencies, 0.95));
    $("server").textContent = ms(LatencyMeter.quantile(meter.server, 0.5));
    $("dropped").textContent = this.droppedHere + this.droppedThere + this.droppedBefore;
  }

  stop() {
    this.ended = true;
    this.show();
    clearInterval(this.timer);
    clearTimeout(this.retry);
    this.socket.close();
    release(this.video);
  }
}

// Releases the camera or the file.
function release(video) {
  video.remove();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.pause();
  video.removeAttribute("src");
  video.srcObject = null;
}

// Sources --------------------------------------------------------------------------------------

const CAMERA_ERRORS = {
  NotAllowedError: ["denied", "Access to the camera was not allowed. Allow it in the browser's address bar and press Start, or choose a video file."],
  NotFoundError: ["no-camera", "There is no camera. Connect one and press Start, or choose a video file."],
  OverconstrainedError: ["no-camera", "This camera is no longer connected. Choose another one, or a video file."],
  NotReadableError: ["in-use", "The camera cannot be started. Is another program using it?"],
};

async function cameraVideo(video, camera) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw Object.assign(new Error(), { state: "insecure", text: "Browsers allow access to the camera only over https or on the same machine. Choose a video file instead." });
  }
  const constraints = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } };
  if (camera) constraints.deviceId = { exact: camera };
  const stream = await navigator.mediaDevices.getUserMedia({ video: constraints, audio: false });
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (session?.video !== video) return;
    session.stop();
    finished("no-camera", "The camera was disconnected. Connect it and press Start.", true);
  });
  video.srcObject = stream;
  return listCameras();
}

async function listCameras() {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "videoinput");
  const select = form.elements.camera, chosen = select.value;
  select.replaceChildren(...cameras.map((d, k) => new Option(d.label || `camera ${k + 1}`, d.deviceId)));
  if (chosen) select.value = chosen;
  $("camera-choice").hidden = cameras.length < 2 || form.elements.from.value !== "camera";
}

function fileVideo(video, file) {
  if (!file) throw Object.assign(new Error(), { state: "no-file", text: "Choose a video file first." });
  video.loop = true;
  video.src = URL.createObjectURL(file);
}

async function start() {
  session?.stop();
  const { from, camera, file, size, format } = form.elements;
  $("start").disabled = true;
  showState("asking", from.value === "camera" ? "Waiting for the camera. Your browser may ask for permission." : "Opening the file …");
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, className: "hidden-text" });
  video.setAttribute("aria-hidden", "true");
  document.body.append(video); // some browsers play only videos in the document
  try {
    if (from.value === "camera") await cameraVideo(video, camera.value);
    else fileVideo(video, file.files[0]);
    await video.play();
  } catch (error) {
    const unknown = from.value === "file"
      ? ["no-file", "Your browser cannot play this file. The Upscale page accepts any video."]
      : ["no-camera", `The camera cannot be used (${error.message || error.name}).`];
    release(video);
    const [state, text] = error.state ? [error.state, error.text] : CAMERA_ERRORS[error.name] ?? unknown;
    finished(state, text, true);
    return;
  }
  $("start").hidden = true;
  $("stop").hidden = false;
  $("stop").focus();
  session = new Session(video, size.value, format.value);
}

function finished(state, text, bad = false) {
  session = null;
  const focused = document.activeElement === $("stop");
  $("start").hidden = $("start").disabled = false;
  $("stop").hidden = true;
  if (focused) $("start").focus();
  showState(state, text, bad);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
$("stop").addEventListener("click", () => {
  session?.stop();
  finished("idle", "Stopped. The camera is off.");
});
form.elements.from.addEventListener("change", ({ target }) => {
  $("file-choice").hidden = target.value !== "file";
  $("camera-choice").hidden = target.value !== "camera" || form.elements.camera.length < 2;
});
form.elements.size.addEventListener("change", ({ target }) => {
  if (session) session.size = target.value;
});
form.elements.format.addEventListener("change", ({ target }) => {
  if (session) session.type = target.value;
});
form.elements.zoom.addEventListener("change", ({ target }) => {
  views.dataset.zoom = target.value;
});
addEventListener("pagehide", () => session?.stop());
