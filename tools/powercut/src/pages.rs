//! Contents in pages: how a file system writes them, in any order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE: usize = 4096;

/// Numbers from a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(usize::MAX) % n.max(1)
    }
}

/// What may be left of a file that held `synced` when it was synced and `live` when the power went.
pub(crate) fn mixed(synced: Vec<u8>, live: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    match dice.below(4) {
        0 => synced,
        1 => live,
        // Written from the front, up to some byte.
        2 if live.len() > synced.len() && live.starts_with(&synced) => {
            let more = dice.below(live.len() - synced.len() + 1);
            live[..synced.len() + more].to_vec()
        }
        _ => {
            let length = if dice.one_in(2) {
                live.len()
            } else {
                synced.len()
            };
            let mut left = vec![0; length];
            for (number, page) in left.chunks_mut(PAGE).enumerate() {
                let from = if dice.one_in(2) { &live } else { &synced };
                let from = from.get(number * PAGE..).unwrap_or_default();
                let length = from.len().min(page.len());
                page[..length].copy_from_slice(&from[..length]);
            }
            left
        }
    }
}

/// Writes a file; pages of zeros become holes, since databases set aside tens of megabytes.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(content.len() as u64)?;
    for (number, page) in content.chunks(PAGE).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, (number * PAGE) as u64)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every page of what is left is the old one, the new one, or was never written; what comes of
    /// many seeds includes both whole contents, torn ends and holes.
    #[test]
    fn what_is_left_is_made_of_old_and_new_pages() {
        let synced = vec![1; PAGE + 100];
        let mut live = synced.clone();
        live.extend(vec![2; 3 * PAGE]);
        let (mut whole, mut old, mut torn, mut holes) = (0, 0, 0, 0);
        for seed in 0..200 {
            let left = mixed(synced.clone(), live.clone(), &mut Dice::new(seed));
            assert!((synced.len()..=live.len()).contains(&left.len()));
            assert_eq!(left[..synced.len()], synced, "what was synced stays");
            whole += usize::from(left == live);
            old += usize::from(left == synced);
            torn += usize::from(left.len() % PAGE != 100 && live.starts_with(&left));
            holes += usize::from(left[synced.len()..].contains(&0));
        }
        assert!(whole > 0 && old > 0 && torn > 0 && holes > 0);
    }

    #[test]
    fn holes_are_read_as_zeros() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("file");
        let mut content = vec![0; 3 * PAGE + 1];
        content[PAGE] = 7;
        write(&path, &content).expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), content);
    }
}
