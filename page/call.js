// The test call: this browser joins a call twice, and one side hears the tone that the other one plays.

import { judge } from "./announcement.js";
import { deployment } from "./deployment.js";
import { shown } from "./dom.js";
import { fromHomeserver, fromService } from "./grant.js";
import { Failed, readTransports } from "./homeserver.js";
import {
  TONE_HZ,
  ear,
  inbound,
  judgeLoss,
  judgePath,
  judgeRoundTrip,
  measure,
  offered,
  selectedPair,
  watchConnections,
} from "./media.js";

// The ends of all that begins with the call; they come in the reverse order.
class Ends {
  #all = [];
  add(end) {
    this.#all.push(end);
  }
  async run() {
    for (const end of this.#all.reverse()) await end();
    this.#all = [];
  }
}

export class Stopped extends Failed {}

// Makes the call for a user. `foci` is the well-known file's announcement.
export async function testCall(results, user, base, foci, signal) {
  const ends = new Ends();
  const stopping = () => {
    if (signal.aborted) throw new Stopped();
  };
  // LiveKit's client leaves the call by itself.
  const closing = () => user.abandon(roomId);
  addEventListener("pagehide", closing);
  let roomId;
  ends.add(() => user.tidyUp(results, roomId));
  try {
    await user.identify(results);
    const announcements = foci === undefined ? [] : [{ where: "the well-known file", entries: foci }];
    announcements.push(...(await readTransports(results, base, user.token)).lists);
    judge(results, announcements, false);
    stopping();
    if (deployment.membership && user.server !== deployment.homeserver) {
      results
        .step("The room for the test")
        .problem(
          `Users must be in the Matrix room, as ${deployment.homeserver} knows it, and you are a user of ${shown(user.server)}.`,
          `Make the test call with an account of ${deployment.homeserver}.`,
        );
      return;
    }
    const needsRoom = deployment.membership || user.server === deployment.homeserver;
    roomId = needsRoom ? await user.createRoom(results) : undefined;
    stopping();
    const grants = await tokens(
      results,
      user,
      roomId ?? `!test-call-${crypto.getRandomValues(new Uint32Array(4)).join("")}:${user.server}`,
    );
    stopping();
    const livekit = await loadLivekit(results, ends);
    stopping();
    await talk(results, livekit, grants, ends, signal);
  } finally {
    await ends.run();
    removeEventListener("pagehide", closing);
  }
}

// Returns two tokens, for the side that plays and the one that listens. In homeserver mode they come by both ways.
async function tokens(results, user, roomId) {
  const isHome = deployment.homeserver !== undefined && user.server === deployment.homeserver;
  const through = isHome ? await fromHomeserver(results, user, roomId, "player") : undefined;
  const openid = await user.openidToken(results);
  const player = through ?? (await fromService(results, user, openid, roomId, "player"));
  return { player, listener: await fromService(results, user, openid, roomId, "listener") };
}

// Loads LiveKit's client. Its text becomes an inline script, which the page's Content-Security-Policy allows by its hash:
// so it is that very client, wherever it came from.
async function loadLivekit(results, ends) {
  const step = results.step("LiveKit’s client");
  const watched = watchConnections();
  ends.add(watched.end);
  if (!window.LivekitClient) {
    try {
      const response = await fetch(`${deployment.service}/livekit-client.js?v=${LIVEKIT_CLIENT_VERSION}`, {
        credentials: "omit",
      });
      const script = document.createElement("script");
      script.textContent = await response.text();
      document.body.append(script);
    } catch {
      // Then it isn't there, as below.
    }
  }
  if (!window.LivekitClient) {
    step.problem(
      "It can’t be loaded.",
      "Reload this page. If that doesn’t help, a proxy changes livekit-client.js beside this page, or keeps it away.",
    );
    throw new Failed();
  }
  step.fine(`Version ${LIVEKIT_CLIENT_VERSION} is loaded.`);
  return { ...window.LivekitClient, connections: watched.opened };
}

async function talk(results, livekit, grants, ends, signal) {
  const wait = (ms) =>
    new Promise((resolve, reject) => {
      setTimeout(resolve, ms);
      signal.addEventListener("abort", () => reject(new Stopped()), { once: true });
    });
  const player = await join(results, livekit, grants.player, "The side that plays", ends, signal);
  const listener = await join(results, livekit, grants.listener, "The side that listens", ends, signal);
  const heard = new Promise((resolve) => listener.on(livekit.RoomEvent.TrackSubscribed, resolve));

  const step = results.step("The tone");
  const published = play(livekit, player, ends);
  const outcome = await Promise.race([
    Promise.all([heard, published]),
    published.then(
      () => new Promise(() => {}),
      (error) => error,
    ),
    wait(PATIENCE_MS),
  ]);
  if (!Array.isArray(outcome)) {
    step.problem(
      outcome ? `It can’t be published: ${shown(outcome.message)}` : "The SFU doesn’t pass it on.",
      "Look at the SFU’s log for the reason. A token that may only listen can’t publish.",
    );
    throw new Failed();
  }
  const [media, context] = outcome;
  // A browser decodes only what is played, silently as it may be.
  const sound = media.attach();
  sound.muted = true;
  ends.add(() => media.detach());
  const sender = [...player.localParticipant.trackPublications.values()][0].track.sender;
  const { receiver } = media;
  const deadline = performance.now() + PATIENCE_MS;
  while (inbound(await receiver.getStats()).packetsReceived === 0 && performance.now() < deadline) await wait(200);

  step.waiting("It is played…");
  const hears = ear(context, media.mediaStreamTrack);
  const measured = await measure(sender, receiver, hears, wait, (second, of) =>
    step.waiting(`Measuring, second ${second} of ${of}…`),
  );
  if (measured.received === 0)
    step.problem(
      "It isn’t heard on the other side.",
      "The SFU takes media and sends none: look for a firewall on its way back.",
    );
  else if (measured.heard === 0)
    step.warning(
      "Its packets arrive, and are silent.",
      "The browser may not let the page make a sound: reload it, and start the test again.",
    );
  else step.fine("The other side hears it.");
  judgePath(results.step("Path of the media, sending"), selectedPair(await sender.getStats()));
  judgePath(results.step("Path of the media, receiving"), selectedPair(await receiver.getStats()));
  judgeRoundTrip(results.step("Round trip"), measured.roundTrip);
  judgeLoss(results.step("Loss"), measured);
}

// Joins the room on the SFU with a token.
async function join(results, livekit, { url, jwt }, title, ends, signal) {
  const step = results.step(title);
  step.waiting("Connecting to the SFU…");
  const room = new livekit.Room({ disconnectOnPageLeave: true });
  const before = livekit.connections.length;
  ends.add(() => room.disconnect());
  const start = performance.now();
  let signalled;
  room.on(livekit.RoomEvent.SignalConnected, () => {
    signalled = performance.now() - start;
    step.waiting("Its WebSocket is open. Looking for a path for media…");
  });
  const options = { maxRetries: 0, websocketTimeout: 6000, peerConnectionTimeout: 8000 };
  const stopped = new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(new Stopped()), { once: true }),
  );
  const late = new Promise((_, reject) => setTimeout(reject, PATIENCE_MS, new Error("no connection in time")));
  try {
    await Promise.race([room.connect(url, jwt, options), late, stopped]);
  } catch (error) {
    if (error instanceof Stopped) throw error;
    const addresses = offered(livekit.connections.slice(before));
    explain(step, error, url, signalled && performance.now() - start, addresses);
    throw new Failed();
  }
  step.fine(
    `Connected after ${Math.round(performance.now() - start)} ms, ${Math.round(signalled ?? 0)} ms of them for the WebSocket.`,
  );
  return room;
}

