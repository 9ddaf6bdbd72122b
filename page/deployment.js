// This deployment: what the worker has put into the page, its health, and the announcement that it waits for.

import { byId, copies, shown } from "./dom.js";
import { ask } from "./http.js";

const described = (() => {
  try {
    return JSON.parse(byId("deployment").textContent);
  } catch {
    return {};
  }
})();

export const deployment = {
  version: described.version,
  // The SFU's URL; missing where the deployment is misconfigured.
  sfu: described.sfu,
  // In homeserver mode, the name of the homeserver.
  homeserver: described.homeserver ?? undefined,
  // Whether users must be joined to a real room.
  membership: described.membership === true,
  // This page's own address: any prefix, with or without a slash at its end, and without the operator's part.
  service: location.origin + location.pathname.replace(/(\/status)?\/*$/, ""),
};

// The entry to announce; in homeserver mode with the SFU's URL beside.
export function announcedEntry() {
  const { service, sfu, homeserver } = deployment;
  return { type: "livekit", ...(homeserver && { url: sfu }), livekit_service_url: service };
}

export async function showHealth() {
  const health = byId("health");
  const show = (state, text) => {
    health.dataset.state = state;
    health.textContent = text;
  };
  try {
    const { status, json } = await ask(`${deployment.service}/healthz`);
    if (status === 200 && json?.status === "ok") {
      show("fine", deployment.homeserver ? `Healthy, in homeserver mode for ${deployment.homeserver}` : "Healthy");
    } else if (status === 503 && Array.isArray(json?.variables)) {
      show(
        "problem",
        `Misconfigured. Wrong or missing: ${shown(json.variables.map(shown).join(", "))}. The log says what is wrong.`,
      );
    } else {
      show(
        "problem",
        `Not healthy: ${deployment.service}/healthz answers with status ${status}. Does a proxy in front of it let every path through?`,
      );
    }
  } catch {
    show("problem", "Not healthy: it doesn’t answer.");
  }
}

export function showAnnouncement() {
  const entry = announcedEntry();
  showServer(deployment.homeserver);
  byId("well-known").textContent = JSON.stringify({ "org.matrix.msc4143.rtc_foci": [entry] }, null, 2);
  const keys = Object.entries(entry).map(([key, value], n) => `${n ? "  " : "- "}${key}: ${value}`);
  byId("transports").textContent = [
    "experimental_features:",
    "  msc4143_enabled: true",
    "matrix_rtc:",
    "  transports:",
    ...keys.map((line) => `    ${line}`),
  ].join("\n");
  for (const button of document.querySelectorAll("[data-copies]")) {
    copies(button, () => byId(button.dataset.copies).textContent);
  }
  byId("version").textContent = `matrixrtc-edge ${deployment.version ?? ""}`;
}

// Fills in the server name, once it is known.
export function showServer(name = "example.com") {
  byId("well-known-title").replaceChildren(
    "The file ",
    code(`https://${name}/.well-known/matrix/client`),
    ", with ",
    code("Access-Control-Allow-Origin: *"),
  );
}

function code(text) {
  const made = document.createElement("code");
  made.textContent = text;
  return made;
}
