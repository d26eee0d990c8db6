// Client of the REST API.

const ROOT = "/api/v1";
const csrf = document.querySelector('meta[name="csrf-token"]').content;

// An error response of the server; status 0: no response.
export class ApiError extends Error {
  constructor(status, { code = "unknown", message = "", request_id = "" } = {}, retryAfter = null) {
    super(message || (status ? `The server responded with an error (${status}).` : "The server cannot be reached."));
    Object.assign(this, { status, code, requestId: request_id, retryAfter });
  }

  // Can a retry succeed? A 429 without a time is a quota, for which waiting does not help; nor does
  // it for a full disk (507).
  get temporary() {
    return [0, 502, 503, 504].includes(this.status) || (this.status === 429 && this.retryAfter !== null);
  }
}

export const url = (path) => ROOT + path;

function errorFrom(status, text, retryAfter) {
  if (status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  let error;
  try {
    error = JSON.parse(text).error;
  } catch {
    error = {};
  }
  return new ApiError(status, error, Number(retryAfter) || null);
}

// JSON in, JSON out; null for an empty response.
export async function call(method, path, body = undefined, signal = undefined) {
  let response, text;
  const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    response = await fetch(url(path), { method, headers, signal, body: body && JSON.stringify(body) });
    text = await response.text();
  } catch {
    signal?.throwIfAborted();
    throw new ApiError(0);
  }
  if (!response.ok) throw errorFrom(response.status, text, response.headers.get("Retry-After"));
  return text ? JSON.parse(text) : null;
}

// Sends bytes of an upload and reports how many are sent, which fetch cannot.
export function patch(path, offset, bytes, onProgress, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open("PATCH", url(path));
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.setRequestHeader("Upload-Offset", offset);
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    request.upload.onprogress = ({ loaded }) => onProgress(loaded);
    request.onload = () => request.status < 300
      ? resolve(JSON.parse(request.responseText || "{}"))
      : reject(errorFrom(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    request.onerror = request.ontimeout = () => reject(new ApiError(0));
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(bytes);
  });
}

const REOPEN_SECONDS = 5; // after which a rejected stream is opened again
const INTERRUPTED = "Live updates are interrupted. This page checks again every few seconds.";

// Follows jobs by server-sent events: `onJob` gets each changed job, `onGone` the id of a deleted one.
//
// The browser reopens a broken stream, but never one that was rejected (too many streams, a proxy
// without its server): that is done here. Meanwhile `onLost` is called now and then, with a message for
// the user, so that the page polls; `onOpen` ends this. A hidden page closes its stream: browsers allow
// a site six connections for all tabs together.
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
      if (target.readyState === EventSource.CLOSED) timer = setTimeout(open, 1000 * REOPEN_SECONDS);
      onLost(INTERRUPTED);
    });
  };
  const openIfVisible = () => {
    close();
    if (!document.hidden) open();
  };
  document.addEventListener("visibilitychange", openIfVisible);
  openIfVisible();
  return {
    close() {
      document.removeEventListener("visibilitychange", openIfVisible);
      close();
    },
  };
}

export const ENDED = ["done", "failed", "cancelled"];
