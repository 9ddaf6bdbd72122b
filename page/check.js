// The check: what a browser can find out about a homeserver, this service and its SFU, without a login.

import { judge } from "./announcement.js";
import { deployment } from "./deployment.js";
import { shown } from "./dom.js";
import { Failed, readTransports, readVersions, readWellKnown } from "./homeserver.js";
import { NoAnswer, ask, remedyFor, urlIn, wordsFor } from "./http.js";

export async function check(results, server) {
  const { base, foci } = await readWellKnown(results, server);
  const announcements = foci === undefined ? [] : [{ where: "the well-known file", entries: foci }];
  let mayHaveMore = false;
  try {
    await readVersions(results, base);
    const { lists, takesLogin } = await readTransports(results, base);
    announcements.push(...lists);
    mayHaveMore = takesLogin;
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
  }
  const entry = judge(results, announcements, mayHaveMore);
  const service = entry?.livekit_service_url.replace(/\/+$/, "") ?? deployment.service;
  await checkService(results, service);
  await checkSfu(results, service === deployment.service ? deployment.sfu : entry?.url);
}

// Sends empty requests, whose errors must be readable for pages of other origins.
async function checkService(results, service) {
  const step = results.step(`The service at ${shown(service)}`);
  const isHere = service === deployment.service;
  for (const path of ["get_token", "sfu/get", "delegate_delayed_leave"]) {
    const url = `${service}/${path}`;
    step.waiting(`Asking ${path}…`);
    try {
      if (isHere) {
        const preflight = await ask(url, { method: "OPTIONS" });
        if (preflight.status !== 200 || !allowsAll(preflight)) {
          return step.problem(
            `A preflight (OPTIONS) of ${path} is answered with status ${preflight.status}, and doesn’t allow pages of other origins.`,
            PROXY,
          );
        }
      }
      const answer = await ask(url, { method: "POST", body: {} });
      const { status, json } = answer;
      if (status === 503 && Array.isArray(json?.variables)) {
        return step.problem(
          `It is misconfigured: ${shown(json.variables.map(shown).join(", "))}.`,
          "Its log says what is wrong with these variables.",
        );
      }
      if (status === 429)
        return step.warning("It has had too many requests from this address.", "Try again in a minute.");
      if (status !== 400 || json?.errcode !== "M_BAD_JSON") {
        return step.problem(
          `An empty request to ${path} is answered with status ${status} and ${shown(json?.errcode ?? "no JSON of this service")}, in place of 400 M_BAD_JSON.`,
          PROXY,
        );
      }
      if (isHere && !allowsAll(answer)) {
        return step.problem(`Errors of ${path} have no Access-Control-Allow-Origin: *, or two of them.`, PROXY);
      }
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      return step.problem(
        `${url} is ${wordsFor(error)}.`,
        remedyFor(error, "the service’s answers, or let the proxy pass on those that it has"),
      );
    }
  }
  step.fine("All three endpoints answer as they should, with errors that browsers can read.");
}

const allowsAll = ({ headers }) => headers.get("Access-Control-Allow-Origin") === "*";
const PROXY =
  "A proxy in front of it changes the request or the answer. Let it pass on every method, path and header below this address, and add no CORS headers of its own.";

// Asks the SFU to validate no token, by the path that stands beside its WebSocket.
async function checkSfu(results, sfu) {
  const step = results.step("The SFU");
  if (sfu === undefined) return step.warning("Its address isn’t known without a token.", "The test call gets one.");
  const url = urlIn(sfu);
  if (!/^(ws|http)s?:$/.test(url?.protocol)) {
    return step.problem(
      `Its address is ${shown(sfu)}, which is no wss:// URL.`,
      "Correct the announcement’s url, or LIVEKIT_URL.",
    );
  }
  if (location.protocol === "https:" && /^(ws|http):$/.test(url.protocol)) {
    return step.problem(
      `Its address is ${shown(sfu)}, without TLS.`,
      "Give the SFU a certificate, and write wss:// in LIVEKIT_URL: browsers don’t let pages under https:// connect without TLS.",
    );
  }
  const base = url.href.replace(/^ws/, "http").replace(/\/+$/, "");
  try {
    const newer = await ask(`${base}/rtc/v1/validate`);
    const { status } = newer.status === 404 ? await ask(`${base}/rtc/validate`) : newer;
    if (status !== 401) {
      step.problem(
        `${shown(sfu)} answers with status ${status}, and not as LiveKit does.`,
        "Check LIVEKIT_URL, and that a proxy in front of the SFU passes on /rtc with all that is below it.",
      );
    } else if (newer.status === 404) {
      step.warning(
        `${shown(sfu)} answers, without /rtc/v1: LiveKit before 1.9.10, or a proxy that lets only some paths through.`,
        "Newer clients try /rtc/v1 first, and lose time. Update LiveKit, or let the proxy pass on /rtc with all that is below it.",
      );
    } else {
      await checkWebSocket(step, base.replace(/^http/, "ws"));
    }
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    step.problem(`${shown(sfu)} is ${wordsFor(error)}.`, remedyFor(error, "the SFU"));
  }
}

// Opens its WebSocket without a token: refused at once is as it should be. The browser doesn’t tell why it was refused.
async function checkWebSocket(step, sfu) {
  step.waiting("Opening its WebSocket…");
  const socket = new WebSocket(`${sfu}/rtc/v1`);
  const ended = new Promise((resolve) => (socket.onerror = socket.onclose = socket.onopen = () => resolve(true)));
  const inTime = await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 10_000, false))]);
  socket.close();
  if (inTime) step.fine(`${shown(sfu)} answers as LiveKit does. The test call shows whether its media gets through.`);
  else
    step.problem(
      `${shown(sfu)} doesn’t answer a WebSocket within ten seconds.`,
      "Let the proxy in front of the SFU pass on WebSockets (the headers Upgrade and Connection).",
    );
}
