// A homeserver, as a browser finds it: its well-known file, its client-server API, and what it announces.

import { shown } from "./dom.js";
import { NoAnswer, ask, remedyFor, urlIn, wordsFor } from "./http.js";

// Returns the server name in what was typed in: a name, a user id, or a URL.
export function serverName(typed) {
  const text = typed
    .trim()
    .replace(/^https?:\/\//i, "")
    .replace(/\/.*$/s, "");
  const name = text.startsWith("@") ? text.slice(text.indexOf(":") + 1) : text;
  const isName = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?$/i.test(name) && urlIn(`https://${name}`);
  return isName ? name.toLowerCase() : undefined;
}

// A step fails with it after it has said why.
export class Failed extends Error {}

// Reads the well-known file: returns the base of the client-server API, and the file's announcement.
export async function readWellKnown(results, server) {
  const step = results.step("The file .well-known/matrix/client");
  const host = server.replace(/:\d+$/, "");
  const byName = { base: `https://${host}`, foci: undefined };
  let found = await fileAt(server);
  // The specification has it at the host, without the port of the server name.
  if (found.json === undefined && host !== server) {
    const atHost = await fileAt(host);
    if (atHost.json !== undefined) found = atHost;
  }
  const { json, complain } = found;
  if (json === undefined) {
    complain(step);
    return byName;
  }
  const foci = json["org.matrix.msc4143.rtc_foci"];
  const given = json["m.homeserver"]?.base_url;
  const base = given === undefined ? byName.base : baseOf(given);
  if (base === undefined) {
    step.problem(
      `Its m.homeserver.base_url is ${shown(given)}, which is no https:// URL.`,
      "Write the URL of the homeserver’s client-server API there.",
    );
    return { base: byName.base, foci };
  }
  const without = given === undefined ? ", without m.homeserver.base_url" : "";
  step.fine(`It can be read${without}. The homeserver is ${shown(base)}.`);
  return { base, foci };
}

// Returns the file that an authority has, or a function that says in a step why there is none.
async function fileAt(authority) {
  const url = `https://${authority}/.well-known/matrix/client`;
  let answer;
  try {
    answer = await ask(url);
  } catch (error) {
    return { complain: (step) => step.problem(`${url} is ${wordsFor(error)}.`, remedyFor(error, "the file")) };
  }
  const { status, json } = answer;
  if (status === 200 && json !== null && typeof json === "object") return { json };
  if (status === 404)
    return {
      complain: (step) =>
        step.warning(
          `There is none: ${url} answers 404.`,
          "Older clients, Element Web and Element X look for the announcement there. Serve the file, with the entry above.",
        ),
    };
  return {
    complain: (step) =>
      step.problem(
        `${url} answers with status ${status}, and not with JSON.`,
        "Serve the file as JSON, directly at this address and without a redirect to a page.",
      ),
  };
}

function baseOf(given) {
  const url = urlIn(given);
  return ["https:", location.protocol].includes(url?.protocol) ? url.href.replace(/\/+$/, "") : undefined;
}

// Finds out whether the client-server API is there, and speaks to browsers.
export async function readVersions(results, base) {
  const step = results.step("The homeserver’s client-server API");
  const url = `${base}/_matrix/client/versions`;
  try {
    const { status, json } = await ask(url);
    if (status === 200 && Array.isArray(json?.versions)) {
      step.fine(`${url} answers.`);
      return;
    }
    step.problem(
      `${url} answers with status ${status}, and not as a homeserver does.`,
      "Correct m.homeserver.base_url in the well-known file, or the proxy in front of the homeserver.",
    );
  } catch (error) {
    step.problem(`${url} is ${wordsFor(error)}.`, remedyFor(error, "the homeserver’s answers"));
  }
  throw new Failed();
}

const FORMS = [
  ["unstable/org.matrix.msc4143/rtc/transports", "today’s form"],
  ["v1/rtc/transports", "the form to come"],
];

// Reads the homeserver’s list, in both forms; with a token as the user’s client does. Returns the lists that have entries,
// and whether there is one that takes a login.
export async function readTransports(results, base, token) {
  const lists = [];
  let takesLogin = false;
  for (const [path, form] of FORMS) {
    const step = results.step(`The homeserver’s list, ${form}`);
    const url = `${base}/_matrix/client/${path}`;
    const isToday = path.startsWith("unstable");
    try {
      const { status, json } = await ask(url, { token });
      const list = json?.rtc_transports ?? json?.transports;
      if (status === 401 && token === undefined) {
        takesLogin = true;
        step.fine("It is there, and shows its entries to those who are logged in: the test call reads them.");
      } else if (status === 404 || (status === 400 && json?.errcode === "M_UNRECOGNIZED")) {
        if (isToday)
          step.warning(
            "The homeserver has none (404).",
            "Element Call looks there first, and on its own nowhere else. Switch it on: for Synapse with the settings above.",
          );
        else step.fine("The homeserver has none yet (404), which nobody needs today.");
      } else if (status !== 200) {
        step.problem(
          `It answers with status ${status}, ${shown(json?.errcode ?? "without an error code")}.`,
          "Let the proxy in front of the homeserver pass this path on like its others.",
        );
      } else if (!Array.isArray(list) || list.length === 0) {
        step.problem(
          `It is there, and empty: ${shown(json)}.`,
          "That is worse than none: clients don’t look into the well-known file any more. Add the entry above to the list, or switch the list off.",
        );
      } else {
        step.fine(`It has ${list.length === 1 ? "one entry" : `${list.length} entries`}.`);
        lists.push({ where: `the homeserver’s list, ${form}`, entries: list });
      }
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      if (isToday)
        step.problem(
          `${url} is ${wordsFor(error)}.`,
          remedyFor(error, "this path, for OPTIONS as well: the access token makes browsers send one"),
        );
      else step.fine(`It is ${wordsFor(error)}, and nobody needs it today.`);
    }
  }
  return { lists, takesLogin };
}
