// The user for whom the test call is made: what the page asks of the homeserver with their access token.

import { deployment } from "./deployment.js";
import { keepSecret, shown } from "./dom.js";
import { Failed } from "./homeserver.js";
import { NoAnswer, ask, remedyFor, wordsFor } from "./http.js";

export class User {
  #base;
  #token;
  #end;

  // `end` is called at last where the login is the page's own.
  constructor(base, token, end) {
    [this.#base, this.#token, this.#end] = [base, token, end];
  }

  get token() {
    return this.#token;
  }

  // A request of the client-server API with the user's token.
  request(path, options = {}) {
    return ask(`${this.#base}/_matrix/client/${path}`, { ...options, token: this.#token });
  }

  // Asks whose token it is.
  async identify(results) {
    const step = results.step("Your account");
    const { status, json } = await answered(step, "the homeserver’s answers", this.request("v3/account/whoami"));
    if (status === 401) {
      step.problem(
        `The homeserver refuses the access token (${shown(json?.errcode ?? "401")}).`,
        "It has expired, or its session has been logged out. Get a new one: in Element below Settings, Help & About; or log in with this page.",
      );
      throw new Failed();
    }
    if (status !== 200 || typeof json?.user_id !== "string") {
      step.problem(
        `The homeserver answers whoami with status ${status} and ${shown(json?.errcode ?? "no user")}.`,
        "Check that the server name is that of the account.",
      );
      throw new Failed();
    }
    this.id = json.user_id;
    this.device = typeof json.device_id === "string" ? json.device_id : "TESTCALL";
    this.server = this.id.slice(this.id.indexOf(":") + 1);
    step.fine(`You are ${shown(this.id)}.`);
  }

  // Requests an OpenID token, with which the service verifies who the user is.
  async openidToken(results) {
    const step = results.step("An OpenID token of the homeserver");
    const path = `v3/user/${encodeURIComponent(this.id)}/openid/request_token`;
    const { status, json } = await answered(
      step,
      "the homeserver’s answers",
      this.request(path, { method: "POST", body: {} }),
    );
    if (status !== 200 || typeof json?.access_token !== "string") {
      step.problem(
        `It gives none: status ${status}, ${shown(json?.errcode ?? "no error code")}.`,
        "Without it the service can’t verify anybody. Guests get none; a proxy may keep the path from the homeserver.",
      );
      throw new Failed();
    }
    keepSecret(json.access_token);
    if (json.matrix_server_name !== this.server) {
      step.warning(
        `It names ${shown(json.matrix_server_name)}, and your user id ${shown(this.server)}.`,
        "Both must be the same, or the service refuses the token.",
      );
    } else {
      step.fine("The homeserver gives one.");
    }
    return json;
  }

  // Makes a room for the test, which nobody else is in.
  async createRoom(results) {
    const step = results.step("A private room for the test");
    const body = { preset: "private_chat", name: "Test call", creation_content: { "m.federate": false } };
    const { status, json } = await answered(
      step,
      "the homeserver’s answers",
      this.request("v3/createRoom", { method: "POST", body }),
    );
    if (status !== 200 || typeof json?.room_id !== "string") {
      step.problem(
        `The homeserver makes none: status ${status}, ${shown(json?.errcode ?? "no error code")}.`,
        "Use an account that may create rooms, or wait where there were too many requests.",
      );
      throw new Failed();
    }
    step.fine("It is there, and is left and forgotten at the end.");
    return json.room_id;
  }

  // Leaves the room and ends the page's own login while the page is closed, which receives no answer any more.
  abandon(roomId) {
    if (roomId !== undefined) this.#depart(roomId, "leave").catch(() => {});
    this.#end?.().catch(() => {});
  }

  // Leaves and forgets the room, and ends the page's own login.
  async tidyUp(results, roomId) {
    if (roomId === undefined && this.#end === undefined) return;
    const step = results.step("Tidying up");
    const done = [];
    try {
      if (roomId !== undefined) {
        for (const action of ["leave", "forget"]) {
          const { status } = await this.#depart(roomId, action);
          if (status !== 200) throw new Error(`${action} is answered with status ${status}`);
        }
        done.push("The room is left and forgotten.");
      }
      if (this.#end !== undefined) {
        await this.#end();
        done.push("The page is logged out.");
      }
      step.fine(done.join(" "));
    } catch (error) {
      step.warning(
        `It didn’t work: ${error instanceof NoAnswer ? wordsFor(error) : shown(error.message)}.`,
        "Leave the room “Test call”, and end the session “Test call”, in your client.",
      );
    }
  }

  #depart(roomId, action) {
    const path = `v3/rooms/${encodeURIComponent(roomId)}/${action}`;
    return this.request(path, { method: "POST", body: {}, keepalive: true });
  }
}

// Waits for an answer, and lets the step fail where there is none.
export async function answered(step, what, asked) {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    step.problem(`It is ${wordsFor(error)}.`, remedyFor(error, what));
    throw new Failed();
  }
}

export const SESSION_NAME = "Test call";

// Logs in with a password.
export async function logIn(results, base, name, password) {
  const step = results.step("Login");
  keepSecret(password);
  const body = {
    type: "m.login.password",
    identifier: { type: "m.id.user", user: name },
    password,
    initial_device_display_name: `${SESSION_NAME}, ${new URL(deployment.service).host}`,
  };
  const url = `${base}/_matrix/client/v3/login`;
  const { status, json } = await answered(step, "the homeserver’s answers", ask(url, { method: "POST", body }));
  if (status !== 200 || typeof json?.access_token !== "string") {
    const remedy =
      json?.errcode === "M_FORBIDDEN"
        ? "User name or password is wrong."
        : "This homeserver may have no login by password: choose its login page, or an access token.";
    step.problem(`The homeserver refuses: status ${status}, ${shown(json?.errcode ?? "no error code")}.`, remedy);
    throw new Failed();
  }
  const token = keepSecret(json.access_token);
  step.fine("The page is logged in, until the end of the test.");
  return new User(base, token, () =>
    ended(ask(`${base}/_matrix/client/v3/logout`, { method: "POST", body: {}, token, keepalive: true })),
  );
}

// Checks that a login has ended.
export async function ended(request) {
  const { status } = await request;
  if (status !== 200) throw new Error(`the logout is answered with status ${status}`);
}
