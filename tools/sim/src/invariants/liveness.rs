//! Within ten elections after everything healed, every honest consenter takes messages and all honest
//! nodes are level. And at no time do two parts hand the same thing to each other for ever.

use super::{Invariant, Seen};

/// Elections that the cluster may take.
pub const ELECTIONS: u64 = 10;

/// Knows when it has to be over.
#[derive(Debug, Default)]
pub struct Liveness {
    deadline: Option<u64>,
}

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Healed { at, election } => {
                self.deadline = Some(at + ELECTIONS * election);
                Ok(())
            }
            Seen::Waiting { at, why } if self.deadline.is_some_and(|deadline| *at >= deadline) => {
                Err(format!("{ELECTIONS} elections after healing, {why}"))
            }
            Seen::StandsStill { node } => Err(format!(
                "events of node {node} follow each other and no time passes"
            )),
            _ => Ok(()),
        }
    }
}
