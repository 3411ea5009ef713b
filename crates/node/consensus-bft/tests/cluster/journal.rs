//! What a node finds when it starts again.

use std::path::Path;

use selvage_env::{Crash, Disk, MemDisk};

use crate::harness::{Cluster, MS, SECOND};
use crate::world::Plain;
use crate::{run_seed, seeds};

fn busy_cluster(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(Plain::new(1..=4), seed);
    for n in 0..10 {
        cluster.submit(n % 4, &format!("message {n}"));
        cluster.run_for(10 * MS);
    }
    cluster.run_until("it works", 5 * SECOND, Cluster::is_settled);
    cluster
}

#[test]
fn a_lost_journal_is_noticed() {
    let mut cluster = busy_cluster(1);
    cluster.crash(2, Crash::LoseUnsynced);
    cluster.replace_disk(2, MemDisk::new());
    let error = cluster.try_start(2).unwrap_err();
    assert!(error.contains("journal of this orderer is gone"), "{error}");
    assert!(error.contains("add it again"), "{error}");
}

#[test]
fn damage_in_the_middle_is_noticed() {
    let mut cluster = busy_cluster(2);
    cluster.crash(2, Crash::LoseUnsynced);
    let folder = Path::new("/journal");
    let names = cluster.disk(2).list(folder).unwrap();
    let name = names
        .iter()
        .find(|name| name.ends_with(".journal"))
        .unwrap();
    let path = folder.join(name);
    cluster.disk(2).corrupt(&path, 40, &[0xff; 8]).unwrap();
    let error = cluster.try_start(2).unwrap_err();
    assert!(error.contains("corrupt at byte"), "{error}");
}

#[test]
fn records_of_another_version_are_refused() {
    use selvage_consensus_bft::wire::Record;
    use selvage_ordering::JournalWrite;
    use selvage_ordering::journal::Journal;
    use selvage_proto::Message as _;

    let mut cluster = busy_cluster(3);
    cluster.crash(2, Crash::LoseUnsynced);
    for (record, text) in [
        (
            Record {
                version: 9,
                ..Record::default()
            }
            .encode_to_vec(),
            "version 9",
        ),
        (vec![0xff; 5], "cannot be used"),
    ] {
        let disk = MemDisk::new();
        let disk = std::sync::Arc::new(disk);
        let (mut journal, _) = Journal::open(disk.clone(), Path::new("/journal")).unwrap();
        let write = JournalWrite {
            sequence: 1,
            records: vec![record.into()],
            checkpoint: false,
            sync: true,
        };
        journal.append(&[write]).unwrap();
        drop(journal);
        cluster.replace_disk(2, disk.crash(Crash::Process));
        let error = cluster.try_start(2).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

/// All stop at any moment at all, with what was not synced lost or torn, and start again. What was
/// accepted is there, and nobody contradicts what it signed before.
fn everybody_stops(seed: u64) {
    let mut cluster = Cluster::new(Plain::new(1..=4), seed);
    for n in 0..6 {
        cluster.submit(n % 4, &format!("message {n}"));
        let pause = cluster.dice(4 * MS);
        cluster.run_for(pause);
    }
    for index in 0..4 {
        let how = match seed % 2 {
            0 => Crash::LoseUnsynced,
            _ => Crash::Torn(seed * 4 + index as u64),
        };
        cluster.crash(index, how);
    }
    let accepted = cluster.accepted.len();
    for index in 0..4 {
        cluster.start(index);
    }
    cluster.submit(1, "after the stop");
    let last = cluster.world.message("after the stop");
    cluster.run_until("it goes on", 20 * SECOND, |cluster| {
        let heights = cluster.heights();
        cluster.accepted.contains_key(&last) && heights.iter().all(|h| *h == heights[0])
    });
    assert!(cluster.accepted.len() > accepted);
    cluster.check_accepted();
}

#[test]
fn everybody_stops_at_any_moment() {
    for seed in seeds(120) {
        run_seed("stop of all", seed, || everybody_stops(seed));
    }
}

/// The journal does not grow with the chain.
#[test]
fn the_journal_stays_small() {
    let mut cluster = Cluster::new(Plain::new(1..=4), 5);
    let mut largest = 0;
    for n in 0..150 {
        let text = format!("message {n} {}", "x".repeat(2000));
        cluster.submit(n % 4, &text);
        cluster.run_until("it is ordered", 2 * SECOND, Cluster::is_settled);
        let folder = Path::new("/journal");
        for name in cluster.disk(1).list(folder).unwrap() {
            let file = cluster
                .disk(1)
                .open(&folder.join(name), selvage_env::OpenMode::Read);
            largest = largest.max(file.unwrap().len().unwrap());
        }
    }
    // Checkpoints come after 20,000 bytes in these tests, with a height's records on top.
    assert!(largest < 40_000, "{largest}");
}
