//! Recorded traffic of real Fabric peers, played again.

mod client;
mod contract;
mod discovery;
mod doors;
mod endorse;
mod evaluate;
mod gateway;
mod lifecycle;
mod peer;
mod refusals;
mod streams;

use std::path::PathBuf;

/// The recorded corpus, where there is one.
fn corpus(test: &str) -> Option<PathBuf> {
    Some(selvage_testing::golden_dir(test)?.join("corpus"))
}

/// What became of the recorded calls of one kind that a peer was asked again.
#[derive(Default)]
struct Replayed {
    total: usize,
    failed: Vec<String>,
}

impl Replayed {
    /// Counts a call; an error says what differs.
    fn add(&mut self, name: impl FnOnce() -> String, outcome: Result<(), String>) {
        self.total += 1;
        if let Err(error) = outcome {
            let error: String = error.chars().take(600).collect();
            self.failed.push(format!("{}: {error}", name()));
        }
    }

    /// Fails the test unless all calls, and at least so many, gave what was recorded.
    fn settle(self, org: &str, kind: &str, at_least: usize) {
        let Self { total, failed } = self;
        let good = total - failed.len();
        eprintln!("{org}: {good} of {total} recorded {kind} reproduced");
        assert!(total > at_least, "only {total} {kind} were found");
        let failures = failed.join("\n");
        assert!(
            failed.is_empty(),
            "{} of {total} failed:\n{failures}",
            failed.len()
        );
    }
}
