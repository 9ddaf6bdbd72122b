// The path that media takes, and how well it does: read from the browser's own statistics.

import { shown } from "./dom.js";

// Every connection that LiveKit's client opens from now on. The library doesn't show those that fail.
export function watchConnections() {
  const opened = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...options) {
      super(...options);
      opened.push(this);
    }
  };
  return { opened, end: () => (window.RTCPeerConnection = Native) };
}

// Returns the addresses that the SFU has offered for media.
export function offered(connections) {
  const found = connections.flatMap((connection) => {
    const sdp = connection.remoteDescription?.sdp ?? "";
    return [...sdp.matchAll(/^a=candidate:\S+ \d+ (\w+) \d+ (\S+) (\d+) typ (\w+)/gm)];
  });
  return [...new Set(found.map(([, protocol, address, port]) => `${protocol.toUpperCase()} ${address}:${port}`))];
}

// Returns the pair of candidates in use, and its two sides.
export function selectedPair(report) {
  const all = [...report.values()];
  const selected = all.find(({ type, selectedCandidatePairId }) => type === "transport" && selectedCandidatePairId);
  const pair = selected
    ? report.get(selected.selectedCandidatePairId)
    : all.find(({ type, nominated, state }) => type === "candidate-pair" && nominated && state === "succeeded");
  return pair && { pair, local: report.get(pair.localCandidateId), remote: report.get(pair.remoteCandidateId) };
}

// Describes the path in a step, with what to do where it isn't the best.
export function judgePath(step, found) {
  if (found?.local === undefined || found.remote === undefined) {
    return step.warning("The browser doesn’t tell.", "Try another browser for this figure.");
  }
  const { local, remote } = found;
  // Browsers hide an own address that only the network around them knows.
  const address = (side) =>
    `${side.address || side.ip ? `${side.address || side.ip}:` : "port "}${side.port ?? "?"} (${side.candidateType})`;
  const ends = `from ${address(local)} to ${address(remote)}`;
  const isTcp = local.protocol === "tcp";
  if (local.candidateType === "relay") {
    const by = (local.relayProtocol ?? local.protocol ?? "").toUpperCase();
    const detail = `TURN over ${shown(by)}, ${ends}.`;
    if (by === "UDP") step.fine(detail);
    else
      step.warning(
        detail,
        "Neither UDP nor TCP leads to the SFU directly from here. Calls work, with more delay. Where that is so everywhere, open the SFU’s ports for media.",
      );
  } else if (isTcp) {
    step.warning(
      `TCP, ${ends}.`,
      "No UDP gets through, so the call falls back to TCP: it works, and stutters where packets are lost. Open the SFU’s UDP ports (rtc.udp_port, or rtc.port_range_start to rtc.port_range_end) in its firewall, and forward them. If other networks have UDP, it is this one that blocks it.",
    );
  } else {
    step.fine(`UDP, ${ends}.`);
  }
}

// Measures for ten seconds: round trips of the sender's connection, packets that the receiver got and missed, and how often
// the tone was heard.
export async function measure(sender, receiver, hears, wait, progress) {
  const start = inbound(await receiver.getStats());
  const trips = [];
  let heard = 0;
  for (let second = 1; second <= SECONDS; second++) {
    progress(second, SECONDS);
    await wait(1000);
    if (hears()) heard += 1;
    const trip = selectedPair(await sender.getStats())?.pair.currentRoundTripTime;
    if (trip !== undefined) trips.push(trip * 1000);
  }
  const end = inbound(await receiver.getStats());
  const [received, lost] = ["packetsReceived", "packetsLost"].map((field) => Math.max(0, end[field] - start[field]));
  trips.sort((a, b) => a - b);
  return { received, lost, heard, roundTrip: trips[Math.floor(trips.length / 2)] };
}

// Returns a function that says whether the tone is heard in a received track. The browser's statistics don't: to them, what
// is played silently is silent.
export function ear(context, track) {
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const loudness = new Float32Array(analyser.frequencyBinCount);
  const width = context.sampleRate / analyser.fftSize;
  return () => {
    analyser.getFloatFrequencyData(loudness);
    const loudest = loudness.reduce((best, it, n) => (it > loudness[best] ? n : best), 0);
    return loudness[loudest] > SILENCE_DB && Math.abs(loudest * width - TONE_HZ) < 2 * width;
  };
}

// Returns what has come in, of the one stream of sound.
export function inbound(report) {
  return (
    [...report.values()].find(({ type, kind }) => type === "inbound-rtp" && kind === "audio") ?? {
      packetsReceived: 0,
      packetsLost: 0,
    }
  );
}

export function judgeRoundTrip(step, milliseconds) {
  if (milliseconds === undefined)
    return step.warning("The browser doesn’t tell.", "Try another browser for this figure.");
  const detail = `${Math.round(milliseconds)} ms between this browser and the SFU.`;
  if (milliseconds <= 150) step.fine(detail);
  else
    step.warning(
      detail,
      "People begin to talk into each other’s words. An SFU nearer to its users helps, and so does a network that isn’t busy (or a cable in place of a bad Wi-Fi).",
    );
}

export function judgeLoss(step, { received, lost }) {
  if (received === 0) {
    return step.problem(
      "Nothing arrived in ten seconds.",
      "The connection broke off: look at the SFU’s log, and for a firewall that drops longer streams.",
    );
  }
  const percent = (100 * lost) / (received + lost);
  const detail = `${percent.toFixed(1)} % of ${received + lost} packets in ten seconds.`;
  const remedy =
    "Packets get lost between this browser and the SFU: a bad Wi-Fi, a busy line, or an SFU without enough processor or bandwidth. Compare with another network.";
  if (percent < 1) step.fine(detail);
  else if (percent < 5) step.warning(detail, remedy);
  else step.problem(detail, remedy);
}

export const TONE_HZ = 440;
const SILENCE_DB = -60;
const SECONDS = 10;
