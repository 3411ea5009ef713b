//! Which sets of principals satisfy a policy (Fabric: `common/policies/inquire`, `common/graph`).
//!
//! A signature policy is unfolded into every combination of principals that satisfies it, and two
//! policies are merged into the combinations that satisfy both. Nothing here looks at peers.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::signature_policy::Type as Rule;
use selvage_proto::common::{
    MspPrincipal, MspRole, OrganizationUnit, SignaturePolicy, SignaturePolicyEnvelope,
};
use selvage_proto::msp::SerializedIdentity;

/// Most combinations one policy is unfolded into, Fabric's own bound. A policy with more has its
/// last branches left out, which only costs choices, never correctness.
const MAX_COMBINATIONS: usize = 10_000;

/// Most principals in all combinations of one policy, for the same reason: combinations may be
/// long.
const MAX_PRINCIPALS: usize = 200_000;

/// Most branches of one rule that are looked at. A rule that needs more cannot be planned.
const MAX_BRANCHES: usize = 1000;

/// Most combinations of each of two policies that are merged, and most that come of it: each is
/// compared with each.
const MAX_MERGED: usize = 1000;

/// Deepest nesting of a policy that is followed.
const MAX_DEPTH: usize = 32;

/// One principal, decoded far enough to say whether it implies another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    raw: MspPrincipal,
    msp_id: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Role(i32),
    Unit { name: String, certifiers: Bytes },
    Identity(Bytes),
}

impl Principal {
    /// Decodes a principal; `None` for kinds that planning cannot compare, and for bad bytes.
    pub(crate) fn new(raw: &MspPrincipal) -> Option<Self> {
        let bytes = raw.principal.clone();
        let (msp_id, kind) = match Classification::try_from(raw.principal_classification).ok()? {
            Classification::Role => {
                let role = MspRole::decode(bytes).ok()?;
                (role.msp_identifier, Kind::Role(role.role))
            }
            Classification::OrganizationUnit => {
                let unit = OrganizationUnit::decode(bytes).ok()?;
                let kind = Kind::Unit {
                    name: unit.organizational_unit_identifier,
                    certifiers: unit.certifiers_identifier,
                };
                (unit.msp_identifier, kind)
            }
            Classification::Identity => {
                let identity = SerializedIdentity::decode(bytes).ok()?;
                (identity.mspid, Kind::Identity(identity.id_bytes))
            }
            Classification::Anonymity | Classification::Combined => return None,
        };
        Some(Self {
            raw: raw.clone(),
            msp_id,
            kind,
        })
    }

    /// The principal as it came.
    pub(crate) fn raw(&self) -> &MspPrincipal {
        &self.raw
    }

    /// The organisation of which somebody in a role is asked for, unless that is any member.
    pub(crate) fn role_in(&self) -> Option<&str> {
        match self.kind {
            Kind::Role(role) if role != MspRoleType::Member as i32 => Some(&self.msp_id),
            _ => None,
        }
    }

    /// Whether every identity that satisfies `self` satisfies `other` too.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        if self.msp_id != other.msp_id {
            return false;
        }
        match (&self.kind, &other.kind) {
            (_, Kind::Role(role)) if *role == MspRoleType::Member as i32 => true,
            (mine, theirs) => mine == theirs,
        }
    }
}

/// Principals that satisfy a policy together; a principal may occur more than once.
pub(crate) type PrincipalSet = Vec<Principal>;

/// Every combination of principals that satisfies the policy. Empty when nothing can.
pub(crate) fn satisfied_by(policy: &SignaturePolicyEnvelope) -> Vec<PrincipalSet> {
    let identities: Option<Vec<Principal>> = policy.identities.iter().map(Principal::new).collect();
    let (Some(identities), Some(rule)) = (identities, policy.rule.as_ref()) else {
        return Vec::new();
    };
    let combinations = unfold(rule, &identities, 0).unwrap_or_default();
    if combinations.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    combinations
}

