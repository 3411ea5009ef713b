use std::sync::Arc;

use proptest::prelude::*;
use selvage_env::{Crash, Fault, FaultKind, MemDisk};
use selvage_proto::common::{BlockData, BlockMetadata};

use super::*;

const DIR: &str = "/chain";

fn options() -> BlockStoreOptions {
    BlockStoreOptions {
        segment_bytes: 600,
        ..Default::default()
    }
}

fn open(disk: &Arc<MemDisk>) -> Result<BlockStore> {
    BlockStore::open(disk.clone(), Path::new(DIR), options())
}

/// A chain of blocks that differ in size.
fn chain(len: u64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut previous = Bytes::new();
    for number in 0..len {
        let envelope = vec![number as u8; 20 + (number as usize * 37) % 150];
        let header = BlockHeader {
            number,
            previous_hash: previous.clone(),
            data_hash: sha256(&envelope).to_vec().into(),
        };
        previous = info_after(&header).current_hash;
        blocks.push(Block {
            header: Some(header),
            data: Some(BlockData {
                data: vec![envelope.into()],
            }),
            metadata: Some(BlockMetadata::default()),
        });
    }
    blocks
}

fn check_holds(store: &BlockStore, blocks: &[Block]) {
    assert_eq!(store.height(), blocks.len() as u64);
    for (number, block) in blocks.iter().enumerate() {
        assert_eq!(&store.block(number as u64).unwrap(), block);
    }
    store.verify().unwrap();
    let info = blocks
        .last()
        .and_then(|b| b.header.as_ref())
        .map(info_after)
        .unwrap_or_default();
    assert_eq!(store.info(), info);
}

#[test]
fn blocks_come_back_after_a_restart() {
    let disk = Arc::new(MemDisk::new());
    let blocks = chain(40);
    let store = open(&disk).unwrap();
    assert!(store.last_block().unwrap().is_none());
    for block in &blocks[..25] {
        store.append(block).unwrap();
    }
    check_holds(&store, &blocks[..25]);
    drop(store);
    let store = open(&disk).unwrap();
    check_holds(&store, &blocks[..25]);
    let encoded: Vec<_> = blocks[25..]
        .iter()
        .map(|b| (b.header.clone().unwrap(), b.encode_to_vec().into()))
        .collect();
    store.append_encoded(&encoded).unwrap();
    check_holds(&store, &blocks);
    drop(store);
    check_holds(&open(&disk).unwrap(), &blocks);
}

#[test]
fn a_folder_belongs_to_one_store() {
    let disk = Arc::new(MemDisk::new());
    let _store = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(BlockStoreError::Disk(_))));
}

#[test]
fn only_the_next_block_is_taken() {
    let disk = Arc::new(MemDisk::new());
    let store = open(&disk).unwrap();
    let blocks = chain(3);
    store.append(&blocks[0]).unwrap();
    assert!(matches!(
        store.append(&blocks[2]),
        Err(BlockStoreError::OutOfOrder {
            got: 2,
            expected: 1
        })
    ));
    assert!(matches!(
        store.append(&blocks[0]),
        Err(BlockStoreError::OutOfOrder { .. })
    ));
    let mut forged = blocks[1].clone();
    forged.header.as_mut().unwrap().previous_hash = Bytes::from_static(b"x");
    assert!(matches!(
        store.append(&forged),
        Err(BlockStoreError::PreviousHash { number: 1, .. })
    ));
    store.append(&blocks[1]).unwrap();
    assert!(matches!(
        store.raw_block(2),
        Err(BlockStoreError::NotFound { number: 2 })
    ));
    check_holds(&store, &blocks[..2]);
}

#[test]
fn a_chain_may_start_late() {
    let disk = Arc::new(MemDisk::new());
    let blocks = chain(9);
    let open = || {
        let options = BlockStoreOptions {
            first_block: 5,
            ..options()
        };
        BlockStore::open(disk.clone(), Path::new(DIR), options).unwrap()
    };
    let store = open();
    assert_eq!((store.height(), store.first_block()), (5, 5));
    for block in &blocks[5..] {
        store.append(block).unwrap();
    }
    assert!(store.block(4).is_err());
    drop(store);
    let store = open();
    assert_eq!((store.height(), store.first_block()), (9, 5));
    store.verify().unwrap();
}

