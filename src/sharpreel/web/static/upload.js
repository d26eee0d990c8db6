// Resumable upload: sends a file in chunks, so that a lost connection or a reload costs at most one.
//
// Unfinished uploads are remembered in the browser by the file's name, size and modification time: when
// the same file is chosen again, the upload resumes at the offset that the server has.

import { ApiError, call, patch } from "./api.js";

const PREFIX = "sharpreel.upload:";
const MAX_DELAY = 30; // seconds between two attempts
const FINAL = [404, 413, 422]; // statuses after which an upload cannot be resumed

const keyOf = ({ name, size, lastModified }) => `${PREFIX}${name}|${size}|${lastModified}`;
const recorded = (key) => JSON.parse(localStorage.getItem(key) ?? "null");

// Unfinished uploads of this browser, newest first.
export function unfinished() {
  const uploads = [];
  for (let k = 0; k < localStorage.length; k++) {
    const key = localStorage.key(k);
    if (!key.startsWith(PREFIX)) continue;
    try {
      uploads.push({ key, ...JSON.parse(localStorage.getItem(key)) });
    } catch {
      localStorage.removeItem(key);
    }
  }
  return uploads.sort((a, b) => b.started - a.started);
}

export async function forget({ key, id }) {
  if (recorded(key)?.id === id) localStorage.removeItem(key);
  await whenFree(() => call("DELETE", `/uploads/${id}`)).catch((error) => {
    if (error.status !== 404) throw error;
  });
}

const sleep = (seconds, signal) => new Promise((resolve, reject) => {
  const stop = () => reject(signal.reason);
  if (signal?.aborted) stop();
  const timer = setTimeout(resolve, 1000 * seconds);
  addEventListener("online", () => { clearTimeout(timer); resolve(); }, { once: true });
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(); }, { once: true });
});

// Retries while another request has the upload: one that was stopped, or whose response was lost.
async function whenFree(send, signal) {
  for (;;) {
    try {
      return await send();
    } catch (error) {
      if (error.status !== 409 || error.code !== "busy") throw error;
      await sleep(error.retryAfter ?? 1, signal);
    }
  }
}

export class Upload {
  // `onChange` is called after each change of: sent, hashed, size, state, problem.
  // state: "starting", "sending", "waiting" (for the connection), "checking", "ready"
  // `previous`: a stopped upload of the same file, which may still be creating it on the server.
  constructor(file, onChange, previous = null) {
    Object.assign(this, { file, size: file.size, onChange, previous, sent: 0, hashed: 0, problem: "" });
    this.state = "starting";
    this.key = keyOf(file);
    this.stopper = new AbortController();
    this.signal = this.stopper.signal;
  }

  // Resolves to the checked upload, as in the API; AbortError after `stop`.
  run() {
    const run = this.transfer();
    this.ended = run.then(() => {}, () => {});
    return run;
  }

  async transfer() {
    const digest = this.digest();
    digest.catch((error) => this.stopper.abort(error)); // an unreadable file cannot be sent either
    try {
      await this.previous?.ended;
      this.signal.throwIfAborted();
      const upload = await this.retry(() => this.begin());
      if (upload.state !== "ready") {
        await this.send(upload);
        this.change({ state: "checking" });
        const sha256 = await digest;
        const finish = () => {
          this.change({ state: "checking" });
          return call("POST", `/uploads/${upload.id}/finish`, { sha256 }, this.signal);
        };
        Object.assign(upload, await this.retry(() => whenFree(finish, this.signal)));
        if (upload.sha256 && upload.sha256 !== sha256) throw new Error("The upload is corrupted. Please upload the file again.");
      }
      localStorage.removeItem(this.key);
      this.change({ state: "ready", sent: this.size });
      return upload;
    } catch (error) {
      if (FINAL.includes(error.status)) localStorage.removeItem(this.key);
      throw error;
    } finally {
      this.worker.terminate();
    }
  }

  // Stops, and keeps everything that was sent.
  stop() {
    this.stopper.abort();
  }

  // Stops, and deletes the upload.
  async cancel() {
    this.stop();
    const previous = recorded(this.key);
    localStorage.removeItem(this.key);
    await this.ended;
    const upload = recorded(this.key) ?? previous; // it may just have been created
    if (upload) await forget({ key: this.key, id: upload.id });
  }

  change(values) {
    Object.assign(this, values);
    if (!this.signal.aborted) this.onChange(this);
  }

  async begin() {
    const previous = recorded(this.key);
    if (previous) {
      try {
        const upload = await call("GET", `/uploads/${previous.id}`);
        if (upload.size === this.size && upload.state !== "refused") return upload;
      } catch (error) {
        if (error.status !== 404) throw error;
      }
    }
    const { name, size } = this.file;
    const upload = await call("POST", "/uploads", { name, size });
    this.remember(upload.id, 0);
    return upload;
  }

  remember(id, sent) {
    const { name, size } = this.file;
    const started = recorded(this.key)?.started ?? Date.now();
    localStorage.setItem(this.key, JSON.stringify({ id, name, size, sent, started }));
  }

  async send(upload) {
    let offset = upload.offset;
    while (offset < this.size) {
      this.change({ sent: offset, state: "sending" });
      const chunk = this.file.slice(offset, offset + upload.chunk_bytes);
      let known = true;
      const response = await this.retry(async () => {
        // After a failure only the server knows how much of the chunk arrived.
        const at = known ? offset : (await call("GET", `/uploads/${upload.id}`)).offset;
        if (at !== offset) return { offset: at };
        known = false;
        const onProgress = (loaded) => this.change({ sent: offset + loaded, state: "sending" });
        const sendChunk = () => patch(`/uploads/${upload.id}`, offset, chunk, onProgress, this.signal);
        try {
          return await whenFree(sendChunk, this.signal);
        } catch (error) {
          if (error.status === 0) await this.checkReadable(); // the browser reports both in the same way
          if (error.status !== 409) throw error;
          return call("GET", `/uploads/${upload.id}`);
        }
      });
      offset = response.offset;
      this.remember(upload.id, offset);
    }
    this.change({ sent: offset });
  }

  // Retries for as long as the server is unreachable or busy.
  async retry(send) {
    for (let tries = 0; ; tries++) {
      try {
        const response = await send();
        this.signal.throwIfAborted();
        return response;
      } catch (error) {
        if (!(error instanceof ApiError) || !error.temporary) throw error;
        const delay = error.retryAfter ?? Math.min(MAX_DELAY, 2 ** tries);
        this.change({ state: "waiting", problem: error.message });
        await sleep(delay, this.signal);
      }
    }
  }

  async checkReadable() {
    await this.file.slice(0, 1).arrayBuffer().catch((error) => { throw unreadable(error.message); });
  }

  digest() {
    this.worker = new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module" });
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data }) => {
        if (data.error) reject(unreadable(data.error));
        else if (data.sha256) resolve(data.sha256);
        else this.change({ hashed: data.done });
      };
      this.worker.onerror = () => reject(unreadable("its checksum cannot be computed"));
      this.signal.addEventListener("abort", () => reject(this.signal.reason), { once: true });
      this.worker.postMessage(this.file);
    });
  }
}

const unreadable = (why) => new Error(`The file cannot be read. Was it moved, changed or deleted? (${why})`);
