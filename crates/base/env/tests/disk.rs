//! One behaviour for both disks, and what failures and power cuts leave.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use selvage_env::{Crash, Disk, DiskError, DiskOp, Fault, FaultKind, MemDisk, OpenMode, RealDisk};

/// Runs a check on a real folder and on a simulated one.
fn on_both(check: impl Fn(&dyn Disk, &Path)) {
    let real = tempfile::tempdir().unwrap();
    check(&RealDisk, real.path());
    let simulated = MemDisk::new();
    let root = Path::new("/data");
    simulated.create_dir_all(root).unwrap();
    check(&simulated, root);
}

fn kind<T>(result: Result<T, DiskError>) -> ErrorKind {
    result.err().expect("it should have failed").kind()
}

#[test]
fn files_grow_and_shrink() {
    on_both(|disk, root| {
        let path = root.join("a");
        let file = disk.open(&path, OpenMode::Append).unwrap();
        assert!(file.is_empty().unwrap());
        file.append(b"hello ").unwrap();
        file.append(b"world").unwrap();
        file.sync_data().unwrap();
        assert_eq!((file.len().unwrap(), file.path()), (11, path.as_path()));
        let mut five = [0; 5];
        file.read_exact_at(&mut five, 6).unwrap();
        assert_eq!(&five, b"world");
        assert_eq!(
            kind(file.read_exact_at(&mut five, 7)),
            ErrorKind::UnexpectedEof
        );
        assert_eq!(file.read_at(&mut five, 100).unwrap(), 0);
        file.truncate(5).unwrap();
        file.append(b"!").unwrap();
        assert_eq!(disk.read(&path, 100).unwrap(), b"hello!");
        assert_eq!(kind(disk.read(&path, 5)), ErrorKind::FileTooLarge);
        let again = disk.open(&path, OpenMode::Append).unwrap();
        again.append(b"?").unwrap();
        assert_eq!(file.len().unwrap(), 7);
    });
}

#[test]
fn opening() {
    on_both(|disk, root| {
        let path = root.join("a");
        assert_eq!(kind(disk.open(&path, OpenMode::Read)), ErrorKind::NotFound);
        disk.open(&path, OpenMode::CreateNew).unwrap();
        assert_eq!(
            kind(disk.open(&path, OpenMode::CreateNew)),
            ErrorKind::AlreadyExists
        );
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        assert!(reader.append(b"x").is_err());
        let lost = disk.open(&root.join("no/where"), OpenMode::Append);
        assert!(lost.err().unwrap().is_not_found());
    });
}

#[test]
fn folders() {
    on_both(|disk, root| {
        let deep = root.join("a/b/c");
        disk.create_dir_all(&deep).unwrap();
        disk.create_dir_all(&deep).unwrap();
        disk.open(&root.join("a/f"), OpenMode::Append).unwrap();
        assert_eq!(disk.list(&root.join("a")).unwrap(), ["b", "f"]);
        assert!(disk.exists(&deep).unwrap() && !disk.exists(&root.join("z")).unwrap());
        assert_eq!(kind(disk.list(&root.join("z"))), ErrorKind::NotFound);
        disk.remove_dir_all(&root.join("a/b")).unwrap();
        disk.sync_dir(&root.join("a")).unwrap();
        assert_eq!(disk.list(&root.join("a")).unwrap(), ["f"]);
        disk.remove_file(&root.join("a/f")).unwrap();
        assert_eq!(
            kind(disk.remove_file(&root.join("a/f"))),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(disk.remove_dir_all(&root.join("z"))),
            ErrorKind::NotFound
        );
        let in_the_way = root.join("a/file");
        disk.open(&in_the_way, OpenMode::Append).unwrap();
        assert!(disk.create_dir_all(&in_the_way.join("d")).is_err());
    });
}

#[test]
fn atomic_files() {
    on_both(|disk, root| {
        let path = root.join("state");
        disk.write_atomic(&path, b"one").unwrap();
        // What a crash left of an earlier attempt is in nobody's way.
        disk.open(&root.join("state.tmp"), OpenMode::Append)
            .unwrap()
            .append(b"junk")
            .unwrap();
        disk.write_atomic(&path, b"two").unwrap();
        assert_eq!(disk.read(&path, 10).unwrap(), b"two");
        assert_eq!(disk.list(root).unwrap(), ["state"]);
    });
}

#[test]
fn one_owner_at_a_time() {
    on_both(|disk, root| {
        let lock = disk.lock_dir(root).unwrap();
        assert_eq!(kind(disk.lock_dir(root)), ErrorKind::WouldBlock);
        drop(lock);
        disk.lock_dir(root).unwrap();
    });
}

