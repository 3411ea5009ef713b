//! Which peers to ask for endorsements, and when there are enough
//! (Fabric: `internal/pkg/gateway/endorsement.go`).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use selvage_proto::gateway::ErrorDetail;
use selvage_proto::peer::{Endorsement, ProposalResponse};

use super::errors::Trouble;

/// A peer that can be asked to endorse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endorser {
    /// `host:port`; unique among the peers of a channel.
    pub(crate) address: String,
    /// Its organisation.
    pub(crate) msp_id: String,
    /// Whether it is this very peer.
    pub(crate) local: bool,
}

impl Endorser {
    /// A detail that says what this peer did wrong.
    pub(crate) fn detail(&self, message: impl Into<String>) -> ErrorDetail {
        ErrorDetail {
            address: self.address.clone(),
            msp_id: self.msp_id.clone(),
            message: message.into(),
        }
    }

    /// What went wrong with this peer: what it said, and what would help where that is known.
    pub(crate) fn details(&self, trouble: Trouble) -> impl Iterator<Item = ErrorDetail> + use<'_> {
        let advice = trouble.advice.map(|advice| self.detail(advice));
        std::iter::once(self.detail(trouble.message)).chain(advice)
    }
}

/// A combination of groups that satisfies the policy: how many peers of each are still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) required: BTreeMap<String, usize>,
    endorsements: Vec<Endorsement>,
}

impl Layout {
    pub(crate) fn new(required: BTreeMap<String, usize>) -> Self {
        Self {
            required,
            endorsements: Vec::new(),
        }
    }
}

/// Layouts to try one after the other, and the peers of each group, the best first.
#[derive(Debug)]
pub(crate) struct Plan {
    layouts: VecDeque<Layout>,
    groups: BTreeMap<String, VecDeque<Arc<Endorser>>>,
    /// Group of each peer by address.
    group_of: BTreeMap<String, String>,
    payload: Option<Bytes>,
    completed: Option<Layout>,
    errors: Vec<ErrorDetail>,
}

impl Plan {
    pub(crate) fn new(layouts: Vec<Layout>, groups: BTreeMap<String, Vec<Arc<Endorser>>>) -> Self {
        let mut group_of = BTreeMap::new();
        for (group, endorsers) in &groups {
            for endorser in endorsers {
                group_of.insert(endorser.address.clone(), group.clone());
            }
        }
        let groups = groups.into_iter().map(|(g, e)| (g, e.into())).collect();
        Self {
            layouts: layouts.into(),
            groups,
            group_of,
            payload: None,
            completed: None,
            errors: Vec::new(),
        }
    }

    /// A plan that needs one peer of each group, in the one combination there is.
    pub(crate) fn one_of_each(groups: BTreeMap<String, Vec<Arc<Endorser>>>) -> Self {
        let required = groups.keys().map(|group| (group.clone(), 1)).collect();
        Self::new(vec![Layout::new(required)], groups)
    }

    /// Takes out the peers that the next possible layout needs; `None` when none is left.
    pub(crate) fn endorsers(&mut self) -> Option<Vec<Arc<Endorser>>> {
        loop {
            let layout = self.layouts.front()?;
            let enough = layout.required.iter().all(|(group, count)| {
                self.groups
                    .get(group)
                    .is_some_and(|peers| peers.len() >= *count)
            });
            if !enough {
                self.layouts.pop_front();
                continue;
            }
            let mut out = Vec::new();
            for (group, count) in &layout.required {
                if let Some(peers) = self.groups.get_mut(group) {
                    out.extend(peers.drain(..*count));
                }
            }
            return Some(out);
        }
    }

    /// Counts an endorsement wherever it helps. False when its payload differs from the others'.
    pub(crate) fn endorsed(&mut self, endorser: &Endorser, response: ProposalResponse) -> bool {
        let Some(group) = self.group_of.get(&endorser.address) else {
            // A peer that no layout uses; its payload still is what the others must agree with.
            return self.agrees(endorser, response.payload);
        };
        let group = group.clone();
        if let Some(peers) = self.groups.get_mut(&group) {
            peers.retain(|peer| peer.address != endorser.address);
        }
        if !self.agrees(endorser, response.payload) {
            return false;
        }
        for layout in &mut self.layouts {
            let Some(count) = layout.required.get_mut(&group) else {
                continue;
            };
            *count = count.saturating_sub(1);
            if *count == 0 {
                layout.required.remove(&group);
            }
            layout.endorsements.extend(response.endorsement.clone());
            if layout.required.is_empty() {
                self.completed = Some(layout.clone());
                return true;
            }
        }
        true
    }

    fn agrees(&mut self, endorser: &Endorser, payload: Bytes) -> bool {
        let first = self.payload.get_or_insert_with(|| payload.clone());
        if *first == payload {
            return true;
        }
        let address = &endorser.address;
        tracing::warn!(endorser = %address, "ProposalResponsePayloads do not match");
        self.failed(endorser.detail("ProposalResponsePayloads do not match"));
        false
    }

    /// Another peer that can take the place of one that failed, or else the group that is used up.
    pub(crate) fn next_in_group(&mut self, endorser: &Endorser) -> Result<Arc<Endorser>, String> {
        let group = self
            .group_of
            .get(&endorser.address)
            .cloned()
            .unwrap_or_default();
        let next = self.groups.get_mut(&group).and_then(VecDeque::pop_front);
        next.ok_or(group)
    }

    /// Gives up the layout just tried and every other one that needs a group that is used up.
    pub(crate) fn abandon(&mut self, groups: &[String]) {
        self.layouts.pop_front();
        self.without(groups);
    }

    /// Gives up every layout that needs one of the groups.
    pub(crate) fn without(&mut self, groups: &[String]) {
        let used_up = |layout: &Layout| groups.iter().any(|g| layout.required.contains_key(g));
        self.layouts.retain(|layout| !used_up(layout));
    }