fn unfold(rule: &SignaturePolicy, ids: &[Principal], depth: usize) -> Option<Vec<PrincipalSet>> {
    if depth > MAX_DEPTH {
        return None;
    }
    match rule.r#type.as_ref()? {
        Rule::SignedBy(index) => {
            let principal = ids.get(usize::try_from(*index).ok()?)?;
            Some(vec![vec![principal.clone()]])
        }
        Rule::NOutOf(gate) => {
            if gate.rules.is_empty() {
                return None;
            }
            let n = usize::try_from(gate.n).ok()?;
            if n > MAX_BRANCHES {
                return None;
            }
            let mut branches = gate
                .rules
                .iter()
                .take(MAX_BRANCHES)
                .map(|rule| unfold(rule, ids, depth + 1))
                .collect::<Option<Vec<_>>>()?;
            // Nothing comes of a branch that nobody satisfies, and behind many others it would
            // cost every combination of those to find out.
            branches.retain(|combinations| !combinations.is_empty());
            let mut out = Chosen::default();
            choose(&branches, n, Vec::new(), &mut out);
            Some(out.sets)
        }
    }
}

/// Combinations as far as there is room for them.
#[derive(Default)]
struct Chosen {
    sets: Vec<PrincipalSet>,
    principals: usize,
}

impl Chosen {
    fn is_full(&self) -> bool {
        self.sets.len() >= MAX_COMBINATIONS || self.principals >= MAX_PRINCIPALS
    }

    fn push(&mut self, set: PrincipalSet) {
        self.principals += set.len();
        self.sets.push(set);
    }
}

/// Picks `n` of the branches in every way, first branches first, and one combination of each.
fn choose(rest: &[Vec<PrincipalSet>], n: usize, have: PrincipalSet, out: &mut Chosen) {
    if out.is_full() {
        return;
    }
    if n == 0 {
        return out.push(have);
    }
    let Some((first, others)) = rest.split_first() else {
        return;
    };
    if rest.len() < n {
        return;
    }
    for combination in first {
        let mut with = have.clone();
        with.extend_from_slice(combination);
        choose(others, n - 1, with, out);
    }
    choose(others, n, have, out);
}

/// The combinations that satisfy every policy of the list; empty when the list is.
pub(crate) fn merge_all(mut policies: Vec<Vec<PrincipalSet>>) -> Vec<PrincipalSet> {
    if policies.is_empty() {
        return Vec::new();
    }
    let first = policies.remove(0);
    policies.into_iter().fold(first, merge)
}

/// The combinations that satisfy both policies, none of which contains another.
fn merge(mut left: Vec<PrincipalSet>, mut right: Vec<PrincipalSet>) -> Vec<PrincipalSet> {
    left.truncate(MAX_MERGED);
    right.truncate(MAX_MERGED);
    let left_in_right = containments(&left, &right);
    let mut out: Vec<PrincipalSet> = Vec::new();
    for (i, containing) in &left_in_right {
        let room = MAX_MERGED.saturating_sub(out.len());
        let covered = containing.iter().map(|j| cover(&left[*i], &right[*j]));
        out.extend(covered.take(room));
    }
    let left = without(left, |i| left_in_right.contains_key(&i));
    let right_in_left = containments(&right, &left);
    for (i, containing) in &right_in_left {
        let room = MAX_MERGED.saturating_sub(out.len());
        let covered = containing.iter().map(|j| cover(&right[*i], &left[*j]));
        out.extend(covered.take(room));
    }
    // What contains a set of the other side is dealt with above; the rest is combined pairwise.
    let covering_right: Vec<usize> = left_in_right.values().flatten().copied().collect();
    let covering_left: Vec<usize> = right_in_left.values().flatten().copied().collect();
    let right = without(right, |i| {
        right_in_left.contains_key(&i) || covering_right.contains(&i)
    });
    let left = without(left, |i| covering_left.contains(&i));
    for a in &left {
        for b in &right {
            if out.len() >= MAX_MERGED {
                return reduce(out);
            }
            out.push(cover(a, b));
        }
    }
    reduce(out)
}

