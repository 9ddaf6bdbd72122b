use std::sync::{Arc, Mutex};

/// Breaches: requests to the fakes of a test setup that no correct worker sends.
#[derive(Clone, Default)]
pub struct Strictness(Arc<Mutex<Vec<String>>>);

impl Strictness {
    /// Notes a breach; the test fails for it at its end.
    pub fn breach(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    /// Notes a breach unless `holds`.
    pub fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.breach(what());
        }
    }

    /// Fails the test if there was a breach.
    pub fn assert_kept(&self) {
        let breaches = self.0.lock().unwrap();
        assert!(breaches.is_empty(), "the worker sent requests that it must not send:\n{}", breaches.join("\n"));
    }
}
