// The floor that the worker is measured against: `POST /get_token` of a full-access user whose server name has a port,
// as one would write it by hand for this platform. Same checks, requests, limits, tokens, log line and answer; no other
// endpoint, no discovery, no other errors. Not for use.

export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    if (path === "/healthz") return Response.json({ status: "ok" });
    if (path !== "/get_token" || request.method !== "POST") return failure(404, "M_UNRECOGNIZED", "There is nothing here");
    try {
      return answer(200, await exchange(request, env));
    } catch (error) {
      if (error instanceof Refusal) return failure(error.status, error.errcode, error.message);
      console.error(JSON.stringify({ level: "error", msg: "failed", cause: error.name }));
      return failure(500, "M_UNKNOWN", "The request failed");
    }
  },
};

async function exchange(request, env) {
  const requestId = request.headers.get("Cf-Ray") ?? hex(crypto.getRandomValues(new Uint8Array(8)));
  const body = tokenRequest(await boundedBody(request, MAX_BODY));
  const { access_token: accessToken, matrix_server_name: server } = body.openid_token;
  const room = await name([body.room_id, body.slot_id]);

  const started = Date.now();
  const user = await subject(server, accessToken);
  if (user !== body.member.claimed_user_id) throw new Refusal(401, "M_UNAUTHORIZED", "The token is somebody else's");
  const identity = await name([user, body.member.claimed_device_id, body.member.id]);
  const verified = Date.now();

  if (!env.LIVEKIT_FULL_ACCESS_HOMESERVERS.split(/[\s,]+/).includes(server)) {
    throw new Refusal(500, "M_UNKNOWN", "The floor knows full access only");
  }
  await createRoom(env, room);
  const created = Date.now();

  const video = {
    room,
    roomJoin: true,
    roomCreate: false,
    canPublish: true,
    canSubscribe: true,
    canUpdateOwnMetadata: false,
  };
  const jwt = await mint(env, { sub: identity, video }, 3600);
  console.log(
    JSON.stringify({
      level: "info",
      msg: "token issued",
      request_id: requestId,
      user,
      access: "full",
      room,
      openid_ms: verified - started,
      create_room_ms: created - verified,
    }),
  );
  return { url: env.LIVEKIT_URL, jwt };
}

function tokenRequest(bytes) {
  let body;
  try {
    body = JSON.parse(decoder.decode(bytes));
  } catch {
    throw new Refusal(400, "M_NOT_JSON", "The body is not JSON");
  }
  checkFields("The body", body, FIELDS);
  checkFields("openid_token", body.openid_token, OPENID_TOKEN_FIELDS);
  checkFields("member", body.member, MEMBER_FIELDS);
  if (!SERVER_NAME_WITH_PORT.test(body.openid_token.matrix_server_name)) {
    throw new Refusal(401, "M_UNAUTHORIZED", "The OpenID token could not be verified");
  }
  return body;
}

function checkFields(what, object, types) {
  if (typeof object !== "object" || object === null || Array.isArray(object)) {
    throw new Refusal(400, "M_NOT_JSON", `${what} is not an object`);
  }
  for (const field of Object.keys(object)) {
    if (typeof object[field] !== types[field]) throw new Refusal(400, "M_NOT_JSON", `${field} is unknown or wrong`);
  }
  for (const field of Object.keys(types)) {
    if (!object[field]) throw new Refusal(400, "M_BAD_JSON", `${field} is missing or empty`);
  }
}