/// For each set of `inner`, the sets of `outer` that imply all of its principals.
fn containments(inner: &[PrincipalSet], outer: &[PrincipalSet]) -> BTreeMap<usize, Vec<usize>> {
    let mut out: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, small) in inner.iter().enumerate() {
        for (j, large) in outer.iter().enumerate() {
            let contained = small.iter().all(|p| large.iter().any(|q| q.implies(p)));
            if contained {
                out.entry(i).or_default().push(j);
            }
        }
    }
    out
}

fn without(sets: Vec<PrincipalSet>, drop: impl Fn(usize) -> bool) -> Vec<PrincipalSet> {
    sets.into_iter()
        .enumerate()
        .filter(|(i, _)| !drop(*i))
        .map(|(_, set)| set)
        .collect()
}

/// `large` plus the principals of `small` that it does not cover, each of its own covering one.
fn cover(small: &PrincipalSet, large: &PrincipalSet) -> PrincipalSet {
    let mut used = vec![false; large.len()];
    let mut out = large.clone();
    for principal in small {
        let cover = (0..large.len()).find(|i| !used[*i] && large[*i].implies(principal));
        match cover {
            Some(i) => used[i] = true,
            None => out.push(principal.clone()),
        }
    }
    out
}

/// Drops every set that contains another, until none does.
fn reduce(mut sets: Vec<PrincipalSet>) -> Vec<PrincipalSet> {
    loop {
        let before = sets.len();
        let keep: Vec<bool> = (0..before).map(|i| !superfluous(&sets, i)).collect();
        sets = without(sets, |i| !keep[i]);
        if sets.len() == before {
            return sets;
        }
    }
}

fn superfluous(sets: &[PrincipalSet], i: usize) -> bool {
    sets.iter()
        .enumerate()
        .any(|(j, other)| j != i && subset(other, &sets[i]) && (!subset(&sets[i], other) || j < i))
}

