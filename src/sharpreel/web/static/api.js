// The REST interface, as the pages use it.

const ROOT = "/api/v1";
const csrf = document.querySelector('meta[name="csrf-token"]').content;

// What the server answered instead of what was asked for; status 0: it did not answer.
export class ApiError extends Error {
  constructor(status, { code = "unknown", message = "", request_id = "" } = {}, retryAfter = null) {
    super(message || (status ? `The server answered ${status}.` : "The server cannot be reached."));
    Object.assign(this, { status, code, requestId: request_id, retryAfter });
  }

  // Whether the same request may be answered later. A 429 that names no time is a quota: it is not
  // waiting that helps. Nor does it where the disk is full (507).
  get passing() {
    return [0, 502, 503, 504].includes(this.status) || (this.status === 429 && this.retryAfter !== null);
  }
}

export const url = (path) => ROOT + path;

function refused(status, text, retryAfter) {
  if (status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  let error;
  try {
    error = JSON.parse(text).error;
  } catch {
    error = {};
  }
  return new ApiError(status, error, Number(retryAfter) || null);
}

// JSON in, JSON out; null for an answer without content.
export async function call(method, path, body = undefined, signal = undefined) {
  let answer, text;
  const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    answer = await fetch(url(path), { method, headers, signal, body: body && JSON.stringify(body) });
    text = await answer.text();
  } catch {
    signal?.throwIfAborted();
    throw new ApiError(0);
  }
  if (!answer.ok) throw refused(answer.status, text, answer.headers.get("Retry-After"));
  return text ? JSON.parse(text) : null;
}

// Bytes of an upload; tells how many are sent, which fetch cannot.
export function patch(path, offset, bytes, onProgress, signal) {
  return new Promise((done, fail) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open("PATCH", url(path));
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.setRequestHeader("Upload-Offset", offset);
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    request.upload.onprogress = ({ loaded }) => onProgress(loaded);
    request.onload = () => request.status < 300
      ? done(JSON.parse(request.responseText || "{}"))
      : fail(refused(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    request.onerror = request.ontimeout = () => fail(new ApiError(0));
    request.onabort = () => fail(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(bytes);
  });
}

const AGAIN_SECONDS = 5; // after which a stream that was refused is asked for again
const SILENT = "The server sends no news at the moment. This page looks again every few seconds.";

// Each state of jobs as the server sends it to `onJob`, and to `onGone` ids of those that were deleted.
//
// A broken stream is opened again by the browser, but one that was refused (too many streams, a proxy
// without its server) never is: that is done here. Meanwhile `onLost` is told now and then, with words
// for the user, so that the page asks by itself; `onOpen` says that this is over. A page that nobody
// looks at lets go of its stream: browsers allow a site six connections for all tabs together.
export function jobEvents(path, { onJob, onGone, onOpen, onLost }) {
  let source = null, timer = null;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    source = new EventSource(url(path));
    source.addEventListener("job", ({ data }) => onJob(JSON.parse(data)));
    source.addEventListener("gone", ({ data }) => onGone(JSON.parse(data).id));
    source.addEventListener("open", onOpen);
    source.addEventListener("error", ({ target }) => {
      if (target.readyState === EventSource.CLOSED) timer = setTimeout(open, 1000 * AGAIN_SECONDS);
      onLost(SILENT);
    });
  };
  const look = () => {
    close();
    if (!document.hidden) open();
  };
  document.addEventListener("visibilitychange", look);
  look();
  return {
    close() {
      document.removeEventListener("visibilitychange", look);
      close();
    },
  };
}

export const ENDED = ["done", "failed", "cancelled"];
