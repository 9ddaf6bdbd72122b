//! Cloudflare's own statuses, which it gives in place of a server's response.

use std::fmt;

/// Status with which Cloudflare says that it has no response of the server behind it ([Cloudflare, "5xx
/// errors"](https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer(u16);

impl NoAnswer {
    /// Recognises such a status; `None` for those that a server gives itself.
    pub fn of(status: u16) -> Option<Self> {
        matches!(status, 520..=527 | 530).then_some(Self(status))
    }

    /// Returns the status.
    pub fn status(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self.0 {
            521 => "nobody listens there",
            522 | 523 => "its address isn't reached",
            524 => "it takes too long",
            525 | 526 => "its certificate isn't valid",
            530 => "its name isn't resolved, or its tunnel isn't connected",
            _ => "it sends no valid response",
        };
        write!(f, "Cloudflare has no answer of the server: {cause} ({})", self.0)
    }
}
