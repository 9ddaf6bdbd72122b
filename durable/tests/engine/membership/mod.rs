//! A participant whose user isn't in the Matrix room is removed from the LiveKit room, and no other.

mod poll;
mod record;
mod removal;
mod sweep;

use crate::call::Call;

impl Call {
    /// Answers two polls without the participant, which end its record.
    fn is_forgotten_after_two_looks(&mut self, who: &str) {
        assert_eq!(self.next_acts(), [format!("get {who}")]);
        self.sfu(&[]);
        assert_eq!(self.acts(), [""; 0]);
        assert!(!self.room.is_empty(), "it may have a token that was never reported");
        assert_eq!(self.wait_for_due(), 900.0);
        assert_eq!(self.acts(), [format!("get {who}")]);
        self.sfu(&[]);
        assert_eq!(self.acts(), [""; 0]);
        assert!(self.room.is_empty());
    }
}
