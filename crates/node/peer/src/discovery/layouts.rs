//! Which peers, in which combinations, can endorse (Fabric: `discovery/endorsement`).

use std::collections::BTreeMap;

use super::principals::{Principal, PrincipalSet};

/// Why no combination of peers will do. The texts are Fabric's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLayout {
    /// The policy asks for peers that are not there.
    #[error("no peer combination can satisfy the endorsement policy")]
    TooFewPeers,
    /// They are there, but too few have the chaincode.
    #[error("required chaincodes are not installed on sufficient peers")]
    NotInstalled,
}

/// Combinations of groups, and the peers of each group by their index. A group stands for one
/// principal, and a peer that satisfies several is in several groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// The peers of each group that some layout uses.
    pub(crate) groups: BTreeMap<String, Vec<usize>>,
    /// How many peers of each group are needed together.
    pub(crate) layouts: Vec<BTreeMap<String, u32>>,
}

/// Turns principal sets into layouts over `peers` peers. `satisfies` says whether a peer satisfies
/// a principal, `has_chaincode` whether it can run what is called.
pub(crate) fn describe(
    sets: &[PrincipalSet],
    peers: usize,
    satisfies: impl Fn(usize, &Principal) -> bool,
    has_chaincode: impl Fn(usize) -> bool,
) -> Result<Descriptor, NoLayout> {
    let mut principals: Vec<&Principal> = Vec::new();
    let mut layouts = Vec::with_capacity(sets.len());
    for set in sets {
        let mut layout: BTreeMap<usize, u32> = BTreeMap::new();
        for principal in set {
            let known = principals.iter().position(|p| p.raw() == principal.raw());
            let index = known.unwrap_or_else(|| {
                principals.push(principal);
                principals.len() - 1
            });
            *layout.entry(index).or_default() += 1;
        }
        layouts.push(layout);
    }
    let satisfying: Vec<Vec<usize>> = principals
        .iter()
        .map(|principal| {
            (0..peers)
                .filter(|peer| satisfies(*peer, principal))
                .collect()
        })
        .collect();
    let enough = |layout: &BTreeMap<usize, u32>, count: &dyn Fn(usize) -> usize| {
        layout
            .iter()
            .all(|(group, needed)| count(*group) >= *needed as usize)
    };
    layouts.retain(|layout| enough(layout, &|group| satisfying[group].len()));
    if layouts.is_empty() {
        return Err(NoLayout::TooFewPeers);
    }
    let able: Vec<Vec<usize>> = satisfying
        .into_iter()
        .map(|peers| {
            peers
                .into_iter()
                .filter(|peer| has_chaincode(*peer))
                .collect()
        })
        .collect();
    let used = |group: usize| layouts.iter().any(|layout| layout.contains_key(&group));
    let groups = (0..able.len())
        .filter(|group| used(*group) && !able[*group].is_empty())
        .map(|group| (name(group), able[group].clone()))
        .collect();
    layouts.retain(|layout| enough(layout, &|group| able[group].len()));
    if layouts.is_empty() {
        return Err(NoLayout::NotInstalled);
    }
    let named =
        |layout: &BTreeMap<usize, u32>| layout.iter().map(|(g, n)| (name(*g), *n)).collect();
    Ok(Descriptor {
        groups,
        layouts: layouts.iter().map(named).collect(),
    })
}

fn name(group: usize) -> String {
    format!("G{group}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use selvage_proto::common::{MspPrincipal, MspRole};

    fn principal(msp: &str) -> Principal {
        let role = MspRole {
            msp_identifier: msp.into(),
            role: 3,
        };
        let raw = MspPrincipal {
            principal_classification: 0,
            principal: role.encode_to_vec().into(),
        };
        Principal::new(&raw).unwrap()
    }

    /// Peers 0 and 1 belong to A, peer 2 to B.
    fn satisfies(peer: usize, asked: &Principal) -> bool {
        let msp = if peer < 2 { "A" } else { "B" };
        *asked == principal(msp)
    }

    #[test]
    fn layouts_count_peers_by_principal() {
        let (a, b, c) = (principal("A"), principal("B"), principal("C"));
        let sets = [
            vec![a.clone(), b.clone()],
            vec![a.clone(), c],
            vec![a.clone(), a.clone()],
        ];
        let found = describe(&sets, 3, satisfies, |_| true).unwrap();
        let layout = |groups: &[(&str, u32)]| {
            groups
                .iter()
                .map(|(g, n)| ((*g).to_owned(), *n))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            found.layouts,
            [layout(&[("G0", 1), ("G1", 1)]), layout(&[("G0", 2)])]
        );
        assert_eq!(found.groups["G0"], [0, 1]);
        assert_eq!(found.groups["G1"], [2]);
        assert!(!found.groups.contains_key("G2"));
    }

    #[test]
    fn missing_peers_and_missing_chaincode_are_told_apart() {
        let (a, c) = (principal("A"), principal("C"));
        let check = |sets: &[PrincipalSet], installed: bool, expected| {
            let found = describe(sets, 3, satisfies, |_| installed);
            assert_eq!(found.err(), Some(expected));
        };
        check(&[vec![a.clone(), c]], true, NoLayout::TooFewPeers);
        check(
            &[vec![a.clone(), a.clone(), a.clone()]],
            true,
            NoLayout::TooFewPeers,
        );
        check(&[vec![a]], false, NoLayout::NotInstalled);
        check(&[], true, NoLayout::TooFewPeers);
    }
}
