use proptest::prelude::*;
use selvage_env::{Crash, Fault, FaultKind, MemDisk};

use super::*;

const FOLDER: &str = "/wal/ch";

fn write(records: &[&str], sync: bool) -> JournalWrite {
    let records = records
        .iter()
        .map(|r| Bytes::copy_from_slice(r.as_bytes()))
        .collect();
    JournalWrite {
        sequence: 0,
        records,
        checkpoint: false,
        sync,
    }
}

fn open(disk: &Arc<MemDisk>) -> Result<(Journal, Vec<String>), JournalError> {
    let (journal, records) = Journal::open(disk.clone(), Path::new(FOLDER))?;
    let text = |record: Bytes| String::from_utf8(record.to_vec()).expect("text records");
    Ok((journal, records.into_iter().map(text).collect()))
}

#[test]
fn records_come_back_in_order() {
    let disk = Arc::new(MemDisk::new());
    assert!(!Journal::exists(disk.as_ref(), Path::new(FOLDER)).unwrap());
    let (mut journal, records) = open(&disk).unwrap();
    assert!(records.is_empty());
    journal.append(&[write(&["a", "b"], true)]).unwrap();
    journal
        .append(&[write(&["c"], false), write(&[""], true)])
        .unwrap();
    drop(journal);
    assert!(Journal::exists(disk.as_ref(), Path::new(FOLDER)).unwrap());
    assert_eq!(open(&disk).unwrap().1, ["a", "b", "c", ""]);
}

#[test]
fn a_checkpoint_forgets_what_was_before() {
    let disk = Arc::new(MemDisk::new());
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[write(&["a", "b"], true)]).unwrap();
    let checkpoint = JournalWrite {
        checkpoint: true,
        ..write(&["b"], true)
    };
    let writes = [write(&["x"], true), checkpoint, write(&["c"], true)];
    journal.append(&writes).unwrap();
    journal.append(&[write(&["d"], true)]).unwrap();
    drop(journal);
    assert_eq!(open(&disk).unwrap().1, ["b", "c", "d"]);
    let names = disk.list(Path::new(FOLDER)).unwrap();
    let segments = names.iter().filter(|n| n.ends_with(SUFFIX)).count();
    assert_eq!(segments, 1, "{names:?}");
}

#[test]
fn a_torn_end_is_cut_and_what_was_durable_stays() {
    let disk = Arc::new(MemDisk::new());
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[write(&["a"], true)]).unwrap();
    journal.append(&[write(&["b", "c"], false)]).unwrap();
    let path = journal.path(0);
    drop(journal);
    // "b" is torn although "c" behind it reached the disk.
    let disk = Arc::new(disk.crash(Crash::Process));
    disk.corrupt(&path, HEADER + 1 + HEADER, b"?").unwrap();
    let (mut journal, records) = open(&disk).unwrap();
    assert_eq!(records, ["a"]);
    journal.append(&[write(&["d"], true)]).unwrap();
    drop(journal);
    assert_eq!(open(&disk).unwrap().1, ["a", "d"]);
}

#[test]
fn damage_to_durable_records_is_refused_by_name() {
    let disk = Arc::new(MemDisk::new());
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[write(&["a"], true)]).unwrap();
    journal.append(&[write(&["b"], true)]).unwrap();
    journal.append(&[write(&["c"], true)]).unwrap();
    let path = journal.path(0);
    drop(journal);
    disk.corrupt(&path, HEADER + 1 + HEADER, b"?").unwrap();
    let error = open(&disk).err().expect("a refusal");
    assert!(
        matches!(error, JournalError::Corrupt { offset: 17, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("new certificate"), "{error}");
}

#[test]
fn a_failed_sync_ends_the_journal() {
    let disk = Arc::new(MemDisk::new());
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[write(&["a"], true)]).unwrap();
    let next = disk.operations() + 1;
    disk.set_fault(Some(Fault {
        at: next,
        kind: FaultKind::Io,
        sticky: false,
    }));
    assert!(journal.append(&[write(&["b"], true)]).is_err());
    disk.set_fault(None);
    let error = journal.append(&[write(&["c"], true)]).unwrap_err();
    assert!(matches!(error, JournalError::Failed), "{error}");
}

proptest! {
    /// Whatever a crash does to bytes that were not synced, the synced prefix comes back, and what
    /// comes back is a prefix of what was written.
    #[test]
    fn a_crash_loses_no_synced_record(
        groups in proptest::collection::vec((1usize..4, any::<bool>(), any::<bool>()), 1..20),
        seed in any::<u64>(),
    ) {
        let mut disk = Arc::new(MemDisk::new());
        let (mut journal, _) = open(&disk).unwrap();
        let (mut written, mut durable, mut next) = (Vec::new(), 0, 0u32);
        for (count, sync, checkpoint) in groups {
            let records: Vec<String> = (0..count).map(|_| { next += 1; format!("r{next}") }).collect();
            let texts: Vec<&str> = records.iter().map(String::as_str).collect();
            let keep = write(&texts, sync);
            if checkpoint {
                written.clear();
            }
            journal.append(&[JournalWrite { checkpoint, ..keep }]).unwrap();
            written.extend(records);
            if sync || checkpoint || journal.synced == journal.length {
                durable = written.len();
            }
        }
        drop(journal);
        disk = Arc::new(disk.crash(Crash::Torn(seed)));
        let (_, back) = open(&disk).unwrap();
        prop_assert!(back.len() >= durable, "{back:?} of {written:?}, {durable} durable");
        prop_assert_eq!(&back[..], &written[..back.len()]);
    }
}