fn subset(small: &PrincipalSet, large: &PrincipalSet) -> bool {
    small.iter().all(|p| large.contains(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_proto::common::signature_policy::NOutOf;

    fn principal(msp: &str, role: MspRoleType) -> MspPrincipal {
        let role = MspRole {
            msp_identifier: msp.into(),
            role: role as i32,
        };
        MspPrincipal {
            principal_classification: Classification::Role as i32,
            principal: role.encode_to_vec().into(),
        }
    }

    fn signed_by(index: i32) -> SignaturePolicy {
        SignaturePolicy {
            r#type: Some(Rule::SignedBy(index)),
        }
    }

    fn out_of(n: i32, rules: Vec<SignaturePolicy>) -> SignaturePolicy {
        SignaturePolicy {
            r#type: Some(Rule::NOutOf(NOutOf { n, rules })),
        }
    }

    fn policy(rule: SignaturePolicy, orgs: &[(&str, MspRoleType)]) -> SignaturePolicyEnvelope {
        SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule),
            identities: orgs.iter().map(|(m, r)| principal(m, *r)).collect(),
        }
    }

    fn names(sets: &[PrincipalSet]) -> Vec<String> {
        sets.iter()
            .map(|s| {
                let names: Vec<&str> = s.iter().map(|p| p.msp_id.as_str()).collect();
                names.join("+")
            })
            .collect()
    }

    #[test]
    fn policies_unfold_into_combinations() {
        use MspRoleType::Peer;
        let orgs = [("A", Peer), ("B", Peer), ("C", Peer)];
        let three = || vec![signed_by(0), signed_by(1), signed_by(2)];
        let check = |rule, expected: &[&str]| {
            assert_eq!(names(&satisfied_by(&policy(rule, &orgs))), expected);
        };
        check(signed_by(1), &["B"]);
        check(out_of(1, three()), &["A", "B", "C"]);
        check(out_of(2, three()), &["A+B", "A+C", "B+C"]);
        check(out_of(3, three()), &["A+B+C"]);
        check(out_of(4, three()), &[]);
        check(out_of(0, three()), &[]);
        check(out_of(1, vec![]), &[]);
        check(signed_by(3), &[]);
        check(signed_by(-1), &[]);
        let nested = out_of(
            2,
            vec![signed_by(0), out_of(1, vec![signed_by(1), signed_by(2)])],
        );
        check(nested, &["A+B", "A+C"]);
        check(out_of(2, vec![signed_by(0), signed_by(0)]), &["A+A"]);
    }

    #[test]
    fn combinations_are_bounded() {
        let rules: Vec<_> = (0..40).map(|_| signed_by(0)).collect();
        let wide = policy(out_of(20, rules), &[("A", MspRoleType::Peer)]);
        assert_eq!(satisfied_by(&wide).len(), MAX_COMBINATIONS);
        let mut deep = signed_by(0);
        for _ in 0..40 {
            deep = out_of(1, vec![deep]);
        }
        assert!(satisfied_by(&policy(deep, &[("A", MspRoleType::Peer)])).is_empty());
    }

    /// Each of these would take for ever, all memory or the stack if it were followed to its end.
    #[test]
    fn policies_that_are_made_to_cost_much_do_not() {
        use MspRoleType::Peer;
        let orgs = [("A", Peer), ("B", Peer)];
        let either = || out_of(1, vec![signed_by(0), signed_by(1)]);
        let unfolded = |rule| satisfied_by(&policy(rule, &orgs));
        let total = |sets: &[PrincipalSet]| sets.iter().map(Vec::len).sum::<usize>();
        // Every combination of sixty choices, to find that the last branch cannot be satisfied.
        let mut hopeless: Vec<_> = (0..60).map(|_| either()).collect();
        hopeless.push(out_of(2, vec![signed_by(0)]));
        assert!(unfolded(out_of(61, hopeless)).is_empty());
        // A hundred thousand branches of one rule, of which one or all are needed.
        let wide = || (0..100_000).map(|_| signed_by(0)).collect::<Vec<_>>();
        assert_eq!(unfolded(out_of(1, wide())).len(), MAX_BRANCHES);
        assert!(unfolded(out_of(100_000, wide())).is_empty());
        // Long combinations, as many as there may be.
        let long = (0..900).map(|_| either()).collect();
        let long = unfolded(out_of(900, long));
        assert!(total(&long) < MAX_PRINCIPALS + 900 && long.len() > 100);
        // Two policies in which everything contains everything.
        let many = || unfolded(out_of(20, (0..40).map(|_| signed_by(0)).collect()));
        let merged = merge_all(vec![many(), many(), many()]);
        assert_eq!(names(&merged), [["A"; 20].join("+")]);
    }

    #[test]
    fn merging_keeps_what_satisfies_both() {
        use MspRoleType::{Member, Peer};
        let either = |roles: [(&str, MspRoleType); 2]| {
            satisfied_by(&policy(out_of(1, vec![signed_by(0), signed_by(1)]), &roles))
        };
        let both = |roles: [(&str, MspRoleType); 2]| {
            satisfied_by(&policy(out_of(2, vec![signed_by(0), signed_by(1)]), &roles))
        };
        let check = |left, right, expected: &[&str]| {
            assert_eq!(names(&merge_all(vec![left, right])), expected);
        };
        let ab = [("A", Peer), ("B", Peer)];
        check(both(ab), both(ab), &["A+B"]);
        check(either(ab), both(ab), &["A+B"]);
        // A peer is a member, so the stricter principal stays.
        check(both(ab), both([("A", Member), ("B", Member)]), &["A+B"]);
        check(
            either(ab),
            either([("C", Peer), ("D", Peer)]),
            &["C+A", "D+A", "C+B", "D+B"],
        );
        check(
            either(ab),
            either([("B", Peer), ("C", Peer)]),
            &["B", "C+A"],
        );
        assert!(merge_all(Vec::new()).is_empty());
    }

    #[test]
    fn merged_principals_keep_their_plurality() {
        use MspRoleType::{Member, Peer};
        let twice = policy(
            out_of(2, vec![signed_by(0), signed_by(0)]),
            &[("A", Member)],
        );
        let once = policy(signed_by(0), &[("A", Peer)]);
        let merged = merge_all(vec![satisfied_by(&twice), satisfied_by(&once)]);
        assert_eq!(names(&merged), ["A+A"]);
    }
}
