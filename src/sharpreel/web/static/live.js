// The live page: frames of a camera or a file go to the server small, and come back enlarged.
//
//   video frame -> small canvas -> JPEG -> socket ........ socket -> JPEG -> three canvases
//
// At most two frames are on their way: one in the network and one that waits. While there are two,
// the video's frames are left out; the next that is sent is always the newest. The messages are
// described in web/live.py.

import { Bicubic } from "./bicubic.js";

const IN_FLIGHT = 2;
const APART = 1000 / 62; // milliseconds between two frames: 60 a second, whatever the screen shows
const HEAD_OUT = 12, HEAD_IN = 20;
const QUALITY = 0.9;
const REMEMBERED = 100; // latencies that the median and p95 are of
const BUSY = 1013, REFUSED = [1003, 1007, 1008, 1009];

const $ = (id) => document.getElementById(id);
const form = $("source"), views = $("views");
const scale = Number(views.dataset.scale);

let session = null;

function tell(state, text, bad = false) {
  views.dataset.state = state;
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

// The size that frames are reduced to, and the part of the source that is shown.
function geometry(wanted, width, height) {
  const [w, h] = wanted.split("x").map(Number);
  if (h) {
    const zoom = Math.min(width / w, height / h), [sw, sh] = [w * zoom, h * zoom];
    return { width: w, height: h, from: [(width - sw) / 2, (height - sh) / 2, sw, sh] };
  }
  const even = (side) => Math.max(16, 2 * Math.round(side * w / Math.max(width, height) / 2));
  return { width: even(width), height: even(height), from: [0, 0, width, height] };
}

class Meter {
  constructor() {
    this.latencies = [];
    this.drawn = [];
    this.server = [];
  }

  add(latency, server) {
    const now = performance.now();
    this.latencies.push(latency);
    this.server.push(server);
    if (this.latencies.length > REMEMBERED) [this.latencies, this.server].forEach((l) => l.shift());
    this.drawn.push(now);
    while (this.drawn[0] < now - 3000) this.drawn.shift();
  }

  get fps() {
    if (this.drawn.length < 2) return null;
    const now = performance.now(), recent = this.drawn.filter((at) => at > now - 3000);
    return recent.length < 2 ? 0 : 1000 * (recent.length - 1) / (now - recent[0]);
  }

  static quantile(values, share) {
    if (!values.length) return null;
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }
}

class Session {
  constructor(video, size, type) {
    Object.assign(this, { video, size, type, meter: new Meter() });
    this.sequence = 0;
    this.captured = 0; // when the last frame was taken
    this.tries = 0;
    this.missedHere = 0; // frames of the video that were not sent
    this.missedThere = this.missedBefore = 0; // that gave way on the server: now, in lost sockets
    this.ended = false;
    this.watch();
    this.connect();
    this.timer = setInterval(() => this.show(), 500);
  }

  // The video's frames, each once.
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
    let before = -1;
    const look = () => {
      if (this.ended) return;
      requestAnimationFrame(look);
      if (video.currentTime !== before) this.offer();
      before = video.currentTime;
    };
    requestAnimationFrame(look);
  }

  connect() {
    if (this.ended) return;
    if (!this.tries) tell("connecting", "Connecting to the server …");
    const url = new URL(views.dataset.socket, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.flight = new Map(); // sequence -> the small picture as it was sent
    this.drawing = Promise.resolve();
    this.waiting = this.encoding = this.ready = false;
    const socket = this.socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") {
        this.ready = true;
        this.tries = 0;
        tell("running", `Running: ${JSON.parse(data).model} enlarges your picture.`);
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
    this.missedBefore += this.missedThere;
    this.missedThere = 0;
    reason = reason.replace(/\.$/, "");
    if (REFUSED.includes(code)) {
      this.stop();
      finished("refused", `The server ended this: ${reason || "code " + code}. Start tries again.`, true);
      return;
    }
    const wait = code === BUSY ? 5 : Math.min(8, 0.5 * 2 ** this.tries);
    this.tries += 1;
    if (code === BUSY) tell("busy", `The server is busy: ${reason}. Trying again every ${wait} seconds.`, true);
    else tell("lost", "The connection to the server is lost. Trying again …", true);
    this.retry = setTimeout(() => this.connect(), 1000 * wait);
  }

  // A new frame is there: send it, or remember that there is one.
  offer() {
    const { video } = this;
    if (!this.ready || !video.videoWidth) return;
    if (this.waiting) this.missedHere += 1;
    this.waiting = true;
    this.send();
  }

  async send() {
    const { socket } = this, captured = performance.now();
    if (!this.waiting || this.encoding || !this.ready || this.flight.size >= IN_FLIGHT) return;
    if (captured < this.captured + APART) return;
    this.waiting = false;
    this.encoding = true;
    this.captured = captured;
    const place = geometry(this.size, this.video.videoWidth, this.video.videoHeight);
    const picture = await this.reduced(place).catch(() => null);
    if (socket !== this.socket || !this.ready) return;
    if (!picture) { // the browser did not make one; the next may be
      this.encoding = false;
      this.missedHere += 1;
      return;
    }
    const head = new DataView(new ArrayBuffer(HEAD_OUT));
    const sequence = this.sequence++;
    head.setUint32(0, sequence);
    head.setFloat64(4, captured);
    this.flight.set(sequence, { picture, ...place });
    socket.send(new Blob([head, picture]));
    this.encoding = false;
    this.send();
  }

  async reduced({ width, height, from }) {
    if (this.small?.width !== width || this.small?.height !== height) {
      this.small = self.OffscreenCanvas
        ? new OffscreenCanvas(width, height)
        : Object.assign(document.createElement("canvas"), { width, height });
      this.pen = this.small.getContext("2d", { alpha: false });
      this.pen.imageSmoothingQuality = "high";
    }
    this.pen.drawImage(this.video, ...from, 0, 0, width, height);
    if (this.small.convertToBlob) return this.small.convertToBlob({ type: this.type, quality: QUALITY });
    return new Promise((done) => this.small.toBlob(done, this.type, QUALITY));
  }

  receive(data) {
    const head = new DataView(data, 0, HEAD_IN);
    const sequence = head.getUint32(0), captured = head.getFloat64(4);
    const server = head.getFloat32(12);
    this.missedThere = head.getUint32(16);
    const sent = this.flight.get(sequence);
    // Those before it gave way on the server.
    for (const old of [...this.flight.keys()]) if (old <= sequence) this.flight.delete(old);
    if (!sent) return;
    const enlarged = new Blob([new Uint8Array(data, HEAD_IN)], { type: this.type });
    this.drawing = this.drawing.then(async () => {
      const [low, ours] = await Promise.all([createImageBitmap(sent.picture), createImageBitmap(enlarged)]);
      if (this.ended) return;
      this.draw(low, ours);
      this.meter.add(performance.now() - captured, server);
    }).catch(() => { this.missedHere += 1; }); // one that cannot be read must not stop the others
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
      this.pens = Object.fromEntries(["low", "bicubic", "ours"].map((id) =>
        [id, $(id).getContext("2d", { alpha: false, willReadFrequently: id !== "ours" })]));
    }
    this.pens.low.drawImage(low, 0, 0);
    this.pens.ours.drawImage(ours, 0, 0);
    this.pens.bicubic.putImageData(this.bicubic.run(this.pens.low.getImageData(0, 0, width, height)), 0, 0);
    low.close();
    ours.close();
    views.dataset.drawn = Number(views.dataset.drawn || 0) + 1;
  }

  show() {
    const { meter } = this, ms = (value) => value === null ? "–" : `${value.toFixed(0)} ms`;
    $("fps").textContent = meter.fps === null ? "–" : meter.fps.toFixed(1);
    $("median").textContent = ms(Meter.quantile(meter.latencies, 0.5));
    $("p95").textContent = ms(Meter.quantile(meter.latencies, 0.95));
    $("server").textContent = ms(Meter.quantile(meter.server, 0.5));
    $("dropped").textContent = this.missedHere + this.missedThere + this.missedBefore;
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

// Lets go of the camera or the file.
function release(video) {
  video.remove();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.pause();
  video.removeAttribute("src");
  video.srcObject = null;
}

// Sources --------------------------------------------------------------------------------------

const WHY = {
  NotAllowedError: ["denied", "The camera was not allowed. Allow it in the browser's address bar, then press Start; or choose a video file."],
  NotFoundError: ["no-camera", "There is no camera. Connect one and press Start, or choose a video file."],
  OverconstrainedError: ["no-camera", "That camera is gone. Choose another, or a video file."],
  NotReadableError: ["in-use", "The camera does not start. Is another program using it?"],
};

async function cameraVideo(video, camera) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw Object.assign(new Error(), { state: "insecure", text: "Browsers give the camera only to pages that come by https or from this machine. Choose a video file instead." });
  }
  const wanted = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } };
  if (camera) wanted.deviceId = { exact: camera };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
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
  tell("asking", from.value === "camera" ? "Waiting for the camera: your browser may ask you to allow it." : "Opening the file …");
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, className: "hidden-text" });
  video.setAttribute("aria-hidden", "true");
  document.body.append(video); // some browsers play no other
  try {
    if (from.value === "camera") await cameraVideo(video, camera.value);
    else fileVideo(video, file.files[0]);
    await video.play();
  } catch (error) {
    const unknown = from.value === "file"
      ? ["no-file", "Your browser cannot play this file. The upload page takes any video."]
      : ["no-camera", `The camera cannot be used (${error.message || error.name}).`];
    release(video);
    const [state, text] = error.state ? [error.state, error.text] : WHY[error.name] ?? unknown;
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
  tell(state, text, bad);
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
