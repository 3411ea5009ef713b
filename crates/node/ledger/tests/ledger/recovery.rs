//! Stopping at any moment, and going on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_env::{Crash, Fault, FaultKind, MemDisk};
use selvage_ledger::{CommitListener, CommittedBlock, Ledger, LedgerError, PrivateSets};
use selvage_proto::peer::TxValidationCode as Code;

use crate::support::{
    COLL, NS, SHORT, commit_private, get, in_memory, next_block, on_disk, open_on, put, run,
    simulate, transaction,
};

/// One block of a fixed story: counters that every block raises, keys that come and go, private
/// data that stays and that expires.
pub(crate) fn tell(ledger: &Ledger) -> u64 {
    tell_with(ledger, 0)
}

/// The same with values of `bulk` bytes beside the counters.
pub(crate) fn tell_with(ledger: &Ledger, bulk: usize) -> u64 {
    let number = ledger.height();
    let filler = Bytes::from(noise(number, bulk));
    let text = Bytes::from(number.to_string());
    let count = run(ledger, &format!("{number}-count"), |s| {
        s.get_state(NS, "count").unwrap();
        s.set_state(NS, "count", text.clone()).unwrap();
        s.set_state(NS, &format!("key{}", number % 7), text.clone())
            .unwrap();
        s.delete_state(NS, &format!("key{}", (number + 3) % 7))
            .unwrap();
        s.set_state(NS, &format!("bulk{}", number % 5), filler.clone())
            .unwrap();
    });
    let id = format!("{number}-private");
    let secret = simulate(ledger, &id, |s| {
        s.set_private_data(NS, COLL, "secret", text.clone())
            .unwrap();
        s.set_private_data(NS, SHORT, &format!("p{number}"), text.clone())
            .unwrap();
        s.set_private_data(NS, COLL, "bulk", filler.clone())
            .unwrap();
    });
    let sets = PrivateSets::from([(1, secret.private.unwrap())]);
    commit_private(ledger, vec![count, transaction(&id, secret.results)], &sets);
    number
}

/// Bytes that do not get smaller when a database compresses them.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Whether the ledger is what the story makes of it at its height.
pub(crate) fn check_story(ledger: &Ledger) {
    let height = ledger.height();
    let Some(last) = height.checked_sub(1) else {
        return;
    };
    assert_eq!(get(ledger, "count"), Some(last.to_string()));
    assert_eq!(ledger.query().unwrap().height(), height);
    let keys = (0..7).map(|slot| {
        let wrote = (0..height).rev().find(|n| n % 7 == slot);
        let deleted = (0..height).rev().find(|n| (n + 3) % 7 == slot);
        wrote.filter(|w| deleted.is_none_or(|d| d < *w))
    });
    for (slot, want) in keys.enumerate() {
        let got = get(ledger, &format!("key{slot}"));
        assert_eq!(got, want.map(|n| n.to_string()), "key{slot} at {height}");
    }
    assert_eq!(ledger.history(NS, "count").count() as u64, height);
    let mut s = ledger.simulator("read").unwrap();
    let secret = s.get_private_data(NS, COLL, "secret").unwrap();
    assert_eq!(secret, Some(last.to_string().into()));
    for number in 0..height {
        let alive = number + 3 > last;
        let key = format!("p{number}");
        let got = s.get_private_data(NS, SHORT, &key).unwrap();
        assert_eq!(got.is_some(), alive, "{key} at {height}");
        let sets = ledger.private_data(number).unwrap();
        let colls = sets[&1].ns_pvt_rwset[0].collection_pvt_rwset.len();
        assert_eq!(
            colls,
            if alive { 2 } else { 1 },
            "sets of {number} at {height}"
        );
        assert!(ledger.tx_exists(&format!("{number}-count")).unwrap());
        let block = ledger.block_by_number(number).unwrap();
        let hash = selvage_crypto::sha256(&selvage_proto::block::header_bytes(
            block.header.as_ref().unwrap(),
        ));
        assert_eq!(ledger.block_by_hash(&hash).unwrap(), block);
    }
}

const CHILD: &str = "SELVAGE_LEDGER_TEST_CHILD";

/// Not a test of its own: the process that the next test kills.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let ledger = on_disk(Path::new(&dir)).expect("opens");
    loop {
        let number = tell(&ledger);
        println!("committed {number}");
    }
}

/// Kills a process that commits as fast as it can, ten times at different points of its story.
/// What it acknowledged is there, and the ledger is consistent with its height.
#[test]
fn killed_processes_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = None;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recovery::child", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 3 + round * 5;
        for line in lines {
            let line = line.unwrap();
            let Some(number) = line.rsplit_once("committed ") else {
                continue;
            };
            acknowledged = Some(number.1.parse::<u64>().unwrap());
            left -= 1;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "the child went on until it was killed");
        // The child is somewhere in a later commit now.
        child.kill().unwrap();
        child.wait().unwrap();
        let ledger = on_disk(dir.path()).unwrap();
        assert!(Some(ledger.height()) > acknowledged, "round {round}");
        check_story(&ledger);
        tell(&ledger);
        check_story(&ledger);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The state is not synced with each block, so after a power failure it may be from any height
/// before; private data may be from one block later.
#[test]
fn a_state_left_behind_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let ledger = on_disk(dir.path()).unwrap();
    for _ in 0..6 {
        tell(&ledger);
    }
    drop(ledger);
    copy_folder(&dir.path().join("state"), &old.path().join("state"));
    let ledger = on_disk(dir.path()).unwrap();
    for _ in 0..9 {
        tell(&ledger);
    }
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    copy_folder(&old.path().join("state"), &dir.path().join("state"));
    let ledger = on_disk(dir.path()).unwrap();
    assert_eq!(ledger.height(), 15);
    check_story(&ledger);
    let before = ledger.block_by_number(14).unwrap();
    tell(&ledger);
    drop(ledger);
    // And from nothing, giving the same chain of commit hashes.
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let ledger = on_disk(dir.path()).unwrap();
    check_story(&ledger);
    assert_eq!(ledger.block_by_number(14).unwrap(), before);
}

