//! Conditions of checks.

/// Reason for skipping a check.
pub(crate) type Reason = &'static str;

/// Condition of a check.
pub(crate) enum Need {
    /// A homeserver's name is given.
    ServerName,
    /// The `hs_token` is given.
    HsToken,
    /// The `as_token` is given.
    AsToken,
    /// A file with the service's variables is given.
    VariablesFile,
    /// The login of a user is given.
    User,
    /// The SFU's URL is given.
    SfuUrl,
    /// The SFU's key pair is given.
    KeyPair,
    /// The check of this id has passed. The second value is the reason if it has failed; the reason of a skipped one
    /// is passed on.
    Passed(&'static str, Reason),
    /// The check of this id has passed or was skipped. The second value is the reason if it has failed.
    NotFailed(&'static str, Reason),
}
