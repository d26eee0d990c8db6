// Sends a file in pieces, so that a lost line or a reload costs no more than one of them.
//
// What is under way is remembered in the browser by the file's name, size and time of change: when
// the same file is chosen again, the upload goes on where the server says it is.

import { ApiError, call, patch } from "./api.js";

const PREFIX = "sharpreel.upload:";
const LONGEST_WAIT = 30; // seconds between two tries

const keyOf = ({ name, size, lastModified }) => `${PREFIX}${name}|${size}|${lastModified}`;

// Uploads of this browser that were begun and not finished, the newest first.
export function remembered() {
  const found = [];
  for (let k = 0; k < localStorage.length; k++) {
    const key = localStorage.key(k);
    if (!key.startsWith(PREFIX)) continue;
    try {
      found.push({ key, ...JSON.parse(localStorage.getItem(key)) });
    } catch {
      localStorage.removeItem(key);
    }
  }
  return found.sort((a, b) => b.begun - a.begun);
}

export async function forget({ key, id }) {
  localStorage.removeItem(key);
  await call("DELETE", `/uploads/${id}`).catch((error) => {
    if (error.status !== 404) throw error;
  });
}

const pause = (seconds, signal) => new Promise((done, fail) => {
  const stop = () => fail(new DOMException("stopped", "AbortError"));
  if (signal.aborted) stop();
  const timer = setTimeout(done, 1000 * seconds);
  addEventListener("online", () => { clearTimeout(timer); done(); }, { once: true });
  signal.addEventListener("abort", () => { clearTimeout(timer); stop(); }, { once: true });
});

export class Upload {
  // `onChange` is told after each change of: sent, hashed, size, state, problem.
  // state: "starting", "sending", "waiting" (for the line), "checking", "ready"
  constructor(file, onChange) {
    Object.assign(this, { file, size: file.size, onChange, sent: 0, hashed: 0, problem: "" });
    this.state = "starting";
    this.key = keyOf(file);
    this.stopper = new AbortController();
  }

  // The upload as the server knows it, checked; AbortError after `stop`.
  async run() {
    const digest = this.digest();
    digest.catch(() => {}); // it is asked for at the end
    try {
      const upload = await this.insist(() => this.begin());
      this.id = upload.id;
      if (upload.state !== "ready") {
        await this.send(upload);
        this.change({ state: "checking" });
        const sha256 = await digest;
        Object.assign(upload, await this.insist(() => call("POST", `/uploads/${upload.id}/finish`, { sha256 })));
        if (upload.sha256 && upload.sha256 !== sha256) throw new Error("What arrived is not what was sent. Please upload it again.");
      }
      localStorage.removeItem(this.key);
      this.change({ state: "ready", sent: this.size });
      return upload;
    } catch (error) {
      if (error instanceof ApiError && !error.passing) localStorage.removeItem(this.key);
      throw error;
    } finally {
      this.worker.terminate();
    }
  }

  // Everything sent stays, here and on the server.
  stop() {
    this.stopper.abort();
    this.worker.terminate();
  }

  change(what) {
    this.onChange(Object.assign(this, what));
  }

  async begin() {
    const before = JSON.parse(localStorage.getItem(this.key) || "null");
    if (before) {
      try {
        const upload = await call("GET", `/uploads/${before.id}`);
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
    const begun = JSON.parse(localStorage.getItem(this.key) || "{}").begun || Date.now();
    localStorage.setItem(this.key, JSON.stringify({ id, name, size, sent, begun }));
  }

  async send(upload) {
    let offset = upload.offset;
    while (offset < this.size) {
      this.change({ sent: offset, state: "sending" });
      const piece = this.file.slice(offset, offset + upload.chunk_bytes);
      let known = true;
      const answer = await this.insist(async () => {
        // After a failure only the server knows how much of the piece came.
        const at = known ? offset : (await call("GET", `/uploads/${upload.id}`)).offset;
        if (at !== offset) return { offset: at };
        known = false;
        const told = (loaded) => this.change({ sent: offset + loaded, state: "sending" });
        try {
          return await patch(`/uploads/${upload.id}`, offset, piece, told, this.stopper.signal);
        } catch (error) {
          if (error.status !== 409) throw error;
          return call("GET", `/uploads/${upload.id}`);
        }
      });
      offset = answer.offset;
      this.remember(upload.id, offset);
    }
    this.change({ sent: offset });
  }

  // Tries again for as long as the server cannot be reached or is busy.
  async insist(act) {
    for (let tries = 0; ; tries++) {
      try {
        return await act();
      } catch (error) {
        if (!(error instanceof ApiError) || !error.passing) throw error;
        const wait = error.retryAfter ?? Math.min(LONGEST_WAIT, 2 ** tries);
        this.change({ state: "waiting", problem: error.message });
        await pause(wait, this.stopper.signal);
      }
    }
  }

  digest() {
    this.worker = new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module" });
    return new Promise((done, fail) => {
      this.worker.onmessage = ({ data }) => {
        if (data.error) fail(new Error(`The file cannot be read: ${data.error}`));
        else if (data.sha256) done(data.sha256);
        else this.change({ hashed: data.done });
      };
      this.worker.onerror = () => fail(new Error("The file cannot be read."));
      this.worker.postMessage(this.file);
    });
  }
}
