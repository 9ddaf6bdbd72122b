// The page for people. `README.md` and docs/guides/troubleshooting.md say what it is for.

import { Stopped, testCall } from "./call.js";
import { check } from "./check.js";
import { deployment, showAnnouncement, showHealth, showServer } from "./deployment.js";
import { Results, byId, copies, keepSecret } from "./dom.js";
import { Failed, readVersions, readWellKnown, serverName } from "./homeserver.js";
import { goToLoginPage, returned } from "./oauth.js";
import { isStatusPage, showStatusPage } from "./status.js";
import { User, logIn } from "./user.js";

// Runs what a form starts, once at a time, with a button that copies its outcome.
function runs(title, form, list, copyButton, run) {
  let results;
  copies(copyButton, () => results.text());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const start = form.querySelector("button:not([type])");
    if (start.disabled) return;
    start.disabled = true;
    copyButton.hidden = true;
    results = new Results(`${title} by the page of ${deployment.service} (matrixrtc-edge ${deployment.version})`, list);
    try {
      await run(results);
    } catch (error) {
      if (error instanceof Stopped) results.step("The end").warning("You have stopped it.");
      else if (!(error instanceof Failed)) {
        results.step("This page").problem(`It has a fault: ${error}`, "Please report it, with the outcome below.");
      }
    }
    results.close();
    copyButton.hidden = false;
    start.disabled = false;
  });
}

// Returns the server name that is typed in, or says that it is none.
function typedName(input) {
  const name = serverName(input.value);
  input.setCustomValidity(name === undefined ? "A server name looks like example.com or example.com:8448" : "");
  input.reportValidity();
  if (name !== undefined) showServer(name);
  return name;
}

showAnnouncement();
showHealth();
if (isStatusPage) showStatusPage();

const names = [byId("check-server"), byId("call-server")];
for (const input of names) {
  input.value = deployment.homeserver ?? "";
  input.addEventListener("input", () => {
    input.setCustomValidity("");
    // The other field follows, as long as nothing else has been typed there.
    const other = names.find((it) => it !== input);
    if (!other.dataset.typed) other.value = input.value;
    input.dataset.typed = "true";
  });
}

runs("Check", byId("check"), byId("check-results"), byId("check-copy"), async (results) => {
  const name = typedName(names[0]);
  if (name !== undefined) await check(results, name);
});

const callForm = byId("call");
const stop = byId("call-stop");
const chosen = () => callForm.elements.login.value;
// A login at the homeserver's page that the browser has come back from.
let login = returned();

function showFields() {
  for (const fields of callForm.querySelectorAll("[data-for]")) fields.hidden = fields.dataset.for !== chosen();
  for (const id of ["call-token", "call-user", "call-password"]) byId(id).required = !byId(id).closest("[hidden]");
}
callForm.addEventListener("change", showFields);
callForm.querySelector("[data-for-membership]").hidden = !deployment.membership;
if (login !== undefined) {
  names[1].value = login.server;
  callForm.elements.login.value = "oauth";
  byId("call-start").textContent = "Logged in: start the test call";
  byId("call-start").focus();
}
showFields();

runs("Test call", callForm, byId("call-results"), byId("call-copy"), async (results) => {
  const name = typedName(names[1]);
  if (name === undefined) return;
  const stopped = new AbortController();
  stop.onclick = () => stopped.abort();
  stop.hidden = false;
  try {
    const { base, foci } = await readWellKnown(results, name);
    await readVersions(results, base);
    const user = await userOf(results, name, base);
    await testCall(results, user, base, foci, stopped.signal);
  } finally {
    stop.hidden = true;
  }
});

async function userOf(results, server, base) {
  switch (chosen()) {
    case "token":
      return new User(base, keepSecret(byId("call-token").value.trim()));
    case "password": {
      const password = byId("call-password").value;
      byId("call-password").value = "";
      return logIn(results, base, byId("call-user").value.trim(), password);
    }
    default: {
      if (login?.server !== server) return goToLoginPage(results, server, base);
      const { complete } = login;
      login = undefined;
      byId("call-start").textContent = "Start the test call";
      return complete(results);
    }
  }
}
