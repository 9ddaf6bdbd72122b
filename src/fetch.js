// One request that leaves the worker, from its start to the end of its response. `fetch.rs` says what it is for; this
// half is JavaScript because each step would otherwise cross from the module to the platform and back.

export class Exchange {
  #exit;
  #url;
  #init;
  #timer;
  #response;
  #abort = new AbortController();

  // `kind` is the Content-Type of `body`, which makes this a POST, or else the Accept of a GET.
  constructor(exit, url, userAgent, kind, authorization, body, timeoutMs) {
    const headers = { "User-Agent": userAgent };
    if (kind !== undefined) headers[body ? "Content-Type" : "Accept"] = kind;
    if (authorization !== undefined) headers.Authorization = authorization;
    this.#exit = exit;
    this.#url = url;
    // The view is of the module's memory, where it doesn't stay.
    const method = body ? { method: "POST", body: body.slice() } : { method: "GET" };
    this.#init = { ...method, headers, redirect: "manual", signal: this.#abort.signal };
    const expire = () => this.#abort.abort(new DOMException("no answer in time", "TimeoutError"));
    this.#timer = setTimeout(expire, timeoutMs);
  }

  // Sends the request, and returns the response's status: negative where Cloudflare asks for a browser in place of it.
  async head() {
    try {
      const response = (this.#response = await this.#exit.fetch(this.#url, this.#init));
      return response.headers.get("cf-mitigated")?.trim() === "challenge" ? -response.status : response.status;
    } catch (error) {
      clearTimeout(this.#timer);
      throw error;
    }
  }

  header(name) {
    return this.#response.headers.get(name) ?? undefined;
  }

  // Reads the body: `undefined` where it has more than `limit` bytes.
  async body(limit) {
    try {
      const { body, headers } = this.#response;
      return body ? await readAtMost(body, limit, declaredLength(headers)) : new Uint8Array();
    } finally {
      clearTimeout(this.#timer);
    }
  }

  // Ends it wherever it is, which frees its connection and its timer.
  end() {
    clearTimeout(this.#timer);
    const body = this.#response?.body;
    if (body && !body.locked) body.cancel().catch(() => {});
    else this.#abort.abort();
  }
}

// Reads the body of a request that has arrived: `undefined` where it has more than `limit` bytes.
export async function readRequest(request, limit) {
  const declared = declaredLength(request.headers);
  if (declared !== undefined) {
    if (declared > limit) return undefined;
    // The runtime holds the client to it, unless there is another framing beside it. This takes less memory than a stream.
    if (!request.headers.has("Transfer-Encoding")) return new Uint8Array(await request.arrayBuffer());
  }
  return request.body ? readAtMost(request.body, limit, declared) : new Uint8Array();
}

// Reads a stream of bytes to its end. Where there are more than `limit`, it is cancelled, and the result is `undefined`.
// `declared` is a length that somebody has declared: it is a hint for the size of the first buffer, and isn't believed.
async function readAtMost(stream, limit, declared) {
  const reader = stream.getReader({ mode: "byob" });
  const parts = [];
  let length = 0;
  let size = Math.min(declared ?? FIRST_BUFFER, limit, LARGEST_FIRST_BUFFER);
  for (;;) {
    // One byte more than there should be, so that the end is seen with the last of them.
    const wanted = Math.min(size, limit - length) + 1;
    const { value, done } = await reader.readAtLeast(wanted, new Uint8Array(wanted));
    const got = value?.byteLength ?? 0;
    if (got > 0) parts.push(value);
    length += got;
    if (done || got < wanted) return parts.length === 1 ? parts[0] : joined(parts, length);
    if (length > limit) {
      reader.cancel().catch(() => {});
      return undefined;
    }
    size = length;
  }
}

function declaredLength(headers) {
  const length = headers.get("Content-Length");
  return /^[0-9]+$/.test(length) ? Number(length) : undefined;
}

function joined(parts, length) {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

const FIRST_BUFFER = 4096;
const LARGEST_FIRST_BUFFER = 65_536;
