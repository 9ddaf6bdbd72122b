# The worker in workerd alone: what wrangler.toml is on Cloudflare's edge.
#
#   workerd serve workerd.capnp [config | withPrivateAddresses] \
#     --socket-addr http=127.0.0.1:8080 --directory-path objects=/var/lib/matrixrtc-edge/objects \
#     --directory-path assets=/var/lib/matrixrtc-edge/workerd/assets
#
# Beside this file are the build, index.js and index_bg.wasm, and trusted.capnp. The worker's variables are those of
# workerd's environment; one that isn't set is null, and the worker takes it for absent.

using Workerd = import "/workerd/workerd.capnp";
# Certificates that are trusted beside the public authorities. How many there are is known at the start only, and a list of
# Cap'n Proto has a fixed length: so this one file is written then.
using Trusted = import "trusted.capnp";

# Callers name homeservers, which have public addresses.
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "internet", network = .publicAddresses),
    (name = "configured", network = .allAddresses),
    (name = "objects", disk = (writable = true)),
    (name = "assets", disk = (writable = false)),
  ],
  sockets = [(name = "http", http = (), service = "worker")],
  v8Flags = .v8Flags,
);

# With LIVEKIT_ALLOW_PRIVATE_ADDRESSES=true they may have private ones.
const withPrivateAddresses :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "internet", network = .allAddresses),
    (name = "configured", network = .allAddresses),
    (name = "objects", disk = (writable = true)),
    (name = "assets", disk = (writable = false)),
  ],
  sockets = [(name = "http", http = (), service = "worker")],
  v8Flags = .v8Flags,
);

# V8 takes a heap of a few MB for small, and collects it once in minutes. But each request's few KB in it keep more outside it,
# which V8 doesn't count. So each collection is a whole one, of a megabyte that is in use (docs/decisions.md).
const v8Flags :List(Text) = ["--gc-global", "--min-semi-space-size=4"];

const publicAddresses :Workerd.Network = (allow = ["public"], tlsOptions = .tls);
const allAddresses :Workerd.Network = (allow = ["public", "private"], tlsOptions = .tls);
const tls :Workerd.TlsOptions = (trustBrowserCas = true, trustedCertificates = Trusted.certificates);

const worker :Workerd.Worker = (
  modules = [
    (name = "index.js", esModule = embed "index.js"),
    (name = "index_bg.wasm", wasm = embed "index_bg.wasm"),
  ],
  # The same as in wrangler.toml.
  compatibilityDate = "2026-10-01",
  compatibilityFlags = ["global_fetch_strictly_public"],
  globalOutbound = "internet",
  durableObjectNamespaces = [(className = "Room", uniqueKey = "ROOMS", enableSql = true)],
  durableObjectStorage = (localDisk = "objects"),
  bindings = [
    (name = "ROOMS", durableObjectNamespace = "Room"),
    # The way to what the operator has configured, which may have a private address: the SFU, the homeserver.
    (name = "CONFIGURED", service = "configured"),
    # The page for people.
    (name = "ASSETS", service = "assets"),
    (name = "LIVEKIT_URL", fromEnvironment = "LIVEKIT_URL"),
    (name = "LIVEKIT_KEY", fromEnvironment = "LIVEKIT_KEY"),
    (name = "LIVEKIT_SECRET", fromEnvironment = "LIVEKIT_SECRET"),
    (name = "LIVEKIT_KEYS", fromEnvironment = "LIVEKIT_KEYS"),
    (name = "LIVEKIT_FULL_ACCESS_HOMESERVERS", fromEnvironment = "LIVEKIT_FULL_ACCESS_HOMESERVERS"),
    (name = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", fromEnvironment = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS"),
    (name = "LIVEKIT_LOG_LEVEL", fromEnvironment = "LIVEKIT_LOG_LEVEL"),
    (name = "LIVEKIT_CS_API_URL_OVERRIDES", fromEnvironment = "LIVEKIT_CS_API_URL_OVERRIDES"),
    (name = "LIVEKIT_CAN_UPDATE_OWN_METADATA", fromEnvironment = "LIVEKIT_CAN_UPDATE_OWN_METADATA"),
    (name = "LIVEKIT_RESTRICTED_CAN_PUBLISH", fromEnvironment = "LIVEKIT_RESTRICTED_CAN_PUBLISH"),
    (name = "LIVEKIT_ALLOW_PRIVATE_ADDRESSES", fromEnvironment = "LIVEKIT_ALLOW_PRIVATE_ADDRESSES"),
    (name = "LIVEKIT_DNS_OVER_HTTPS_URL", fromEnvironment = "LIVEKIT_DNS_OVER_HTTPS_URL"),
    (name = "LIVEKIT_LOCATION_HINT", fromEnvironment = "LIVEKIT_LOCATION_HINT"),
    (name = "LIVEKIT_JURISDICTION", fromEnvironment = "LIVEKIT_JURISDICTION"),
    (name = "LIVEKIT_AS_TOKEN", fromEnvironment = "LIVEKIT_AS_TOKEN"),
    (name = "LIVEKIT_HS_TOKEN", fromEnvironment = "LIVEKIT_HS_TOKEN"),
    (name = "LIVEKIT_HS_SERVER_NAME", fromEnvironment = "LIVEKIT_HS_SERVER_NAME"),
    (name = "LIVEKIT_TOKEN_TTL_SECONDS", fromEnvironment = "LIVEKIT_TOKEN_TTL_SECONDS"),
    (name = "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS", fromEnvironment = "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS"),
    (name = "LIVEKIT_FEDERATION_URL_OVERRIDES", fromEnvironment = "LIVEKIT_FEDERATION_URL_OVERRIDES"),
    (name = "LIVEKIT_ALLOWED_HOMESERVERS", fromEnvironment = "LIVEKIT_ALLOWED_HOMESERVERS"),
    (name = "LIVEKIT_RESTRICTED_CAN_DELEGATE", fromEnvironment = "LIVEKIT_RESTRICTED_CAN_DELEGATE"),
    (name = "LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS", fromEnvironment = "LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS"),
    (name = "LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS", fromEnvironment = "LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS"),
    (name = "LIVEKIT_ROOM_MAX_PARTICIPANTS", fromEnvironment = "LIVEKIT_ROOM_MAX_PARTICIPANTS"),
    (name = "LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS", fromEnvironment = "LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS"),
    (name = "LIVEKIT_REQUIRE_MEMBERSHIP", fromEnvironment = "LIVEKIT_REQUIRE_MEMBERSHIP"),
    (name = "LIVEKIT_PAGE", fromEnvironment = "LIVEKIT_PAGE"),
  ],
);
