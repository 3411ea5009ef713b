//! The consenters that a configuration names.

use std::collections::BTreeSet;

use selvage_proto::common::Consenter;

use crate::context::{Id, Voter, Voters};
use crate::keys::{Key, Keys};

/// The consenters with their keys, or what is wrong with them.
pub(crate) fn voters_of(consenters: &[Consenter], keys: &dyn Keys) -> Result<Voters, String> {
    let mut voters: Vec<Voter> = Vec::new();
    let mut ids = BTreeSet::new();
    for consenter in consenters {
        let id = Id(consenter.id);
        if consenter.id == 0 || !ids.insert(id) {
            return Err(format!(
                "consenter {}:{} has number {id}, which is 0 or another's",
                consenter.host, consenter.port
            ));
        }
        let key = Key::new(keys, consenter)
            .map_err(|error| format!("the identity of consenter {id} cannot be used: {error}"))?;
        // Whoever had two votes could make a quorum with fewer others than it takes.
        if let Some(other) = voters.iter().find(|voter| voter.key == key) {
            let other = other.id;
            return Err(format!(
                "consenters {other} and {id} have the same identity"
            ));
        }
        voters.push(Voter { id, key });
    }
    if voters.is_empty() {
        return Err("the configuration names no consenters".to_owned());
    }
    voters.sort_by_key(|voter| voter.id);
    Ok(Voters(voters.into()))
}

/// This node's number among the consenters.
pub(crate) fn number_of(consenters: &[Consenter], keys: &dyn Keys) -> Option<Id> {
    let mut consenters = consenters.iter();
    consenters.find(|c| keys.is_me(c)).map(|c| Id(c.id))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::keys::Verifier;

    struct Named;

    impl Keys for Named {
        fn is_me(&self, consenter: &Consenter) -> bool {
            consenter.identity == "me"
        }

        fn sign(&self, _: &[u8]) -> Vec<u8> {
            Vec::new()
        }

        fn verifier(&self, consenter: &Consenter) -> Result<Arc<dyn Verifier>, String> {
            Err(format!("{:?} is no certificate", consenter.identity))
        }
    }

    fn consenter(id: u32, identity: &'static str) -> Consenter {
        Consenter {
            id,
            identity: identity.into(),
            ..Consenter::default()
        }
    }

    #[test]
    fn unusable_consenters_are_named() {
        let check = |consenters: &[Consenter], text: &str| {
            let error = voters_of(consenters, &Named).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        check(&[], "no consenters");
        check(&[consenter(0, "x")], "number 0");
        check(
            &[consenter(4, "x")],
            "consenter 4 cannot be used: b\"x\" is no",
        );
        let found = number_of(&[consenter(3, "x"), consenter(7, "me")], &Named);
        assert_eq!(found, Some(Id(7)));
    }
}
