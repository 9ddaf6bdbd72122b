// LiveKit tokens for the test call: from the service itself, and in homeserver mode through the homeserver.

import { deployment } from "./deployment.js";
import { keepSecret, shown } from "./dom.js";
import { Failed } from "./homeserver.js";
import { ask, urlIn } from "./http.js";
import { answered } from "./user.js";

const SLOT = "m.call#ROOM";
const FORMS = ["unstable/io.element.msc4195", "v1"];

// Requests a token of the service, as most clients do.
export async function fromService(results, user, openid, roomId, member) {
  const step = results.step(`A LiveKit token of the service, for the ${member}`);
  const body = {
    room_id: roomId,
    slot_id: SLOT,
    openid_token: openid,
    member: { id: member, claimed_user_id: user.id, claimed_device_id: user.device },
  };
  const what = "the service’s answers, or let the proxy pass on those that it has";
  const asked = ask(`${deployment.service}/get_token`, { method: "POST", body, patience: 14_000 });
  return granted(results, step, await answered(step, what, asked), user);
}

// Requests a token through the homeserver; returns none where it doesn't know how.
export async function fromHomeserver(results, user, roomId, member) {
  const step = results.step(`A LiveKit token through the homeserver, for the ${member}`);
  const body = { room_id: roomId, slot_id: SLOT, member_id: member, url: deployment.sfu };
  for (const form of FORMS) {
    const asked = user.request(`${form}/rtc/livekit/get_token`, { method: "POST", body, patience: 14_000 });
    const answer = await answered(step, "the homeserver’s answers", asked);
    if (answer.status === 404) continue;
    return granted(results, step, answer, user);
  }
  step.problem(
    "The homeserver doesn’t pass the request on (404).",
    "Clients fall back to the service itself. The registration file must be among the homeserver’s app_service_config_files, with its proxy_prefix and proxy_url, and Synapse restarted.",
  );
  return undefined;
}

function granted(results, step, { status, json }, user) {
  const url = json?.url ?? deployment.sfu;
  if (status === 200 && typeof json?.jwt === "string" && urlIn(url)) {
    keepSecret(json.jwt);
    const video = claims(json.jwt)?.video;
    if (video?.canPublish === false) {
      step.warning(
        "It gives one, with which you may listen only.",
        "Users of your homeserver may not publish here: LIVEKIT_RESTRICTED_CAN_PUBLISH, or LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS.",
      );
    } else {
      step.fine("It gives one.");
    }
    return { url, jwt: json.jwt };
  }
  step.problem(
    `It gives none: status ${status}, ${shown(json?.errcode ?? "not an answer of this service")}, ${shown(json?.error ?? "no text")}`,
    remedy(status, user),
  );
  throw new Failed();
}

function remedy(status, user) {
  switch (status) {
    case 401:
      return `The service could not verify the OpenID token with ${user.server}. It asks that homeserver’s federation API, at its /_matrix/federation/v1/openid/userinfo, which must be reachable from where the service runs. Its log has the cause.`;
    case 403:
      return "The service may be for other homeservers only (LIVEKIT_ALLOWED_HOMESERVERS), or its homeserver doesn’t know you as a member of the room.";
    case 429:
      return "Too many requests: try again in a minute.";
    case 500:
      return "The service could not create the room on the SFU. Check that the SFU runs, LIVEKIT_URL, LIVEKIT_KEY and LIVEKIT_SECRET. Its log has the cause.";
    case 502:
      return "The homeserver did not tell the service who is in the room, or a proxy could not reach the service. The log has the cause.";
    case 503:
      return "The service is misconfigured, or its homeserver is out of reach. Its log has the cause.";
    default:
      return "Check the address in the announcement, and what a proxy in front of the service does with it.";
  }
}

function claims(jwt) {
  try {
    return JSON.parse(atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return undefined;
  }
}
