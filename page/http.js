// Requests of the page. None carries cookies or tells where it comes from.

const PATIENCE_MS = 10_000;

// A request without an answer that the page may read. `kind` is `cors` where a server is there and browsers may not read
// its answer, `unreachable` where none is, and `timeout`.
export class NoAnswer extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
}

// Sends a request, and returns its status, headers, and JSON, if it is that.
export async function ask(url, { method = "GET", body, token, form, keepalive = false, patience = PATIENCE_MS } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token !== undefined) headers.Authorization = `Bearer ${token}`;
  const init = {
    method,
    headers,
    body: form ? new URLSearchParams(form) : body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
    referrerPolicy: "no-referrer",
    keepalive,
    signal: AbortSignal.timeout(patience),
  };
  try {
    const response = await fetch(url, init);
    const text = (await response.text()).replace(/^\ufeff/, "");
    return { status: response.status, headers: response.headers, json: parsed(text) };
  } catch (error) {
    if (error.name === "TimeoutError" || error.name === "AbortError") throw new NoAnswer("timeout");
    throw new NoAnswer((await isThere(url)) ? "cors" : "unreachable");
  }
}

// Whether a server is at this URL, although the page may not read its answers.
async function isThere(url) {
  if (new URL(url).origin === location.origin) return false;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    await fetch(url, {
      mode: "no-cors",
      credentials: "omit",
      cache: "no-store",
      referrerPolicy: "no-referrer",
      signal,
    });
    return true;
  } catch {
    return false;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// Returns the URL that a value from outside is, and none where it is no text, or another one.
export function urlIn(value) {
  try {
    return typeof value === "string" ? new URL(value) : undefined;
  } catch {
    return undefined;
  }
}

// The remedy for a server that gives no answer to browsers.
export function remedyFor(error, what) {
  switch (error.kind) {
    case "cors":
      return `A server is there, but browsers may not read its answer: it has no Access-Control-Allow-Origin: *. Add that header, exactly once, to ${what}, also to errors and to OPTIONS.`;
    case "timeout":
      return `Look at ${what}: a firewall may drop its packets, or a proxy waits for something that is down.`;
    default:
      return `Check that its name is in the DNS, that its certificate is valid for that name, and that its port is open. A page of the public internet may also be kept from private addresses by the browser.`;
  }
}

export const wordsFor = (error) =>
  ({ cors: "not readable for browsers (CORS)", timeout: "no answer within ten seconds", unreachable: "not reachable" })[
    error.kind
  ] ?? "a fault of this page";
