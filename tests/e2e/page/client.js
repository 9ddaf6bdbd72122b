// What a web client does between a Matrix room and its call, order by order: `parts/browser.py` gives the orders.

const { Room, RoomEvent } = LivekitClient;

const room = new Room();
const heard = [];
room.on(RoomEvent.TrackSubscribed, (track, _publication, sender) => {
  // A browser decodes only what something plays.
  document.body.append(track.attach());
  heard.push({ track, sender });
});

const actions = {
  /** Asks the service, which is on another origin. With this content type the browser asks it for permission first. */
  async ask({ url, body }) {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  },

  /** Asks again and again until it is refused for asking too often, `patience` times at most. */
  async insist({ patience, ...request }) {
    let answer = await actions.ask(request);
    for (let asked = 1; answer.status !== 429 && asked < patience; asked++) {
      answer = await actions.ask(request);
    }
    return answer;
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

  /** Waits until another participant is heard, and not merely connected. */
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
