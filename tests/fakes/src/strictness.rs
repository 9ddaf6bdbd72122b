use std::sync::{Arc, Mutex};

/// What the fakes of a setup were asked that nobody should ask them.
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

    /// Fails the test if there was any.
    pub fn assert_kept(&self) {
        let breaches = self.0.lock().unwrap();
        assert!(breaches.is_empty(), "the worker asked what it must not:\n{}", breaches.join("\n"));
    }
}
