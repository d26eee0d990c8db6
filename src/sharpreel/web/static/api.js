// The REST interface, as the pages use it.

const ROOT = "/api/v1";
const csrf = document.querySelector('meta[name="csrf-token"]').content;

// What the server answered instead of what was asked for; status 0: it did not answer.
export class ApiError extends Error {
  constructor(status, { code = "unknown", message = "", request_id = "" } = {}, retryAfter = null) {
    super(message || (status ? `The server answered ${status}.` : "The server cannot be reached."));
    Object.assign(this, { status, code, requestId: request_id, retryAfter });
  }

  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 502;
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
  let answer;
  const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    answer = await fetch(url(path), { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
  const text = await answer.text();
  if (!answer.ok) throw refused(answer.status, text, answer.headers.get("Retry-After"));
  return text ? JSON.parse(text) : null;
}

// Bytes of an upload; tells how many are sent, which fetch cannot.
export function patch(path, offset, bytes, onProgress, signal) {
  return new Promise((done, fail) => {
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
    request.onabort = () => fail(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(bytes);
  });
}

// Each state of jobs as the server sends it; the browser connects again by itself. A page that
// nobody looks at lets go of its stream: browsers allow a site six connections for all tabs together.
export function jobEvents(path, onJob, onOpen = () => {}) {
  let source = null;
  const look = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      source = new EventSource(url(path));
      source.addEventListener("job", ({ data }) => onJob(JSON.parse(data)));
      source.addEventListener("open", onOpen);
    }
  };
  document.addEventListener("visibilitychange", look);
  look();
  return {
    close() {
      document.removeEventListener("visibilitychange", look);
      source?.close();
    },
  };
}

export const ENDED = ["done", "failed", "cancelled"];