/// Pages of the state's journal that were not written before the power went, with later ones in
/// place.
#[test]
fn a_state_with_holes_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = on_disk(dir.path()).unwrap();
    for _ in 0..6 {
        tell_with(&ledger, 20_000);
    }
    drop(ledger);
    let journal = dir.path().join("state/0.jnl");
    let mut bytes = std::fs::read(&journal).unwrap();
    let part = &noise(4, 20_000)[8000..8064];
    let at = bytes.windows(64).position(|window| window == part).unwrap();
    bytes[at..at + 4096].fill(0);
    std::fs::write(&journal, bytes).unwrap();
    let ledger = on_disk(dir.path()).unwrap();
    assert_eq!(ledger.height(), 6);
    check_story(&ledger);
    tell(&ledger);
    check_story(&ledger);
}

#[test]
fn a_ledger_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let _ledger = on_disk(dir.path()).unwrap();
    assert!(on_disk(dir.path()).is_err());
}

/// Every failing operation of the block files in turn; after a restart the ledger goes on.
#[test]
fn failing_disks_leave_a_ledger_that_goes_on() {
    for at in 0..30 {
        let disk = Arc::new(MemDisk::new());
        disk.set_fault(Some(Fault {
            at,
            kind: FaultKind::Io,
            sticky: true,
        }));
        let mut acknowledged = 0;
        if let Ok(ledger) = open_on(disk.clone()) {
            for n in 0..8 {
                let tx = run(&ledger, &n.to_string(), |s| {
                    s.set_state(NS, "n", n.to_string().into()).unwrap();
                });
                let block = next_block(&ledger, vec![tx]);
                match ledger.commit(block, &[Code::Valid], &PrivateSets::new()) {
                    Ok(_) => acknowledged += 1,
                    Err(error) => {
                        assert!(error.is_fatal(), "{error:?}");
                        break;
                    }
                }
            }
            // Reads go on.
            let want = u64::checked_sub(acknowledged, 1).map(|n| n.to_string());
            assert_eq!(get(&ledger, "n"), want);
            assert_eq!(ledger.height(), acknowledged);
        }
        let disk = Arc::new(disk.crash(Crash::Torn(at)));
        let ledger = open_on(disk).unwrap();
        let height = ledger.height();
        assert!(height == acknowledged || height == acknowledged + 1);
        put(&ledger, &[("n", "on")]);
        assert_eq!(get(&ledger, "n").as_deref(), Some("on"));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written() {
    let disk = Arc::new(MemDisk::new());
    let ledger = open_on(disk.clone()).unwrap();
    put(&ledger, &[("k", "1")]);
    disk.set_fault(Some(Fault {
        at: disk.operations() + 1,
        kind: FaultKind::Io,
        sticky: false,
    }));
    let tx = || run(&ledger, "tx", |s| s.set_state(NS, "k", "2".into()).unwrap());
    for _ in 0..2 {
        let block = next_block(&ledger, vec![tx()]);
        let error = ledger
            .commit(block, &[Code::Valid], &PrivateSets::new())
            .unwrap_err();
        assert!(error.is_fatal(), "{error:?}");
    }
    assert_eq!(get(&ledger, "k").as_deref(), Some("1"));
    assert_eq!(ledger.height(), 1);
}

#[test]
fn blocks_come_in_order() {
    let ledger = in_memory();
    put(&ledger, &[("k", "1")]);
    let mut block = next_block(&ledger, vec![]);
    block.header.as_mut().unwrap().number = 2;
    let error = ledger.commit(block, &[], &PrivateSets::new()).unwrap_err();
    assert!(matches!(error, LedgerError::Blocks(_)) && !error.is_fatal());
    let mut block = next_block(&ledger, vec![]);
    block.header.as_mut().unwrap().previous_hash = Bytes::from_static(b"other");
    let error = ledger.commit(block, &[], &PrivateSets::new()).unwrap_err();
    assert!(matches!(error, LedgerError::Blocks(_)) && !error.is_fatal());
    assert!(matches!(
        ledger.block_by_number(1),
        Err(LedgerError::NoSuchBlock(1))
    ));
    put(&ledger, &[("k", "2")]);
}

/// Number, transaction ids and namespaces of a block.
type Summary = (u64, Vec<String>, Vec<String>);

#[derive(Default)]
struct Heard(Mutex<Vec<Summary>>);

impl CommitListener for Heard {
    fn committed(&self, block: &Arc<CommittedBlock>) {
        let namespaces = block.namespaces.iter().cloned().collect();
        let entry = (block.number, block.tx_ids.clone(), namespaces);
        self.0.lock().push(entry);
    }
}

#[test]
fn listeners_hear_every_block_in_order() {
    let ledger = in_memory();
    let heard = Arc::new(Heard::default());
    put(&ledger, &[("before", "1")]);
    ledger.add_listener(heard.clone());
    put(&ledger, &[("k", "1")]);
    put(&ledger, &[("k", "2")]);
    let cc = || vec![NS.to_owned()];
    let want = [
        (1, vec!["put-1".to_owned()], cc()),
        (2, vec!["put-2".to_owned()], cc()),
    ];
    assert_eq!(*heard.0.lock(), want);
}
