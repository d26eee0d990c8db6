// Sends a file in pieces, so that a lost line or a reload costs no more than one of them.
//
// What is under way is remembered in the browser by the file's name, size and time of change: when
// the same file is chosen again, the upload goes on where the server says it is.

import { ApiError, call, patch } from "./api.js";

const PREFIX = "sharpreel.upload:";
const LONGEST_WAIT = 30; // seconds between two tries
const WILL_NOT_BE = [404, 413, 422]; // answers after which an upload cannot go on

const keyOf = ({ name, size, lastModified }) => `${PREFIX}${name}|${size}|${lastModified}`;
const recorded = (key) => JSON.parse(localStorage.getItem(key) ?? "null");

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
  if (recorded(key)?.id === id) localStorage.removeItem(key);
  await whenFree(() => call("DELETE", `/uploads/${id}`)).catch((error) => {
    if (error.status !== 404) throw error;
  });
}

const pause = (seconds, signal) => new Promise((done, fail) => {
  const stop = () => fail(signal.reason);
  if (signal?.aborted) stop();
  const timer = setTimeout(done, 1000 * seconds);
  addEventListener("online", () => { clearTimeout(timer); done(); }, { once: true });
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(); }, { once: true });
});

// Asks again while another request has the upload: one that was stopped, or whose answer was lost.
async function whenFree(act, signal) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (error.status !== 409 || error.code !== "busy") throw error;
      await pause(error.retryAfter ?? 1, signal);
    }
  }
}

export class Upload {
  // `onChange` is told after each change of: sent, hashed, size, state, problem.
  // state: "starting", "sending", "waiting" (for the line), "checking", "ready"
  // `before`: a stopped upload of the same file, which may still be asking for room.
  constructor(file, onChange, before = null) {
    Object.assign(this, { file, size: file.size, onChange, before, sent: 0, hashed: 0, problem: "" });
    this.state = "starting";
    this.key = keyOf(file);
    this.stopper = new AbortController();
    this.signal = this.stopper.signal;
  }

  // The upload as the server knows it, checked; AbortError after `stop`.
  run() {
    const run = this.carry();
    this.ended = run.then(() => {}, () => {});
    return run;
  }

  async carry() {
    const digest = this.digest();
    digest.catch((error) => this.stopper.abort(error)); // what cannot be read is not sent either
    try {
      await this.before?.ended;
      this.signal.throwIfAborted();
      const upload = await this.insist(() => this.begin());
      if (upload.state !== "ready") {
        await this.send(upload);
        this.change({ state: "checking" });
        const sha256 = await digest;
        const finish = () => {
          this.change({ state: "checking" });
          return call("POST", `/uploads/${upload.id}/finish`, { sha256 }, this.signal);
        };
        Object.assign(upload, await this.insist(() => whenFree(finish, this.signal)));
        if (upload.sha256 && upload.sha256 !== sha256) throw new Error("What arrived is not what was sent. Please upload it again.");
      }
      localStorage.removeItem(this.key);
      this.change({ state: "ready", sent: this.size });
      return upload;
    } catch (error) {
      if (WILL_NOT_BE.includes(error.status)) localStorage.removeItem(this.key);
      throw error;
    } finally {
      this.worker.terminate();
    }
  }

  // Everything sent stays, here and on the server.
  stop() {
    this.stopper.abort();
  }

  // Nothing stays.
  async cancel() {
    this.stop();
    const before = recorded(this.key);
    localStorage.removeItem(this.key);
    await this.ended;
    const upload = recorded(this.key) ?? before; // it may just have been given room
    if (upload) await forget({ key: this.key, id: upload.id });
  }

  change(what) {
    Object.assign(this, what);
    if (!this.signal.aborted) this.onChange(this);
  }

  async begin() {
    const before = recorded(this.key);
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
    const begun = recorded(this.key)?.begun ?? Date.now();
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
        const bring = () => patch(`/uploads/${upload.id}`, offset, piece, told, this.signal);
        try {
          return await whenFree(bring, this.signal);
        } catch (error) {
          if (error.status === 0) await this.checkReadable(); // the browser does not tell one from the other
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
        const answer = await act();
        this.signal.throwIfAborted();
        return answer;
      } catch (error) {
        if (!(error instanceof ApiError) || !error.passing) throw error;
        const wait = error.retryAfter ?? Math.min(LONGEST_WAIT, 2 ** tries);
        this.change({ state: "waiting", problem: error.message });
        await pause(wait, this.signal);
      }
    }
  }

  async checkReadable() {
    await this.file.slice(0, 1).arrayBuffer().catch((error) => { throw unreadable(error.message); });
  }

  digest() {
    this.worker = new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module" });
    return new Promise((done, fail) => {
      this.worker.onmessage = ({ data }) => {
        if (data.error) fail(unreadable(data.error));
        else if (data.sha256) done(data.sha256);
        else this.change({ hashed: data.done });
      };
      this.worker.onerror = () => fail(unreadable("its sum cannot be made"));
      this.signal.addEventListener("abort", () => fail(this.signal.reason), { once: true });
      this.worker.postMessage(this.file);
    });
  }
}

const unreadable = (why) => new Error(`The file cannot be read; was it moved, changed or deleted? (${why})`);