async function subject(server, accessToken) {
  const query = new URLSearchParams({ access_token: accessToken });
  const response = await fetch(`https://${server}/_matrix/federation/v1/openid/userinfo?${query}`, {
    headers: { "User-Agent": USER_AGENT },
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const { sub } = JSON.parse(decoder.decode(await boundedBody(response, MAX_BODY)));
  const domain = typeof sub === "string" && sub[0] === "@" ? sub.slice(sub.indexOf(":") + 1) : undefined;
  if (response.status !== 200 || domain !== server) {
    throw new Refusal(401, "M_UNAUTHORIZED", "The OpenID token could not be verified");
  }
  return sub;
}

async function createRoom(env, room) {
  const token = await mint(env, { video: { roomCreate: true } }, 600);
  // CreateRoomRequest: name (1), empty_timeout (2) = 300, departure_timeout (10) = 20.
  const encoded = encoder.encode(room);
  const message = new Uint8Array(encoded.length + 7);
  message.set([0x0a, encoded.length]);
  message.set(encoded, 2);
  message.set([0x10, 0xac, 0x02, 0x50, 0x14], encoded.length + 2);
  const base = env.LIVEKIT_URL.replace(/^ws/, "http").replace(/\/+$/, "");
  const response = await env.CONFIGURED.fetch(`${base}/twirp/livekit.RoomService/CreateRoom`, {
    method: "POST",
    headers: { "User-Agent": USER_AGENT, "Content-Type": "application/protobuf", Authorization: `Bearer ${token}` },
    body: message,
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const room_ = await boundedBody(response, MAX_BODY);
  if (response.status !== 200 || room_.byteLength === 0) {
    throw new Refusal(500, "M_UNKNOWN", "The room could not be created on the SFU");
  }
}

async function boundedBody(message, limit) {
  const length = message.headers.get("Content-Length");
  if (length === null || Number(length) > limit) throw new Refusal(413, "M_TOO_LARGE", "The body is too large");
  return message.arrayBuffer();
}

async function mint(env, claims, lifetime) {
  const now = Math.floor(Date.now() / 1000);
  const payload = {
    exp: now + lifetime,
    nbf: now,
    iss: env.LIVEKIT_KEY,
    jti: hex(crypto.getRandomValues(new Uint8Array(16))),
    ...claims,
  };
  const signed = `${JWT_HEADER}.${base64url(encoder.encode(JSON.stringify(payload)))}`;
  const signature = await crypto.subtle.sign("HMAC", await signingKey(env), encoder.encode(signed));
  return `${signed}.${base64url(new Uint8Array(signature))}`;
}

async function signingKey(env) {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  key ??= await crypto.subtle.importKey("raw", encoder.encode(env.LIVEKIT_SECRET), algorithm, false, ["sign"]);
  return key;
}

async function name(parts) {
  const digest = await crypto.subtle.digest("SHA-256", encoder.encode(JSON.stringify(parts)));
  return new Uint8Array(digest).toBase64({ omitPadding: true });
}

function base64url(bytes) {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

function hex(bytes) {
  return bytes.toHex();
}

function answer(status, body) {
  return new Response(JSON.stringify(body), { status, headers: HEADERS });
}

function failure(status, errcode, error) {
  return answer(status, { errcode, error });
}

class Refusal extends Error {
  constructor(status, errcode, message) {
    super(message);
    this.status = status;
    this.errcode = errcode;
  }
}

let key;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const FIELDS = { room_id: "string", slot_id: "string", openid_token: "object", member: "object" };
const OPENID_TOKEN_FIELDS = {
  access_token: "string",
  token_type: "string",
  matrix_server_name: "string",
  expires_in: "number",
};
const MEMBER_FIELDS = { id: "string", claimed_user_id: "string", claimed_device_id: "string" };
const SERVER_NAME_WITH_PORT = /^[A-Za-z0-9.-]{1,220}:[0-9]{1,5}$/;
const JWT_HEADER = base64url(encoder.encode(JSON.stringify({ alg: "HS256", typ: "JWT" })));
const HEADERS = {
  "Content-Type": "application/json",
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Methods": "POST",
  "Access-Control-Allow-Headers": "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization",
};
const USER_AGENT = "matrixrtc-edge/floor";
const MAX_BODY = 64 * 1024;
const TIMEOUT_MS = 10_000;
