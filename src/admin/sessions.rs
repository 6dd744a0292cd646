//! Sessions of people who have logged in: random ids, known by their digests alone, bounded in number and time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Digest;

/// How long a session lasts, whether it is used or not.
pub(super) const LIFETIME: Duration = Duration::from_hours(12);
/// The most sessions at a time; a login beyond it ends the oldest.
const SESSIONS_MAX: usize = 32;

/// The sessions of a gateway. They end with it.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashMap<Digest, Session>,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// What every form and every changing call of its pages carries.
    pub(super) csrf: String,
    ends: Instant,
}

impl Sessions {
    /// Begins a session, and returns its id. The id is new, whatever the browser has sent.
    pub(super) fn begin(&mut self, now: Instant) -> String {
        self.open.retain(|_, session| session.ends > now);
        if self.open.len() >= SESSIONS_MAX {
            let oldest = self.open.iter().min_by_key(|(_, session)| session.ends).map(|(id, _)| *id);
            oldest.map(|oldest| self.open.remove(&oldest));
        }
        let id = random_hex();
        self.open.insert(digest(&id), Session { csrf: random_hex(), ends: now + LIFETIME });
        id
    }

    /// Finds a session that has not ended.
    pub(super) fn find(&self, id: &str, now: Instant) -> Option<&Session> {
        self.open.get(&digest(id)).filter(|session| session.ends > now)
    }

    pub(super) fn end(&mut self, id: &str) {
        self.open.remove(&digest(id));
    }
}

fn digest(id: &str) -> Digest {
    Digest::of(id.as_bytes())
}

/// Returns 256 random bits as hex digits.
fn random_hex() -> String {
    rand::random::<[u8; 32]>().iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_by_time_by_logout_and_by_number() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        let first = sessions.begin(now);
        assert_eq!(first.len(), 64);
        let csrf = sessions.find(&first, now).unwrap().csrf.clone();
        assert!(csrf != first && csrf.len() == 64);
        assert!(sessions.find(&csrf, now).is_none() && sessions.find("", now).is_none());
        assert!(sessions.find(&first, now + LIFETIME).is_none(), "after its time");
        let second = sessions.begin(now + Duration::from_secs(1));
        assert_ne!(first, second);
        sessions.end(&second);
        assert!(sessions.find(&second, now).is_none());
        for number in 1..=SESSIONS_MAX as u64 {
            sessions.begin(now + Duration::from_secs(number));
        }
        assert!(sessions.find(&first, now).is_none(), "the oldest gave way");
        assert_eq!(sessions.open.len(), SESSIONS_MAX);
    }
}
