//! Whose endorsement a simulated transaction needs, as a hint for whoever plans endorsements
//! (Fabric: `buildChaincodeInterest`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvage_ledger::Simulation;
use selvage_proto::common::SignaturePolicyEnvelope;
use selvage_proto::peer::{ChaincodeCall, ChaincodeInterest, MetaDataKeys};
use selvage_proto::rwset::TxReadWriteSet;

use crate::chaincode_glue::is_system;

/// Chaincodes and collections that were touched.
#[derive(Default)]
struct Touched {
    /// Key-level policies of written keys, by namespace.
    key_policies: BTreeMap<String, Vec<SignaturePolicyEnvelope>>,
    /// By namespace and collection (empty: public), whether the chaincode's own policy counts.
    required: BTreeMap<String, BTreeMap<String, bool>>,
}

/// What a client passes to discovery to learn who must endorse.
pub(crate) fn of(simulation: &Simulation) -> Result<ChaincodeInterest, String> {
    let mut touched = written(simulation)?;
    let results = TxReadWriteSet::decode(simulation.results.clone())
        .map_err(|e| format!("the read/write set cannot be read: {e}"))?;
    for namespace in results.ns_rwset.into_iter().map(|n| n.namespace) {
        if !is_system(&namespace) {
            // Nothing of it was written, so the chaincode's policy alone decides.
            let only_read = || BTreeMap::from([(String::new(), true)]);
            touched.required.entry(namespace).or_insert_with(only_read);
        }
    }
    for (namespace, collection) in &simulation.private_reads {
        let collections = touched.required.entry(namespace.clone()).or_default();
        collections.insert(collection.clone(), true);
    }
    let mut chaincodes = Vec::new();
    for (namespace, collections) in &touched.required {
        if is_system(namespace) {
            continue;
        }
        for collection in collections.keys() {
            chaincodes.extend(call(namespace, collection, &touched, simulation));
        }
    }
    Ok(ChaincodeInterest { chaincodes })
}

fn written(simulation: &Simulation) -> Result<Touched, String> {
    let mut touched = Touched::default();
    let parameter = MetaDataKeys::ValidationParameter.as_str_name();
    for ((namespace, collection, _), metadata) in &simulation.written_metadata {
        let public_only = || BTreeMap::from([(String::new(), false)]);
        let collections = touched
            .required
            .entry(namespace.clone())
            .or_insert_with(public_only);
        match metadata.get(parameter) {
            None => {
                collections.insert(collection.clone(), true);
            }
            Some(policy) => {
                let policies = touched.key_policies.entry(namespace.clone()).or_default();
                policies.push(decode_policy(policy)?);
            }
        }
    }
    Ok(touched)
}

fn decode_policy(policy: &Bytes) -> Result<SignaturePolicyEnvelope, String> {
    SignaturePolicyEnvelope::decode(policy.clone())
        .map_err(|e| format!("error unmarshalling SignaturePolicyEnvelope: proto: {e}"))
}

fn call(
    namespace: &str,
    collection: &str,
    touched: &Touched,
    simulation: &Simulation,
) -> Option<ChaincodeCall> {
    let mut call = ChaincodeCall {
        name: namespace.to_owned(),
        ..Default::default()
    };
    if !collection.is_empty() {
        let place = (namespace.to_owned(), collection.to_owned());
        call.no_private_reads = !simulation.private_reads.contains(&place);
        call.collection_names = vec![collection.to_owned()];
        return Some(call);
    }
    let required = touched.required.get(namespace).and_then(|c| c.get("")) == Some(&true);
    call.key_policies = touched
        .key_policies
        .get(namespace)
        .cloned()
        .unwrap_or_default();
    if call.key_policies.is_empty() && !required {
        return None;
    }
    call.disregard_namespace_policy = !required;
    Some(call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_ledger::Metadata;
    use selvage_proto::rwset::NsReadWriteSet;

    fn simulation(
        namespaces: &[&str],
        written: &[(&str, &str, bool)],
        private_reads: &[(&str, &str)],
    ) -> Simulation {
        let policy = Bytes::from(SignaturePolicyEnvelope::default().encode_to_vec());
        let metadata = |with_policy: bool| -> Metadata {
            let entry = ("VALIDATION_PARAMETER".to_owned(), policy.clone());
            with_policy.then_some(entry).into_iter().collect()
        };
        let set = TxReadWriteSet {
            data_model: 0,
            ns_rwset: namespaces
                .iter()
                .map(|n| NsReadWriteSet {
                    namespace: (*n).to_owned(),
                    ..Default::default()
                })
                .collect(),
        };
        Simulation {
            results: set.encode_to_vec().into(),
            private: None,
            private_reads: private_reads
                .iter()
                .map(|(n, c)| ((*n).to_owned(), (*c).to_owned()))
                .collect(),
            written_metadata: written
                .iter()
                .enumerate()
                .map(|(i, (n, c, p))| {
                    (
                        ((*n).to_owned(), (*c).to_owned(), format!("k{i}")),
                        metadata(*p),
                    )
                })
                .collect(),
        }
    }

    /// Name, collection, without private reads, number of key policies, policy disregarded.
    type Row<'a> = (&'a str, &'a str, bool, usize, bool);

    fn check(simulation: Simulation, expected: &[Row<'_>]) {
        let found = of(&simulation).unwrap();
        let rows: Vec<Row<'_>> = found
            .chaincodes
            .iter()
            .map(|c| {
                let collection = c.collection_names.first().map_or("", String::as_str);
                let policies = c.key_policies.len();
                (
                    c.name.as_str(),
                    collection,
                    c.no_private_reads,
                    policies,
                    c.disregard_namespace_policy,
                )
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn interests_follow_what_was_touched() {
        check(
            simulation(&["_lifecycle", "a"], &[], &[]),
            &[("a", "", false, 0, false)],
        );
        check(
            simulation(&["a"], &[("a", "", false)], &[]),
            &[("a", "", false, 0, false)],
        );
        // Only keys with policies of their own were written.
        check(
            simulation(&["a"], &[("a", "", true)], &[]),
            &[("a", "", false, 1, true)],
        );
        let both = simulation(&["a"], &[("a", "", true), ("a", "", false)], &[]);
        check(both, &[("a", "", false, 1, false)]);
        // Writing private data only leaves the public policy out.
        let private = simulation(&["a"], &[("a", "c", false)], &[]);
        check(private, &[("a", "c", true, 0, false)]);
        let read = simulation(&["a"], &[], &[("a", "c")]);
        check(
            read,
            &[("a", "", false, 0, false), ("a", "c", false, 0, false)],
        );
        check(
            simulation(&["_lifecycle"], &[("_lifecycle", "", false)], &[]),
            &[],
        );
    }
}
