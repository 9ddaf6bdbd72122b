// One command to the object of a room, in one call from the module: `client.rs` says what it is for.

export async function send(namespace, room, locationHint, command) {
  const options = locationHint === undefined ? undefined : { locationHint };
  const stub = namespace.get(namespace.idFromName(room), options);
  // A request needs a host, although an object has none.
  const response = await stub.fetch("https://room/", { method: "POST", body: command });
  return response.status === 200 ? response.text() : response.status;
}

// The platform sends six requests at a time, and the others after them.
export async function sendToAll(namespace, rooms, command) {
  const answers = await Promise.allSettled(rooms.map((room) => send(namespace, room, undefined, command)));
  return answers.map(({ value, reason }) => (typeof value === "string" ? value : String(reason ?? `status ${value}`)));
}
