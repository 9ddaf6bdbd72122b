// One command to the object of a room, in one call from the module: `client.rs` says what it is for.

export async function send(namespace, room, locationHint, command) {
  const options = locationHint === undefined ? undefined : { locationHint };
  const stub = namespace.get(namespace.idFromName(room), options);
  // A request needs a host, although an object has none.
  const response = await stub.fetch("https://room/", { method: "POST", body: command });
  return response.status === 200 ? response.text() : response.status;
}

// Adds the answer of each room's object to the room, as JSON; in place of one, `error` with the reason. The platform
// sends six requests at a time, and the others after them.
export async function sendToAll(namespace, rooms, locationHint, command) {
  const answered = async (room) => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("the room's object didn't answer in time")), ANSWERED_WITHIN_MS);
    });
    try {
      const answer = await Promise.race([send(namespace, room.room, locationHint, command), late]);
      const state = typeof answer === "string" ? JSON.parse(answer) : { error: `status ${answer}` };
      return { ...room, ...(typeof state === "object" ? state : { error: OF_ANOTHER_VERSION }) };
    } catch (error) {
      return { ...room, error: String(error) };
    } finally {
      clearTimeout(timer);
    }
  };
  return JSON.stringify(await Promise.all(JSON.parse(rooms).map(answered)));
}

const ANSWERED_WITHIN_MS = 10_000;
const OF_ANOTHER_VERSION = "the room's object is still of another version, which doesn't know this command";