// Says why there is no connection to the SFU. `waited` is for how many milliseconds, where its WebSocket was open.
function explain(step, error, url, waited, addresses) {
  if (waited !== undefined) {
    const offers = addresses.length
      ? `The SFU offers ${shown(addresses.join(", "))}.`
      : "The SFU offers no address at all.";
    step.problem(
      `The SFU’s WebSocket is open, but no media has got through after ${Math.round(waited / 1000)} seconds. ${offers}`,
      "Open the SFU’s ports for media in its firewall and forward them: UDP (rtc.udp_port, or the range of rtc.port_range_start), and TCP (rtc.tcp_port) for networks without UDP. The addresses above must be the SFU’s public ones: rtc.use_external_ip or rtc.node_ip. TURN over TLS helps users behind strict firewalls.",
    );
  } else if (error.status === 404 || /does not exist|not found/i.test(error.message)) {
    step.problem(
      "The room doesn’t exist on the SFU.",
      "The service creates rooms for users of the homeservers in LIVEKIT_FULL_ACCESS_HOMESERVERS only, and yours isn’t among them: others join rooms that exist. If it should be, write the server name there, exactly as in user ids, not the host’s name. If it is, a proxy may keep /rtc from the SFU.",
    );
  } else if (error.status === 401 || error.status === 403) {
    step.problem(
      `The SFU refuses the token: ${shown(error.message)}`,
      "LIVEKIT_KEY and LIVEKIT_SECRET must be a pair in the SFU’s keys, and the clocks of both machines right.",
    );
  } else {
    step.problem(
      `The SFU’s WebSocket at ${shown(url)} can’t be opened: ${shown(error.message)}`,
      "The service reaches the SFU, and this browser doesn’t. Check that LIVEKIT_URL is a public name with a valid certificate (wss://), that its port is open, and that a proxy passes on WebSockets (the headers Upgrade and Connection).",
    );
  }
}

// Publishes a tone that the page makes, and returns where it is made.
async function play(livekit, room, ends) {
  const context = new AudioContext();
  ends.add(() => context.close());
  await context.resume();
  const [tone, volume, out] = [
    context.createOscillator(),
    context.createGain(),
    context.createMediaStreamDestination(),
  ];
  tone.frequency.value = TONE_HZ;
  volume.gain.value = 0.2;
  tone.connect(volume).connect(out);
  tone.start();
  const [media] = out.stream.getAudioTracks();
  const track = new livekit.LocalAudioTrack(media, undefined, true);
  await room.localParticipant.publishTrack(track, { source: livekit.Track.Source.Microphone, dtx: false });
  return context;
}

const PATIENCE_MS = 14_000;