/// Fails every changing operation in turn, then cuts the power in every way: what was
/// acknowledged is there, and the chain goes on.
#[test]
fn acknowledged_blocks_survive_any_crash() {
    let blocks = chain(14);
    let total = {
        let disk = Arc::new(MemDisk::new());
        let store = open(&disk).unwrap();
        for block in &blocks {
            store.append(block).unwrap();
        }
        disk.operations()
    };
    let mut ways = vec![Crash::Process, Crash::LoseUnsynced];
    ways.extend((0..6).map(Crash::Torn));
    for at in 0..total {
        for (kind, crash) in ways.iter().enumerate().map(|(i, c)| (i % 2, c)) {
            let disk = Arc::new(MemDisk::new());
            disk.set_fault(Some(Fault {
                at,
                kind: if kind == 0 {
                    FaultKind::Io
                } else {
                    FaultKind::Full
                },
                sticky: true,
            }));
            let mut acknowledged = 0;
            if let Ok(store) = open(&disk) {
                for block in &blocks {
                    if store.append(block).is_err() {
                        break;
                    }
                    acknowledged += 1;
                }
                // Reads go on after a failed write.
                for (number, block) in blocks[..acknowledged].iter().enumerate() {
                    assert_eq!(&store.block(number as u64).unwrap(), block);
                }
            }
            let disk = Arc::new(disk.crash(*crash));
            let store = open(&disk).unwrap_or_else(|e| panic!("{at} {crash:?}: {e:?}"));
            let height = store.height() as usize;
            // One more than acknowledged may have reached the disk.
            assert!(
                height == acknowledged || height == acknowledged + 1,
                "{at} {crash:?}: {height} blocks, {acknowledged} acknowledged"
            );
            for block in &blocks[height..] {
                store.append(block).unwrap();
            }
            check_holds(&store, &blocks);
            drop(store);
            check_holds(&open(&disk).unwrap(), &blocks);
        }
    }
}

/// The same for groups: none of a group is acknowledged before all of it is.
#[test]
fn acknowledged_groups_survive_any_crash() {
    let blocks = chain(12);
    let groups: Vec<Vec<_>> = blocks
        .chunks(3)
        .map(|group| {
            let encoded = group
                .iter()
                .map(|b| (b.header.clone().unwrap(), Bytes::from(b.encode_to_vec())));
            encoded.collect()
        })
        .collect();
    for at in 0..40 {
        for seed in 0..8 {
            let disk = Arc::new(MemDisk::new());
            disk.set_fault(Some(Fault {
                at,
                kind: FaultKind::Io,
                sticky: true,
            }));
            let mut acknowledged = 0;
            if let Ok(store) = open(&disk) {
                for group in &groups {
                    if store.append_encoded(group).is_err() {
                        break;
                    }
                    acknowledged += group.len();
                }
            }
            let disk = Arc::new(disk.crash(Crash::Torn(seed)));
            let store = open(&disk).unwrap_or_else(|e| panic!("{at} {seed}: {e:?}"));
            let height = store.height() as usize;
            assert!(height >= acknowledged && height <= acknowledged + 3);
            for block in &blocks[height..] {
                store.append(block).unwrap();
            }
            check_holds(&store, &blocks);
        }
    }
}

#[test]
fn a_full_disk_takes_blocks_again_once_there_is_room() {
    let disk = Arc::new(MemDisk::new());
    let blocks = chain(5);
    let store = open(&disk).unwrap();
    store.append(&blocks[0]).unwrap();
    disk.set_fault(Some(Fault {
        at: disk.operations(),
        kind: FaultKind::Full,
        sticky: false,
    }));
    let error = store.append(&blocks[1]).unwrap_err();
    assert!(error.is_full() && !error.is_fatal(), "{error:?}");
    for block in &blocks[1..] {
        store.append(block).unwrap();
    }
    check_holds(&store, &blocks);
    drop(store);
    check_holds(&open(&disk).unwrap(), &blocks);
}

#[test]
fn a_failed_sync_ends_writing_but_not_reading() {
    let disk = Arc::new(MemDisk::new());
    let blocks = chain(3);
    let store = open(&disk).unwrap();
    store.append(&blocks[0]).unwrap();
    disk.set_fault(Some(Fault {
        at: disk.operations() + 1,
        kind: FaultKind::Io,
        sticky: false,
    }));
    let error = store.append(&blocks[1]).unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
    assert!(matches!(
        store.append(&blocks[1]),
        Err(BlockStoreError::Poisoned)
    ));
    check_holds(&store, &blocks[..1]);
}

