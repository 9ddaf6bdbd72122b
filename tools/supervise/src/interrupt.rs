use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// The user's wish to end the program: SIGINT and SIGTERM, which no longer end this process by themselves.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen for both.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn listen() -> io::Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // A second one ends the process at once: the user has waited long enough.
            flag::register_conditional_shutdown(signal, SECOND_SIGNAL_STATUS, Arc::clone(&seen))?;
            flag::register(signal, Arc::clone(&seen))?;
        }
        Ok(Self(seen))
    }

    /// Returns whether one of them has come.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

const SECOND_SIGNAL_STATUS: i32 = 130;