    /// Notes what a peer did wrong.
    pub(crate) fn failed(&mut self, detail: ErrorDetail) {
        self.errors.push(detail);
    }

    /// Whether a layout is satisfied.
    pub(crate) fn is_complete(&self) -> bool {
        self.completed.is_some()
    }

    /// The agreed payload and the endorsements of the satisfied layout, one of each endorser; or
    /// everything that went wrong.
    pub(crate) fn finish(self) -> Result<(Bytes, Vec<Endorsement>), Vec<ErrorDetail>> {
        match self.completed {
            Some(layout) => Ok((
                self.payload.unwrap_or_default(),
                unique(layout.endorsements),
            )),
            None => Err(self.errors),
        }
    }
}

fn unique(endorsements: Vec<Endorsement>) -> Vec<Endorsement> {
    let mut seen = HashSet::new();
    let mut out = Vec::with_capacity(endorsements.len());
    for endorsement in endorsements {
        if seen.insert(endorsement.endorser.clone()) {
            out.push(endorsement);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Arc<Endorser> {
        Arc::new(Endorser {
            address: name.into(),
            msp_id: name[..1].to_owned(),
            local: false,
        })
    }

    fn groups(names: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Arc<Endorser>>> {
        let peers = |names: &[&str]| names.iter().map(|n| peer(n)).collect();
        names
            .iter()
            .map(|(group, names)| ((*group).to_owned(), peers(names)))
            .collect()
    }

    fn layout(required: &[(&str, usize)]) -> Layout {
        Layout::new(
            required
                .iter()
                .map(|(g, n)| ((*g).to_owned(), *n))
                .collect(),
        )
    }

    fn response(endorser: &str, payload: &str) -> ProposalResponse {
        ProposalResponse {
            payload: payload.to_owned().into(),
            endorsement: Some(Endorsement {
                endorser: endorser.to_owned().into(),
                signature: Bytes::new(),
            }),
            ..Default::default()
        }
    }

    fn names(peers: Option<Vec<Arc<Endorser>>>) -> String {
        let names: Vec<String> = peers
            .unwrap_or_default()
            .iter()
            .map(|p| p.address.clone())
            .collect();
        names.join(" ")
    }

    #[test]
    fn a_layout_completes_with_what_it_needs() {
        let mut plan = Plan::new(
            vec![layout(&[("A", 1), ("B", 1)])],
            groups(&[("A", &["a1", "a2"]), ("B", &["b1"])]),
        );
        // The first endorser was asked before the plan was made.
        assert!(plan.endorsed(&peer("a1"), response("a1", "p")));
        assert!(!plan.is_complete());
        assert_eq!(names(plan.endorsers()), "b1");
        assert!(plan.endorsed(&peer("b1"), response("b1", "p")));
        let (payload, endorsements) = plan.finish().unwrap();
        assert_eq!((payload.as_ref(), endorsements.len()), (b"p".as_slice(), 2));
    }

    #[test]
    fn another_peer_of_the_group_takes_over() {
        let mut plan = Plan::one_of_each(groups(&[("A", &["a1", "a2"])]));
        assert_eq!(names(plan.endorsers()), "a1");
        assert_eq!(plan.next_in_group(&peer("a1")).unwrap().address, "a2");
        assert_eq!(plan.next_in_group(&peer("a2")), Err("A".to_owned()));
        plan.failed(peer("a2").detail("gone"));
        plan.abandon(&["A".to_owned()]);
        assert_eq!(plan.endorsers(), None);
        assert_eq!(plan.finish().unwrap_err()[0].message, "gone");
    }

    #[test]
    fn the_next_layout_is_tried_without_the_group_that_failed() {
        let mut plan = Plan::new(
            vec![
                layout(&[("A", 1), ("B", 1)]),
                layout(&[("B", 1), ("C", 1)]),
                layout(&[("A", 1), ("C", 1)]),
            ],
            groups(&[("A", &["a1"]), ("B", &["b1"]), ("C", &["c1"])]),
        );
        assert!(plan.endorsed(&peer("a1"), response("a1", "p")));
        assert_eq!(names(plan.endorsers()), "b1");
        assert_eq!(plan.next_in_group(&peer("b1")), Err("B".to_owned()));
        plan.abandon(&["B".to_owned()]);
        assert_eq!(names(plan.endorsers()), "c1");
        assert!(plan.endorsed(&peer("c1"), response("c1", "p")));
        assert!(plan.is_complete());
    }

    #[test]
    fn payloads_must_agree_and_endorsers_count_once() {
        let mut plan = Plan::one_of_each(groups(&[("A", &["a1"]), ("B", &["b1"])]));
        assert!(plan.endorsed(&peer("a1"), response("a1", "p")));
        assert!(!plan.endorsed(&peer("b1"), response("b1", "q")));
        assert!(!plan.is_complete());
        let errors = plan.finish().unwrap_err();
        assert_eq!(errors[0].message, "ProposalResponsePayloads do not match");
        let mut plan = Plan::one_of_each(groups(&[("A", &["a1"]), ("B", &["b1"])]));
        assert!(plan.endorsed(&peer("a1"), response("same", "p")));
        assert!(plan.endorsed(&peer("b1"), response("same", "p")));
        assert_eq!(plan.finish().unwrap().1.len(), 1);
    }

    #[test]
    fn layouts_with_too_few_peers_are_skipped() {
        let mut plan = Plan::new(
            vec![layout(&[("A", 2)]), layout(&[("B", 1)])],
            groups(&[("A", &["a1"]), ("B", &["b1"])]),
        );
        assert_eq!(names(plan.endorsers()), "b1");
    }
}
