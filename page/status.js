// What goes on in the rooms, for the operator, who has a signed link to this page.

import { deployment } from "./deployment.js";
import { byId, element, shown } from "./dom.js";
import { NoAnswer, ask, wordsFor } from "./http.js";

export const isStatusPage = /\/status\/*$/.test(location.pathname);

export function showStatusPage() {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== "status";
  // What is behind # is in the history, but need not be in the address bar, or in a picture of it.
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  byId("status-form").addEventListener("submit", (event) => {
    event.preventDefault();
    show(token, byId("status-users").checked);
  });
  if (token) show(token, false);
  else say("problem", "This page needs a link that is signed with the API key: run `cargo xtask status`, or `matrixrtc-edge status`, with this service’s address.");
}

async function show(token, withUsers) {
  const start = byId("status-form").querySelector("button");
  start.disabled = true;
  byId("status-rooms").replaceChildren();
  say("waiting", "Asking the rooms…");
  try {
    await showPages(token, withUsers);
  } catch (error) {
    say("problem", error instanceof NoAnswer ? `The service is ${wordsFor(error)}.` : `The service’s answer can’t be read: ${error}`);
  } finally {
    start.disabled = false;
  }
}

async function showPages(token, withUsers) {
  let after;
  let listed = 0;
  let idle = 0;
  do {
    const query = new URLSearchParams({ ...(withUsers && { users: "true" }), ...(after !== undefined && { after }) });
    const { status, json } = await ask(`${deployment.service}/status?${query}`, { token, patience: 30_000 });
    if (status === 401) return say("problem", "The link is out of date: each is valid for ten minutes. Make another one.");
    if (status !== 200 || !Array.isArray(json?.rooms)) return say("problem", `The service answers with status ${status}: its log says why.`);
    for (const room of json.rooms) {
      if (isIdle(room)) idle += 1;
      else byId("status-rooms").append(roomItem(room, json.at));
      listed += 1;
    }
    const sfu = json.sfu_error ? `The SFU doesn’t list its rooms: ${shown(json.sfu_error)}. ` : "";
    const counts = `${counted(listed - idle, "room")} with leaves or participants to look after, ${idle} without; ${json.sfu_rooms} on the SFU.`;
    say(sfu ? "problem" : "fine", sfu + counts);
    after = json.next ?? undefined;
  } while (after !== undefined && listed < MOST_ROOMS);
}

const none = (counts) => Object.values(counts ?? {}).every((count) => count === 0);
const isIdle = ({ state, error }) => !error && none(state?.delegations) && none(state?.participants);

function roomItem({ room, on_sfu, state, error, latest_failure }, at) {
  const lines = [element("p", {}, element("strong", {}, shown(room)), on_sfu ? "" : ", which the SFU doesn’t have any more")];
  if (error) lines.push(element("p", { class: "remedy" }, shown(error)));
  const counts = (what, states) => Object.entries(states ?? {}).filter(([, count]) => count > 0).map(([name, count]) => `${counted(count, what)} ${name}`);
  const all = [...counts("leave", state?.delegations), ...counts("participant", state?.participants)];
  if (all.length) lines.push(element("p", {}, all.join(", ")));
  for (const leave of state?.first_delegations ?? []) {
    const { homeserver, due, failures, user } = leave;
    const tries = failures ? `, ${counted(failures, "failure")} running` : "";
    lines.push(element("p", { class: "aside" }, shown(`${user ? `${user}, ` : ""}${homeserver}: ${leave.state}, next due ${when(due, at)}${tries}`)));
  }
  if (state?.users?.length) lines.push(element("p", { class: "aside" }, shown(`participants: ${state.users.join(", ")}`)));
  if (latest_failure) {
    const { what, cause, homeserver } = latest_failure;
    lines.push(element("p", { class: "remedy" }, shown(`${when(latest_failure.at, at)}: ${what}${homeserver ? ` (${homeserver})` : ""}: ${cause}`)));
  }
  const item = element("li", {}, element("span", { class: "mark", "aria-hidden": "true" }, "•"), element("div", {}, ...lines));
  item.dataset.state = latest_failure || error ? "warning" : "fine";
  return item;
}

function when(time, at) {
  const seconds = Math.round((time - at) / 1000);
  const long = Math.abs(seconds);
  const span = long < 120 ? `${long} s` : `${Math.round(long / 60)} min`;
  return seconds < 0 ? `${span} ago` : `in ${span}`;
}

const counted = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;

function say(state, text) {
  byId("status-summary").dataset.state = state;
  byId("status-summary").textContent = text;
}

const MOST_ROOMS = 400;
