//! What orderers say to each other, and the journals that keep what they promised.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use selvage_env::{Disk, MemDisk, OpenMode};
use selvage_ordering::JournalWrite;
use selvage_ordering::journal::Journal;

use super::ledger::crc32c;
use crate::cluster::{Act, Cluster};
use crate::consenter::{Consensus, Consenter, Refusal};
use crate::pick::{Pick, Put};
use crate::reach::reach;

/// A node's number, then what happens to it: time, messages of the others, clients, restarts.
pub(super) fn raft(input: &[u8]) {
    consenter(Consensus::Raft, input);
}

/// The same with BFT. All signatures are right, so any number of the others may lie.
pub(super) fn bft(input: &[u8]) {
    consenter(Consensus::Bft, input);
}

fn consenter(consensus: Consensus, input: &[u8]) -> Consenter {
    let mut pick = Pick::new(input);
    let id = 1 + pick.byte() % consensus.nodes();
    let mut node = Consenter::new(consensus, id);
    node.play(&mut pick);
    node.restart();
    let reached = &node.reached;
    for (place, there) in [
        ("blocks", reached.blocks > 0),
        ("led", reached.led),
        ("accepted", reached.accepted > 0),
        ("fetched", reached.fetched > 0),
        ("configured", reached.configured > 0),
        ("restarted", reached.restarts > 0),
        ("evicted", reached.evicted),
    ] {
        if there {
            reach(place);
        }
    }
    node
}

/// An election, blocks, a node that misses some, a new configuration.
const RAFT: &[Act] = &[
    Act::Ticks(8),
    Act::Order(&[1, 2], "a"),
    Act::Timers,
    Act::Cut(3),
    // More blocks than the others keep for somebody who is a little behind.
    Act::Order(&[1], "b"),
    Act::Timers,
    Act::Order(&[2], "c"),
    Act::Timers,
    Act::Order(&[1], "d"),
    Act::Timers,
    Act::Order(&[1], "e"),
    Act::Timers,
    Act::Order(&[2], "f"),
    Act::Timers,
    Act::Order(&[1], "g"),
    Act::Timers,
    Act::Restart(3),
    Act::Ticks(2),
    Act::Heal,
    Act::Ticks(4),
    Act::Configure(1, &[1, 2]),
    Act::Configure(2, &[1, 2]),
    Act::Ticks(4),
];

/// The leader is lost, and another takes over.
const RAFT_FAILOVER: &[Act] = &[
    Act::Ticks(8),
    Act::Cut(1),
    Act::Ticks(45),
    Act::Order(&[1, 2, 3], "a"),
    Act::Timers,
    Act::Heal,
    Act::Ticks(4),
    Act::Cut(2),
    Act::Ticks(45),
    Act::Order(&[1, 3], "b"),
    Act::Timers,
];

pub(super) fn raft_seeds() -> Vec<Vec<u8>> {
    let runs = [RAFT, RAFT_FAILOVER].map(|acts| Cluster::run(Consensus::Raft, acts));
    runs.iter().flat_map(Cluster::inputs).collect()
}

/// Blocks, a node that misses some, rounds without a leader, a new configuration.
const BFT: &[Act] = &[
    Act::Order(&[1, 2, 3, 4], "a"),
    Act::Timers,
    Act::Ticks(3),
    Act::Cut(4),
    Act::Order(&[1, 2, 3], "b"),
    Act::Timers,
    Act::Ticks(15),
    Act::Order(&[1, 2, 3], "d"),
    Act::Timers,
    Act::Ticks(15),
    Act::Restart(3),
    Act::Heal,
    Act::Ticks(25),
    Act::Cut(2),
    Act::Order(&[1, 3, 4], "c"),
    Act::Timers,
    Act::Ticks(60),
    Act::Heal,
    Act::Ticks(25),
    Act::Configure(1, &[1, 2, 3]),
    Act::Ticks(30),
];

pub(super) fn bft_seeds() -> Vec<Vec<u8>> {
    Cluster::run(Consensus::Bft, BFT).inputs()
}

/// Which consensus, then what lies on a node's disk: blocks and the records of its journal. A node
/// that starts from them goes on, and starts again from what it made of them.
pub(super) fn engine_journal(input: &[u8]) {
    match recover(input) {
        Ok(mut node) => {
            reach("started");
            node.ticks(30);
            node.restart();
        }
        Err(Refusal::NotConsenter) => {}
        Err(Refusal::Other(why)) => assert!(!why.is_empty()),
    }
}

fn recover(input: &[u8]) -> Result<Consenter, Refusal> {
    let mut pick = Pick::new(input);
    let consensus = pick.of(&[Consensus::Raft, Consensus::Bft]);
    Consenter::recover(consensus, &mut pick)
}

pub(super) fn engine_journal_seeds() -> Vec<Vec<u8>> {
    let runs = [
        (0, Consensus::Raft, RAFT),
        (0, Consensus::Raft, RAFT_FAILOVER),
        (1, Consensus::Bft, BFT),
    ];
    let seeds = |(kind, consensus, acts): (u8, Consensus, &[Act])| {
        let cluster = Cluster::run(consensus, acts);
        let disks = cluster.disks().map(|disk| [vec![kind], disk].concat());
        disks.collect::<Vec<_>>()
    };
    runs.into_iter().flat_map(seeds).collect()
}

