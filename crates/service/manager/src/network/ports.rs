//! Ports for nodes: below the range the system gives to outgoing connections, so that a node finds
//! its port free again after a restart.

use std::collections::HashSet;
use std::net::TcpListener;
use std::ops::Range;

use crate::error::ManagerError;

/// Where ports are taken from.
const RANGE: Range<u16> = 21_000..31_900;

/// Whether nobody listens on a port of an address.
pub(crate) fn is_free(host: &str, port: u16) -> bool {
    TcpListener::bind((host, port)).is_ok()
}

/// Finds `count` free ports that no instance holds, starting at a place that depends on `seed`, so
/// that several managers of one host rarely look at the same ones.
pub(crate) fn find(
    host: &str,
    count: usize,
    held: &[u16],
    seed: u64,
) -> Result<Vec<u16>, ManagerError> {
    let held: HashSet<u16> = held.iter().copied().collect();
    let size = u64::from(RANGE.end - RANGE.start);
    let start = RANGE.start + u16::try_from(seed % size).unwrap_or_default();
    let found: Vec<u16> = (start..RANGE.end)
        .chain(RANGE.start..start)
        .filter(|p| !held.contains(p) && is_free(host, *p))
        .take(count)
        .collect();
    if found.len() < count {
        return Err(ManagerError::Driver(format!(
            "only {} of {count} ports between {} and {} are free on {host}; stop programs that \
             listen there or delete an instance",
            found.len(),
            RANGE.start,
            RANGE.end
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_and_held_ports_are_passed_over() {
        let first = find("127.0.0.1", 3, &[], 77).expect("free ports");
        let second = find("127.0.0.1", 3, &first, 77).expect("more free ports");
        assert!(second.iter().all(|p| !first.contains(p)));
        let listener = TcpListener::bind(("127.0.0.1", second[0]));
        if listener.is_ok() {
            let third = find("127.0.0.1", 3, &first, 77).expect("yet more");
            assert!(!third.contains(&second[0]));
        }
    }
}
