// A web client of Matrix calls, reduced to its requests and its media. It carries out the orders of `parts/browser.py`.

const { Room, RoomEvent } = LivekitClient;

const room = new Room();
const heard = [];
room.on(RoomEvent.TrackSubscribed, (track, _publication, sender) => {
  // A browser decodes only tracks that are attached to an element.
  document.body.append(track.attach());
  heard.push({ track, sender });
});

const actions = {
  /** Sends a request to the service, on another origin. The content type makes the browser send a preflight first. */
  async ask({ url, body }) {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  },

  /** Repeats a request until the status is 429, `patience` times at most. */
  async insist({ patience, ...request }) {
    let response = await actions.ask(request);
    for (let sent = 1; response.status !== 429 && sent < patience; sent++) {
      response = await actions.ask(request);
    }
    return response;
  },

  /** The claims of a token, read as Element Call reads them. */
  claims({ jwt }) {
    return JSON.parse(atob(jwt.split(".")[1]));
  },

  async join({ url, jwt }) {
    await room.connect(url, jwt);
    return { identity: room.localParticipant.identity };
  },

  async speak() {
    await room.localParticipant.setMicrophoneEnabled(true);
  },

  /** Waits for audio of another participant, not merely for its connection. */
  async listen() {
    for (;;) {
      for (const { track, sender } of heard) {
        const stats = [...(await track.getRTCStatsReport()).values()];
        const energy = stats.find(({ type }) => type === "inbound-rtp")?.totalAudioEnergy;
        if (energy > 0) {
          return { sender: sender.identity, energy };
        }
      }
      await new Promise((resume) => setTimeout(resume, 100));
    }
  },

  async leave() {
    await room.disconnect();
  },
};

for (;;) {
  const { action, details } = await (await fetch("order")).json();
  let outcome;
  try {
    outcome = { result: await actions[action](details) };
  } catch (error) {
    outcome = { error: String(error) };
  }
  await fetch("outcome", { method: "POST", body: JSON.stringify(outcome) });
}
