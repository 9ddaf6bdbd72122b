// What a homeserver announces, beside what it should.

import { deployment } from "./deployment.js";
import { shown } from "./dom.js";
import { urlIn } from "./http.js";

// Judges the announcements that were found, and returns the first entry by which clients find a service.
export function judge(results, announcements, mayHaveMore) {
  let first;
  for (const { where, entries } of announcements) {
    const step = results.step(`The announcement in ${where}`);
    const livekit = Array.isArray(entries) ? entries.filter((it) => TYPES.includes(it?.type)) : [];
    if (livekit.length === 0) {
      const found = Array.isArray(entries) && entries.length > 0 ? `, but ${shown(entries)}` : "";
      step.problem(`It has no entry of the type livekit${found}.`, "Add the entry that is shown above.");
      continue;
    }
    const entry = chosen(livekit);
    if (judged(step, entry, livekit)) first ??= entry;
  }
  if (announcements.length === 0) {
    const step = results.step("The announcement");
    if (mayHaveMore)
      step.warning(
        "The well-known file has none. The test call shows whether the homeserver’s list has one: that takes a login.",
        "Put the entry above into the well-known file, too: older clients, Element Web and Element X read nothing else.",
      );
    else
      step.problem(
        "There is none: clients don’t find this service (MISSING_MATRIX_RTC_FOCUS, MISSING_MATRIX_RTC_TRANSPORT).",
        "Put the two entries above into the well-known file and into the homeserver’s settings.",
      );
  }
  return first;
}

// Returns the entry that clients take. Those of today know one type only, and skip entries without the service's URL, as
// long as they don't know `url`.
function chosen(livekit) {
  const announced = livekit.filter((it) => it.livekit_service_url !== undefined);
  return announced.find((it) => it.type === TODAY) ?? announced[0] ?? livekit[0];
}

// Whether clients can use the entry, which is one of these.
function judged(step, entry, livekit) {
  const { service, homeserver, sfu } = deployment;
  const announced = entry.livekit_service_url;
  if (announced === undefined) {
    if (entry.url !== undefined)
      step.problem(
        `Its entry has only url, ${shown(entry.url)}.`,
        "Add livekit_service_url: all but the newest clients take no entry without it.",
      );
    else step.problem("Its entry has no livekit_service_url.", "Add it, as shown above.");
    return false;
  }
  const url = urlIn(announced);
  if (url === undefined || !["https:", "http:"].includes(url.protocol)) {
    const isSfu = url !== undefined && ["ws:", "wss:"].includes(url.protocol);
    step.problem(
      `Its livekit_service_url is ${shown(announced)}, which is no https:// URL.`,
      isSfu
        ? `${url.protocol}// is for the SFU, whose address clients get with their token. livekit_service_url is this service: ${service}`
        : `Write ${service} there.`,
    );
    return false;
  }
  if (url.protocol === "http:" && !LOOPBACK.test(url.hostname)) {
    step.problem(
      `Its livekit_service_url is ${shown(announced)}, without TLS.`,
      "Use https://: browsers don’t let pages of Element ask an http:// address.",
    );
    return false;
  }
  if (withoutSlash(url.href) !== service) {
    step.warning(
      `It leads to ${shown(announced)}, and this page is at ${service}.`,
      "If that isn’t the same service by another name, clients don’t use this one.",
    );
  } else if (homeserver && entry.url !== undefined && withoutSlash(entry.url) !== withoutSlash(sfu)) {
    step.problem(
      `Its url is ${shown(entry.url)}, and LIVEKIT_URL of this service is ${sfu}.`,
      "Write the same URL in both places: a token for another SFU is refused.",
    );
    return false;
  } else if (entry.type !== TODAY) {
    step.warning(
      `It leads here by the type ${entry.type} only, which clients of today don’t know.`,
      `Add the same entry with the type ${TODAY}.`,
    );
  } else if (livekit.some((it) => it.url !== undefined && it.livekit_service_url === undefined)) {
    step.warning("It leads here, and another entry has url alone.", "Announce both keys in one entry.");
  } else if (homeserver && entry.url === undefined) {
    step.warning(
      "It leads here, without the SFU’s url.",
      `Homeserver mode is used by clients that find both keys: add url, ${sfu}.`,
    );
  } else {
    step.fine("It leads here.");
  }
  return true;
}

const withoutSlash = (url) => (typeof url === "string" ? url.replace(/\/+$/, "") : url);

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;
const TODAY = "livekit";
// The second one is that of MSC4195 as merged.
const TYPES = [TODAY, "m.livekit"];