#[test]
fn errors_name_what_failed() {
    let error = RealDisk
        .open(Path::new("/no/such/file"), OpenMode::Read)
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "cannot open /no/such/file");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn the_chosen_operation_fails() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let path = Path::new("/d/f");
    let file = disk.open(path, OpenMode::Append).unwrap();
    assert_eq!(disk.operations(), 2);
    let fault = |at, kind, sticky| disk.set_fault(Some(Fault { at, kind, sticky }));
    fault(3, FaultKind::Full, false);
    file.append(b"1234").unwrap();
    let error = file.append(b"5678").unwrap_err();
    assert!(error.is_full() && error.op == DiskOp::Append);
    // Half of it is there, as on a full disk.
    assert_eq!(disk.read(path, 10).unwrap(), b"123456");
    file.append(b"9").unwrap();
    fault(disk.operations(), FaultKind::Io, true);
    assert!(!file.sync_data().unwrap_err().is_full());
    assert!(file.sync_data().is_err() && file.truncate(0).is_err());
    assert!(disk.rename(path, Path::new("/d/g")).is_err());
    assert!(disk.write_atomic(path, b"x").is_err());
    disk.set_fault(None);
    file.sync_data().unwrap();
}

#[test]
fn a_full_disk_stays_full_and_lets_go_what_is_there() {
    let disk = MemDisk::new();
    let root = Path::new("/d");
    disk.create_dir_all(root).unwrap();
    let file = disk.open(&root.join("f"), OpenMode::Append).unwrap();
    file.append(b"1234").unwrap();
    let full = Fault {
        at: disk.operations(),
        kind: FaultKind::Full,
        sticky: true,
    };
    disk.set_fault(Some(full));
    for _ in 0..3 {
        assert!(file.append(b"56").unwrap_err().is_full());
        file.truncate(4).unwrap();
    }
    assert!(disk.open(&root.join("g"), OpenMode::Append).is_err());
    assert!(disk.create_dir_all(&root.join("h")).is_err());
    file.sync_data().unwrap();
    disk.sync_dir(root).unwrap();
    assert_eq!(disk.read(&root.join("f"), 10).unwrap(), b"1234");
    disk.remove_file(&root.join("f")).unwrap();
    disk.set_fault(None);
    disk.open(&root.join("g"), OpenMode::Append).unwrap();
}

#[test]
fn a_power_cut_takes_what_was_not_made_durable() {
    let disk = MemDisk::new();
    let root = Path::new("/d");
    disk.create_dir_all(root).unwrap();
    let file = disk.open(&root.join("f"), OpenMode::Append).unwrap();
    file.append(b"kept").unwrap();
    file.sync_data().unwrap();
    // The contents are durable, the name is not yet.
    assert_eq!(disk.crash(Crash::LoseUnsynced).list(root).unwrap(), [""; 0]);
    disk.sync_dir(root).unwrap();
    file.append(b" lost").unwrap();
    disk.rename(&root.join("f"), &root.join("g")).unwrap();
    let after = disk.crash(Crash::LoseUnsynced);
    assert_eq!(after.list(root).unwrap(), ["f"]);
    assert_eq!(after.read(&root.join("f"), 99).unwrap(), b"kept");
    let after = disk.crash(Crash::Process);
    assert_eq!(after.read(&root.join("g"), 99).unwrap(), b"kept lost");
    disk.sync_dir(root).unwrap();
    let after = disk.crash(Crash::LoseUnsynced);
    assert_eq!(after.read(&root.join("g"), 99).unwrap(), b"kept");
    // The disk that lost power is not the one that comes back.
    assert_eq!(disk.read(&root.join("g"), 99).unwrap(), b"kept lost");
}

#[test]
fn rot_is_durable() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let path = PathBuf::from("/d/f");
    disk.write_atomic(&path, b"abc").unwrap();
    disk.corrupt(&path, 1, b"X").unwrap();
    assert_eq!(
        disk.crash(Crash::LoseUnsynced).read(&path, 9).unwrap(),
        b"aXc"
    );
    assert!(disk.corrupt(&path, 3, b"X").is_err());
}

proptest! {
    #[test]
    fn torn_tails_never_touch_what_was_made_durable(
        before in proptest::collection::vec(any::<u8>(), 0..50),
        after in proptest::collection::vec(any::<u8>(), 0..50),
        seed in any::<u64>(),
    ) {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let path = Path::new("/d/f");
        let file = disk.open(path, OpenMode::Append).unwrap();
        file.append(&before).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.append(&after).unwrap();
        let found = disk.crash(Crash::Torn(seed)).read(path, 1000).unwrap();
        prop_assert!(found.starts_with(&before));
        prop_assert!(found.len() <= before.len() + after.len());
    }

    #[test]
    fn atomic_files_are_old_or_new_after_any_crash(at in 0u64..8, seed in any::<u64>()) {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let path = Path::new("/d/f");
        disk.write_atomic(path, b"old").unwrap();
        let fault = Fault { at: disk.operations() + at, kind: FaultKind::Io, sticky: true };
        disk.set_fault(Some(fault));
        let done = disk.write_atomic(path, b"brand new");
        for how in [Crash::Process, Crash::LoseUnsynced, Crash::Torn(seed)] {
            let found = disk.crash(how).read(path, 100).unwrap();
            prop_assert!(found == b"old" || found == b"brand new");
            prop_assert!(done.is_err() || found == b"brand new");
        }
    }
}