/// Flips one bit anywhere: either the damaged block is named, or it was the newest one and looks
/// like a torn write. Nothing wrong is ever served.
#[test]
fn damage_is_named_or_cut_off() {
    let blocks = chain(8);
    let one_segment = || BlockStoreOptions {
        segment_bytes: 1 << 20,
        ..Default::default()
    };
    let disk = Arc::new(MemDisk::new());
    let store = BlockStore::open(disk.clone(), Path::new(DIR), one_segment()).unwrap();
    for block in &blocks {
        store.append(block).unwrap();
    }
    let last = store.inner.read().active.as_ref().unwrap().offsets[7];
    drop(store);
    let path = segment::segment_path(Path::new(DIR), 0);
    let whole = disk.read(&path, 1 << 20).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let disk = Arc::new(MemDisk::new());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.write_atomic(&path, &damaged).unwrap();
        let opened = BlockStore::open(disk, Path::new(DIR), one_segment());
        if at as u64 >= last {
            check_holds(&opened.unwrap(), &blocks[..7]);
        } else {
            let error = opened.expect_err("damage shows");
            assert!(
                matches!(error, BlockStoreError::Corrupt { .. }),
                "byte {at}: {error:?}"
            );
        }
    }
}

/// Finished segments are not read at start; their damage shows when they are.
/// A record that looks whole and says another number than the block inside it: taken as it is, the
/// store would count on from there and lose what it acknowledges next.
#[test]
fn a_block_under_another_number_is_refused() {
    for number in [0, 7, u64::MAX] {
        let disk = Arc::new(MemDisk::new());
        let store = open(&disk).unwrap();
        let mut blocks = chain(2);
        store.append(&blocks[0]).unwrap();
        let header = blocks[1].header.clone().unwrap();
        blocks[1].header.as_mut().unwrap().number = number;
        let raw = Bytes::from(blocks[1].encode_to_vec());
        store.append_encoded(&[(header, raw)]).unwrap();
        drop(store);
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains("(block 1)"), "{error}");
        assert!(error.contains("number inside the block"), "{error}");
    }
}

/// File names are not ours alone to make: numbers at the end of their range are survived.
#[test]
fn segments_at_the_end_of_all_numbers_are_survived() {
    let disk = Arc::new(MemDisk::new());
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).unwrap();
    for first in [0, u64::MAX - 1, u64::MAX] {
        let path = segment::segment_path(dir, first);
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        file.append(&record::segment_header(first)).unwrap();
    }
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.contains("block 0 is missing"), "{error}");
}

#[test]
fn damage_in_old_segments_shows_on_reading() {
    let blocks = chain(20);
    let disk = Arc::new(MemDisk::new());
    let store = open(&disk).unwrap();
    for block in &blocks {
        store.append(block).unwrap();
    }
    drop(store);
    let path = segment::segment_path(Path::new(DIR), 0);
    let mut damaged = disk.read(&path, 1 << 20).unwrap();
    damaged[SEGMENT_HEADER + RECORD_HEADER + 5] ^= 1;
    disk.write_atomic(&path, &damaged).unwrap();
    let store = open(&disk).unwrap();
    assert!(matches!(
        store.raw_block(0),
        Err(BlockStoreError::Corrupt { block: 0, .. })
    ));
    assert!(store.verify().is_err());
    assert_eq!(store.block(1).unwrap(), blocks[1]);
}

#[test]
fn a_lost_segment_is_noticed() {
    let disk = Arc::new(MemDisk::new());
    let store = open(&disk).unwrap();
    for block in &chain(30) {
        store.append(block).unwrap();
    }
    let finished = store.inner.read().finished.clone();
    drop(store);
    assert!(finished.len() > 3);
    let path = segment::segment_path(Path::new(DIR), finished[1]);
    disk.remove_file(&path).unwrap();
    assert!(matches!(open(&disk), Err(BlockStoreError::Gap { .. })));
}

#[test]
fn a_lost_index_is_made_again() {
    let disk = Arc::new(MemDisk::new());
    let blocks = chain(30);
    let store = open(&disk).unwrap();
    for block in &blocks {
        store.append(block).unwrap();
    }
    drop(store);
    let names = disk.list(Path::new(DIR)).unwrap();
    for name in names.iter().filter(|n| n.ends_with(".idx")) {
        disk.remove_file(&Path::new(DIR).join(name)).unwrap();
    }
    check_holds(&open(&disk).unwrap(), &blocks);
}

proptest! {
    /// Whatever lies in a segment file, opening it does not panic, and what it serves is intact.
    #[test]
    fn noise_does_no_harm(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        keep in 0usize..900,
    ) {
        let disk = Arc::new(MemDisk::new());
        let blocks = chain(6);
        let store = open(&disk).unwrap();
        for block in &blocks {
            store.append(block).unwrap();
        }
        let first = store.inner.read().active.as_ref().unwrap().first;
        drop(store);
        let path = segment::segment_path(Path::new(DIR), first);
        let mut data = disk.read(&path, 1 << 20).unwrap();
        data.truncate(keep);
        data.extend_from_slice(&noise);
        disk.write_atomic(&path, &data).unwrap();
        if let Ok(store) = open(&disk) {
            for number in 0..store.height() {
                prop_assert_eq!(&store.block(number).unwrap(), &blocks[number as usize]);
            }
        }
    }
}