const FOLDER: &str = "/journal";
const FILE: &str = "/journal/0000000001.journal";
const HEADER: usize = 16;

fn write(sequence: u64, records: &[&'static str], checkpoint: bool, sync: bool) -> JournalWrite {
    JournalWrite {
        sequence,
        records: records
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect(),
        checkpoint,
        sync,
    }
}

/// The records of a journal and its one file.
fn journal() -> &'static (Vec<Bytes>, Vec<u8>) {
    static JOURNAL: OnceLock<(Vec<Bytes>, Vec<u8>)> = OnceLock::new();
    JOURNAL.get_or_init(|| {
        let disk = Arc::new(MemDisk::new());
        let folder = Path::new(FOLDER);
        let (mut journal, _) = Journal::open(disk.clone(), folder).expect("a journal");
        let writes = [
            write(1, &["forgotten"], false, true),
            write(2, &["checkpoint", "vote"], true, true),
            write(3, &["entry 1", ""], false, true),
            write(4, &["entry 2"], false, false),
            write(5, &["entry 3"], false, true),
        ];
        for write in &writes {
            journal
                .append(std::slice::from_ref(write))
                .expect("a record");
        }
        drop(journal);
        let (_, records) = Journal::open(disk.clone(), folder).expect("the same journal");
        assert_eq!(records.len(), 6, "all but what was forgotten");
        let file = disk.read(Path::new(FILE), 1 << 20).expect("its file");
        (records, file)
    })
}

/// A journal's file after some damage. Checksums are put right again when the first byte is odd, so
/// that lengths can be wrong in a record that looks whole.
pub(super) fn journal_file(input: &[u8]) {
    let mut pick = Pick::new(input);
    let right = pick.byte() & 1 == 1;
    let (records, mut file) = journal().clone();
    let mut only_shorter = true;
    while !pick.is_empty() {
        let how = pick.byte() % 3;
        let place = usize::from(pick.byte()) | usize::from(pick.byte()) << 8;
        let place = place % (file.len() + 1);
        match how {
            0 => file.truncate(place),
            1 => drop(file.splice(place..place, pick.piece().iter().copied())),
            _ => {
                let new = pick.piece();
                let end = file.len().min(place + new.len());
                file[place..end].copy_from_slice(&new[..end - place]);
            }
        }
        only_shorter &= how == 0;
    }
    if right {
        sum_up(&mut file);
    }
    let found = reopen(&file);
    if only_shorter {
        let found = found.expect("a torn end is no damage");
        assert!(
            records.starts_with(&found),
            "what is left is what was written"
        );
    }
}

/// Opens a journal of this file. When that works, what is added is there after another start.
fn reopen(file: &[u8]) -> Option<Vec<Bytes>> {
    let disk = Arc::new(MemDisk::new());
    let folder = Path::new(FOLDER);
    disk.create_dir_all(folder).expect("a folder");
    let opened = disk
        .open(Path::new(FILE), OpenMode::CreateNew)
        .expect("a file");
    opened.append(file).expect("written");
    drop(opened);
    let (mut journal, found) = Journal::open(disk.clone(), folder).ok()?;
    if !found.is_empty() {
        reach("records");
    }
    let more = write(1, &["one more"], false, true);
    journal
        .append(std::slice::from_ref(&more))
        .expect("it takes records");
    drop(journal);
    let (_, again) = Journal::open(disk, folder).expect("opened once, opened again");
    assert_eq!(again, [found.clone(), more.records].concat());
    Some(found)
}

/// Puts the checksums of a journal right, record by record, as far as its lengths lead.
fn sum_up(file: &mut [u8]) {
    let mut at = 0;
    while file.len() >= at + HEADER {
        let length = u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let end = (at + HEADER).saturating_add(length as usize);
        if end > file.len() {
            return;
        }
        let summed = [
            &(at as u64).to_le_bytes()[..],
            &length.to_le_bytes(),
            &file[at + 8..end],
        ];
        let sum = crc32c(&summed.concat());
        file[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

pub(super) fn journal_file_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![1]];
    for place in [0u8, 4, 8, 16, 27, 50, 90] {
        for right in [0, 1] {
            seeds.push(vec![right, 0, place, 0]);
            let put = Put::default().byte(right).byte(2).byte(place).byte(0);
            seeds.push(put.piece([0xff, 0]).rest([]));
            let put = Put::default().byte(right).byte(1).byte(place).byte(0);
            seeds.push(put.piece([0; 20]).rest([]));
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Honest clusters come to no bad end.
    #[test]
    fn nobody_halts_in_the_seeds() {
        let raft = raft_seeds().into_iter().map(|seed| (Consensus::Raft, seed));
        let bft = bft_seeds().into_iter().map(|seed| (Consensus::Bft, seed));
        for (consensus, seed) in raft.chain(bft) {
            let node = consenter(consensus, &seed);
            assert_eq!(node.reached.halted, None, "{consensus:?}");
            assert!(node.reached.blocks > 0, "{consensus:?}");
        }
    }

    #[test]
    fn journals_of_seeds_are_taken_up() {
        for seed in engine_journal_seeds() {
            let node = recover(&seed);
            assert!(node.is_ok(), "{:?}", node.err());
        }
    }

    #[test]
    fn sums_are_those_that_the_journal_writes() {
        let (_, file) = journal();
        let mut again = file.clone();
        sum_up(&mut again);
        assert_eq!(&again, file);
    }
}
