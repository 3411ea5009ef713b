//! Slows down guessing of passwords.

use std::collections::HashMap;

use parking_lot::Mutex;
use selvage_manager_api::{ApiError, ErrorCode};

/// Failed logins a name may have before it has to wait.
const TRIES: u32 = 5;
/// How long it has to wait.
const WAIT_MS: i64 = 60_000;
/// Names that are remembered.
const NAMES: usize = 1000;

/// Remembers failed logins: a name with several failures has to wait.
#[derive(Default)]
pub(super) struct Throttle {
    tries: Mutex<HashMap<String, (u32, i64)>>,
}

impl Throttle {
    /// Counts a try before its password is looked at, so that many at once count, too. Refuses it
    /// when there were too many.
    pub(super) fn begin(&self, name: &str, now_ms: i64) -> Result<(), ApiError> {
        let mut tries = self.tries.lock();
        if tries.len() >= NAMES && !tries.contains_key(name) {
            tries.retain(|_, (_, at)| now_ms - *at < WAIT_MS);
        }
        if tries.len() >= NAMES && !tries.contains_key(name) {
            // Made-up names, tried once each, make room; a name under attack stays.
            let least = tries.iter().min_by_key(|(_, entry)| **entry);
            if let Some(least) = least.map(|(name, _)| name.clone()) {
                tries.remove(&least);
            }
        }
        let (count, at) = tries.entry(name.to_owned()).or_insert((0, now_ms));
        if now_ms - *at >= WAIT_MS {
            *count = 0;
        }
        if *count >= TRIES {
            return Err(ApiError::new(
                ErrorCode::TooManyAttempts,
                "too many failed logins; try again in a minute",
            ));
        }
        (*count, *at) = (*count + 1, now_ms);
        Ok(())
    }

    /// Forgets the tries of a name whose password was right.
    pub(super) fn succeeded(&self, name: &str) {
        self.tries.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_waits_after_several_tries() {
        let throttle = Throttle::default();
        for _ in 0..TRIES {
            throttle.begin("admin", 0).expect("a try");
        }
        assert!(throttle.begin("admin", 1).is_err());
        assert!(throttle.begin("other", 1).is_ok());
        assert!(throttle.begin("admin", WAIT_MS).is_ok());
        throttle.succeeded("admin");
        let long = "x".repeat(128);
        for _ in 0..TRIES {
            throttle.begin(&long, WAIT_MS).expect("a try");
        }
        assert!(throttle.begin(&long, WAIT_MS).is_err());
    }

    #[test]
    fn made_up_names_do_not_switch_it_off() {
        let throttle = Throttle::default();
        for _ in 0..TRIES {
            throttle.begin("admin", 0).expect("a try");
        }
        for n in 0..3 * NAMES {
            throttle.begin(&format!("fill{n}"), 1).expect("a try");
        }
        assert!(throttle.begin("admin", 2).is_err());
        assert!(throttle.tries.lock().len() <= NAMES);
        for _ in 0..TRIES {
            throttle.begin("next", 2).expect("a try");
        }
        assert!(throttle.begin("next", 2).is_err());
    }
}
