//! The variables that the executable has beside the worker's.

/// One variable of the executable alone, as help and documentation describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// The variable that stands for `--addr`.
pub const ADDR: &str = "MATRIXRTC_EDGE_ADDR";
/// The variable that stands for `--state`; systemd sets it for `StateDirectory=`.
pub const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
/// lk-jwt-service's variable for the address to listen on.
pub const JWT_BIND: &str = "LIVEKIT_JWT_BIND";
/// lk-jwt-service's older variable for the port.
pub const JWT_PORT: &str = "LIVEKIT_JWT_PORT";
/// lk-jwt-service's variable for a Redis server.
pub const REDIS_URL: &str = "LIVEKIT_REDIS_URL";
/// Its password.
pub const REDIS_PASSWORD: &str = "LIVEKIT_REDIS_PASSWORD";
/// lk-jwt-service's variable that switches off the verification of certificates.
pub const SKIP_VERIFY_TLS: &str = "LIVEKIT_INSECURE_SKIP_VERIFY_TLS";

/// Every variable that the executable reads, and the worker doesn't. Those of files are in
/// [`SOURCES`](crate::variables::files::SOURCES), too.
pub const TABLE: &[Variable] = &[
    Variable { name: ADDR, help: "the address to listen on, as --addr: IP:PORT, or :PORT for all IPv4 addresses" },
    Variable { name: STATE_DIRECTORY, help: "the directory that the state is kept in, as --state" },
    Variable { name: "LIVEKIT_KEY_FROM_FILE", help: "a file that LIVEKIT_KEY is read from" },
    Variable { name: "LIVEKIT_SECRET_FROM_FILE", help: "a file that LIVEKIT_SECRET is read from" },
    Variable { name: "LIVEKIT_KEY_FILE", help: "a file of `key: secret` lines, in place of LIVEKIT_KEYS" },
    Variable { name: "LIVEKIT_AS_TOKEN_FROM_FILE", help: "a file that LIVEKIT_AS_TOKEN is read from" },
    Variable { name: "LIVEKIT_HS_TOKEN_FROM_FILE", help: "a file that LIVEKIT_HS_TOKEN is read from" },
    Variable {
        name: "LIVEKIT_AS_REGISTRATION_FILE",
        help: "the homeserver's registration file, in place of LIVEKIT_AS_TOKEN and LIVEKIT_HS_TOKEN",
    },
    Variable { name: JWT_BIND, help: "as MATRIXRTC_EDGE_ADDR, which it comes before" },
    Variable { name: JWT_PORT, help: "the older form of LIVEKIT_JWT_BIND=:PORT" },
    Variable { name: REDIS_URL, help: "nothing: the state is in --state" },
    Variable { name: REDIS_PASSWORD, help: "nothing: the state is in --state" },
    Variable { name: SKIP_VERIFY_TLS, help: "refused: certificates are always verified; see --trust-ca" },
];
