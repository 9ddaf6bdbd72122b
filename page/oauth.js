// A login at the homeserver's own login page: OAuth 2.0 as Matrix has it, with a registration of this page, an
// authorization code and PKCE.
//
// The browser leaves the page meanwhile. What has to outlast that is kept in the tab's session storage, and there is no
// token among it. The code comes back behind the address's `#`, which no server gets to see.

import { deployment } from "./deployment.js";
import { keepSecret, shown } from "./dom.js";
import { Failed } from "./homeserver.js";
import { ask, urlIn } from "./http.js";
import { SESSION_NAME, User, answered, ended } from "./user.js";

const KEPT = "matrixrtc-edge-login";

// Goes to the login page. The promise never resolves, unless that fails.
export async function goToLoginPage(results, server, base) {
  const step = results.step("The homeserver’s login page");
  const fail = (detail) => {
    step.problem(detail, "Choose a password or an access token.");
    throw new Failed();
  };
  if (!crypto.subtle) fail("This page has no TLS, and without it browsers offer no cryptography.");
  const stable = await answered(step, "the homeserver’s answers", ask(`${base}/_matrix/client/v1/auth_metadata`));
  const isStable = stable.status === 200;
  const found = isStable
    ? stable
    : await answered(
        step,
        "the homeserver’s answers",
        ask(`${base}/_matrix/client/unstable/org.matrix.msc2965/auth_metadata`),
      );
  const metadata = found.json;
  const endpoints = ["registration_endpoint", "authorization_endpoint", "token_endpoint", "revocation_endpoint"];
  if (found.status !== 200 || !endpoints.every((name) => isWebAddress(metadata?.[name]))) {
    fail(`This homeserver has no login by OAuth 2.0 (status ${found.status}).`);
  }
  const home = `${deployment.service}/`;
  const registration = {
    client_name: SESSION_NAME,
    client_uri: home,
    redirect_uris: [home],
    response_types: ["code"],
    grant_types: ["authorization_code"],
    token_endpoint_auth_method: "none",
    application_type: "web",
  };
  const registered = await answered(
    step,
    "the login server’s answers",
    ask(metadata.registration_endpoint, { method: "POST", body: registration }),
  );
  const client = registered.json?.client_id;
  if (typeof client !== "string")
    fail(
      `The login server doesn’t take this page’s registration: status ${registered.status}, ${shown(registered.json?.error ?? "no error code")}.`,
    );
  const [state, verifier] = [random(), random()];
  sessionStorage.setItem(
    KEPT,
    JSON.stringify({
      server,
      base,
      client,
      state,
      verifier,
      token: metadata.token_endpoint,
      revocation: metadata.revocation_endpoint,
    }),
  );
  const scope = isStable ? "urn:matrix:client" : "urn:matrix:org.matrix.msc2967.client";
  const url = new URL(metadata.authorization_endpoint);
  for (const [name, value] of Object.entries({
    response_type: "code",
    response_mode: "fragment",
    client_id: client,
    redirect_uri: home,
    scope: `${scope}:api:* ${scope}:device:${random()
      .replace(/[^a-z]/gi, "")
      .slice(0, 10)
      .toUpperCase()}`,
    state,
    code_challenge: await challenge(verifier),
    code_challenge_method: "S256",
  }))
    url.searchParams.set(name, value);
  step.waiting(`Going to ${url.host}…`);
  location.assign(url);
  return new Promise(() => {});
}

// Returns the server of a login that the browser has just come back from, and a function that completes it.
export function returned() {
  const answer = new URLSearchParams(location.hash.slice(1));
  const kept = sessionStorage.getItem(KEPT);
  if (kept === null || !answer.has("state")) return undefined;
  sessionStorage.removeItem(KEPT);
  history.replaceState(null, "", location.pathname);
  const login = JSON.parse(kept);
  return { server: login.server, complete: (results) => complete(results, login, answer) };
}

async function complete(results, login, answer) {
  const step = results.step("Login");
  const fail = (detail) => {
    step.problem(detail, "Start again, or choose an access token.");
    throw new Failed();
  };
  const code = answer.get("code");
  if (answer.get("state") !== login.state) fail("The answer of the login page belongs to another login.");
  if (code === null) fail(`The login page refuses: ${shown(answer.get("error") ?? "no code")}.`);
  const form = {
    grant_type: "authorization_code",
    code: keepSecret(code),
    redirect_uri: `${deployment.service}/`,
    client_id: login.client,
    code_verifier: keepSecret(login.verifier),
  };
  const { status, json } = await answered(
    step,
    "the login server’s answers",
    ask(login.token, { method: "POST", form }),
  );
  if (status !== 200 || typeof json?.access_token !== "string") {
    fail(`The login server gives no token: status ${status}, ${shown(json?.error ?? "no error code")}.`);
  }
  const token = keepSecret(json.access_token);
  step.fine("The page is logged in, until the end of the test.");
  const revocation = { token, token_type_hint: "access_token", client_id: login.client };
  return new User(login.base, token, () =>
    ended(ask(login.revocation, { method: "POST", form: revocation, keepalive: true })),
  );
}

const isWebAddress = (value) => ["https:", location.protocol].includes(urlIn(value)?.protocol);
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const challenge = async (verifier) =>
  base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
