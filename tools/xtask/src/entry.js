// The worker's entry module: what the platform calls, and how the worker recovers from a panic.
//
// - A panic leaves its WebAssembly instance in an unknown state, so every request and object of this isolate is lost with it.
// - The `worker` crate's panic hook sets `criticalError`. Traps that are no panics, as a stack overflow, are caught here.
// - The next call starts a new instance. A room's object of an older instance is made anew: it reads what is stored.

import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
import { Room as RustRoom, __wbg_reset_state, __worker_init_state, fetch } from "./index.js";

Error.stackTraceLimit = 100;
const state = __worker_init_state();
// The functions that let each alarm that is under way fail.
const underWay = new Set();
let criticalError = false;
Object.defineProperty(state, "criticalError", {
  get: () => criticalError,
  set(value) {
    criticalError = value;
    if (value) underWay.forEach((fail) => fail(new Error("another call of this isolate has panicked")));
  },
});

addEventListener("error", (event) => noticeTrap(event.error));

// The module's futures go on in microtasks, several for each request. Those of a promise cost a fraction of the platform's.
const resolved = Promise.resolve();
globalThis.queueMicrotask = (task) => {
  resolved.then(task).catch(reportError);
};

export default class extends WorkerEntrypoint {
  fetch(request) {
    return call(() => fetch(request, this.env, this.ctx));
  }
}

export class Room extends DurableObject {
  #rust;
  #instanceId;

  constructor(ctx, env) {
    super(ctx, env);
    try {
      this.#current();
    } catch (error) {
      state.criticalError = true;
      throw error;
    }
  }

  fetch(request) {
    return call(() => this.#current().fetch(request));
  }

  alarm() {
    return alarmCall(() => this.#current().alarm());
  }

  #current() {
    startAnewAfterPanic();
    if (this.#instanceId !== state.instanceId) {
      this.#rust = new RustRoom(this.ctx, this.env);
      this.#instanceId = state.instanceId;
    }
    return this.#rust;
  }
}

async function call(rust) {
  startAnewAfterPanic();
  try {
    return await rust();
  } catch (error) {
    noticeTrap(error);
    throw error;
  }
}

// An alarm that was under way in an instance that has panicked would never end: it fails, so that the platform repeats it.
// Requests aren't kept here: after their clients have disconnected, nothing would take them out again, and the platform
// itself ends those that hang.
async function alarmCall(rust) {
  let fail;
  const panicked = new Promise((_, reject) => (fail = reject));
  underWay.add(fail);
  try {
    return await Promise.race([call(rust), panicked]);
  } finally {
    underWay.delete(fail);
  }
}

function startAnewAfterPanic() {
  if (state.criticalError) {
    console.log("Reinitializing Wasm application");
    __wbg_reset_state();
    state.criticalError = false;
    state.instanceId++;
  }
}

function noticeTrap(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    console.error("Critical", error);
    state.criticalError = true;
  }
}
