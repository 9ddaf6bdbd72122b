// Does in Element Call's page what its user does. It carries out the orders of `parts/element_call.py`.
// It is loaded before Element Call's own scripts, and relies on nothing of theirs but `data-testid`s.

const connections = [];
window.RTCPeerConnection = class extends window.RTCPeerConnection {
  constructor(...args) {
    super(...args);
    connections.push(this);
  }
};

const pause = () => new Promise((resume) => setTimeout(resume, 50));

const element = async (id) => {
  for (;;) {
    const found = document.querySelector(`[data-testid="${id}"]`);
    if (found && !found.disabled) {
      return found;
    }
    await pause();
  }
};

const actions = {
  async fill({ id, value }) {
    const input = await element(id);
    // React doesn't notice a value that isn't set by the prototype's setter.
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, value);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  },

  async click({ id }) {
    (await element(id)).click();
  },

  /** The page's address, once the page is in a room: others join with it. */
  async link() {
    while (!location.hash.includes("roomId=")) {
      await pause();
    }
    return location.href;
  },

  /** Waits until that many others are seen and heard: frames are decoded, and so decrypted. */
  async perceive({ others }) {
    for (;;) {
      const stats = [];
      for (const connection of connections) {
        if (connection.connectionState === "connected") {
          stats.push(...(await connection.getStats()).values());
        }
      }
      const inbound = stats.filter(({ type }) => type === "inbound-rtp");
      const seen = inbound.filter(({ framesDecoded }) => framesDecoded > 0);
      const heard = inbound.filter(({ totalAudioEnergy }) => totalAudioEnergy > 0);
      if (seen.length >= others && heard.length >= others) {
        return {};
      }
      await pause();
    }
  },

  /** The number of participants that the header shows. Not all of them need to have a tile. */
  async participants() {
    return Number((await element("roomHeader_participants_count")).innerText);
  },

  async account() {
    const { user_id, device_id, access_token } = JSON.parse(localStorage.getItem("matrix-auth-store"));
    return { user_id, device_id, access_token };
  },

  async go({ url }) {
    setTimeout(() => (location.href = url));
  },

  async reload() {
    setTimeout(() => location.reload());
  },
};

const obey = async () => {
  for (;;) {
    const { action, details } = await (await fetch("/order")).json();
    let outcome;
    try {
      outcome = { result: await actions[action](details) };
    } catch (error) {
      outcome = { error: String(error) };
    }
    await fetch("/outcome", { method: "POST", body: JSON.stringify(outcome) });
    // The next page asks for the next order.
    if (action === "go" || action === "reload") {
      return;
    }
  }
};
obey();
