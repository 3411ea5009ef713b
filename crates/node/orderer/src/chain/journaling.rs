//! The thread that keeps an engine's journal: several writes with one sync when several wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_net::metrics::DurationHistogram;
use selvage_ordering::JournalWrite;
use selvage_ordering::journal::Journal;
use tokio::sync::mpsc;

use super::Chain;
use crate::in_full;

/// Writes that wait for the thread, and reports that wait for the channel's task.
const QUEUE: usize = 256;
/// Writes that share one sync at most.
const GROUP: usize = 64;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The journal's thread, as the channel's task sees it.
pub(super) struct Journaling {
    pub(super) writes: mpsc::Sender<JournalWrite>,
    /// The sequence through which writes are done.
    pub(super) reports: mpsc::Receiver<u64>,
}

impl Journaling {
    /// Ends the thread, once what it was given is written.
    pub(super) async fn end(self) {
        let Self {
            writes,
            mut reports,
        } = self;
        drop(writes);
        while reports.recv().await.is_some() {}
    }
}

/// Starts the thread. It ends when the task drops its end. `timing` notes how long writes take.
pub(super) fn spawn(
    chain: Arc<Chain>,
    journal: Journal,
    timing: Option<DurationHistogram>,
) -> Journaling {
    let (writes, queue) = mpsc::channel(QUEUE);
    let (report, reports) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || run(&chain, journal, queue, &report, timing));
    Journaling { writes, reports }
}

fn run(
    chain: &Chain,
    mut journal: Journal,
    mut queue: mpsc::Receiver<JournalWrite>,
    report: &mpsc::Sender<u64>,
    timing: Option<DurationHistogram>,
) {
    let mut begun = false;
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let through = group.last().map_or(0, |write| write.sequence);
        let begun_at = Instant::now();
        if !append(chain, &mut journal, &group) {
            return;
        }
        if let Some(timing) = &timing {
            timing.observe(begun_at.elapsed());
        }
        if !begun && group.iter().any(|write| !write.records.is_empty()) {
            if let Err(error) = chain.shared.has_journal(&chain.id) {
                chain.fail(format!(
                    "the orderer cannot tell its journal apart: {error}"
                ));
                return;
            }
            begun = true;
        }
        if report.blocking_send(through).is_err() {
            return;
        }
    }
}

/// A full disk is waited for; any other failure ends the node, because what the disk kept is
/// unknown. False when the channel is over.
fn append(chain: &Chain, journal: &mut Journal, group: &[JournalWrite]) -> bool {
    loop {
        if chain.is_stopped() {
            return false;
        }
        let error = match journal.append(group) {
            Ok(()) => {
                chain.note_room();
                return true;
            }
            Err(error) => error,
        };
        let reason = in_full(&error);
        if error.is_full() {
            chain.note_full(&reason);
            std::thread::sleep(RETRY);
            continue;
        }
        chain.fail(format!("the orderer cannot write its journal: {reason}"));
        return false;
    }
}
