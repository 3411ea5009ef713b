use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use selvage_crypto::sha256;
use selvage_proto::common::signature_policy::{NOutOf, Type as Rule};
use selvage_proto::common::{MspPrincipal, MspRole, SignaturePolicy, SignaturePolicyEnvelope};
use selvage_proto::peer::{
    CollectionConfig, CollectionPolicyConfig, StaticCollectionConfig, collection_config,
    collection_policy_config,
};

use super::*;
use crate::lifecycle::PolicyScope;
use crate::scc::stub::{InstalledPackage, Pairs, Place};

#[derive(Default)]
struct Memory {
    state: BTreeMap<(String, String, String), Vec<u8>>,
    writes: BTreeMap<(String, String, String), Option<Vec<u8>>>,
    reads: Vec<String>,
}

impl Memory {
    fn commit(&mut self) -> usize {
        let writes = std::mem::take(&mut self.writes);
        let count = writes.len();
        for (key, value) in writes {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        count
    }

    fn read(&self, ns: &str, collection: &str, key: &str) -> Option<Bytes> {
        let key = (ns.to_owned(), collection.to_owned(), key.to_owned());
        self.state.get(&key).map(|v| Bytes::from(v.clone()))
    }

    fn scan(&self, ns: &str, collection: &str, start: &str, end: &str) -> Pairs {
        let inside = |key: &str| key >= start && key < end;
        let entries = self.state.iter();
        entries
            .filter(|((n, c, k), _)| n == ns && c == collection && inside(k))
            .map(|((_, _, k), v)| (k.clone(), Bytes::from(v.clone())))
            .collect()
    }
}

fn at(place: Place<'_>) -> (String, String, String) {
    (
        place.namespace.into(),
        place.collection.into(),
        place.key.into(),
    )
}

impl State for Memory {
    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, String> {
        self.reads.push(format!("{namespace}:{key}"));
        Ok(self.read(namespace, "", key))
    }
    fn put(&mut self, namespace: &str, key: &str, value: Vec<u8>) -> Result<(), String> {
        self.writes
            .insert((namespace.into(), String::new(), key.into()), Some(value));
        Ok(())
    }
    fn delete(&mut self, namespace: &str, key: &str) -> Result<(), String> {
        self.writes
            .insert((namespace.into(), String::new(), key.into()), None);
        Ok(())
    }
    fn range(&mut self, namespace: &str, start: &str, end: &str) -> Result<Pairs, String> {
        Ok(self.scan(namespace, "", start, end))
    }
    fn private_get(&mut self, place: Place<'_>) -> Result<Option<Bytes>, String> {
        Ok(self.read(place.namespace, place.collection, place.key))
    }
    fn private_put(&mut self, place: Place<'_>, value: Vec<u8>) -> Result<(), String> {
        self.writes.insert(at(place), Some(value));
        Ok(())
    }
    fn private_delete(&mut self, place: Place<'_>) -> Result<(), String> {
        self.writes.insert(at(place), None);
        Ok(())
    }
    fn private_hash(&mut self, place: Place<'_>) -> Result<Option<Bytes>, String> {
        let value = self.read(place.namespace, place.collection, place.key);
        Ok(value.map(|v| Bytes::from(sha256(&v).to_vec())))
    }
    fn private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        (start, end): (&str, &str),
    ) -> Result<Pairs, String> {
        Ok(self.scan(namespace, collection, start, end))
    }
}

struct View {
    default_policy: bool,
}

impl PolicyScope for View {
    fn has_policy(&self, _: &str) -> bool {
        self.default_policy
    }
    fn application_orgs(&self) -> Vec<(String, String)> {
        let org = |n: u8| (format!("Org{n}"), format!("Org{n}MSP"));
        vec![org(1), org(2)]
    }
}

impl ChannelView for View {
    fn has_msp(&self, msp_id: &str) -> bool {
        ["Org1MSP", "Org2MSP"].contains(&msp_id)
    }
    fn knows_identity(&self, _: &[u8]) -> bool {
        false
    }
    fn check_policy(&self, _: &SignaturePolicyEnvelope) -> Result<(), String> {
        Ok(())
    }
    fn lifecycle_v20(&self) -> bool {
        true
    }
}

struct NoPackages;

impl Packages for NoPackages {
    fn install(&self, _: Bytes) -> BoxFuture<'_, Result<(String, String), String>> {
        async { Err("could not parse as a chaincode install package: x".into()) }.boxed()
    }
    fn list(&self) -> Vec<InstalledPackage> {
        vec![InstalledPackage {
            package_id: "basic_1:aa".into(),
            label: "basic_1".into(),
            references: vec![("ch".into(), "basic".into(), "1.0".into())],
        }]
    }
    fn load(&self, id: &str) -> Result<Bytes, String> {
        Err(format!("chaincode install package '{id}' not found"))
    }
}

struct Net {
    state: Memory,
    view: View,
}

impl Net {
    fn new() -> Self {
        Self {
            state: Memory::default(),
            view: View {
                default_policy: true,
            },
        }
    }

    fn call(&mut self, org: u8, function: &str, args: impl Message) -> Response {
        let msp_id = format!("Org{org}MSP");
        let call = Call {
            channel_id: "ch",
            view: Some(&self.view),
            msp_id: &msp_id,
            packages: &NoPackages,
        };
        invoke(&call, function, &encode(args), Some(&mut self.state))
    }

    fn approve(&mut self, org: u8, sequence: i64, package: &str) -> Response {
        let args = wire::ApproveChaincodeDefinitionForMyOrgArgs {
            name: "basic".into(),
            version: "1.0".into(),
            sequence,
            source: Some(source_of(package.into())),
            ..Default::default()
        };
        self.call(org, "ApproveChaincodeDefinitionForMyOrg", args)
    }

    fn commit_definition(&mut self, org: u8, sequence: i64) -> Response {
        let args = wire::CommitChaincodeDefinitionArgs {
            name: "basic".into(),
            version: "1.0".into(),
            sequence,
            ..Default::default()
        };
        self.call(org, "CommitChaincodeDefinition", args)
    }
}

const FAILED: &str = "failed to invoke backing implementation of";

fn fails(response: Response, function: &str, message: &str) {
    assert_eq!(response.status, 500);
    assert_eq!(
        response.message,
        format!("{FAILED} '{function}': {message}")
    );
}

#[test]
fn a_definition_goes_from_approval_to_commit() {
    let mut net = Net::new();
    assert_eq!(net.approve(1, 1, "basic_1:aa").status, 200);
    assert!(net.state.reads.contains(&"lscc:basic".to_owned()));
    assert_eq!(net.state.commit(), 6);
    let check = wire::CheckCommitReadinessArgs {
        name: "basic".into(),
        version: "1.0".into(),
        sequence: 1,
        ..Default::default()
    };
    let ready = net.call(1, "CheckCommitReadiness", check.clone());
    let ready = wire::CheckCommitReadinessResult::decode(ready.payload).unwrap();
    assert!(ready.approvals["Org1MSP"]);
    assert!(!ready.approvals["Org2MSP"]);
    assert_eq!(ready.mismatches["Org2MSP"].items, ["ChaincodeParameters"]);
    let other = wire::CheckCommitReadinessArgs {
        version: "2".into(),
        ..check
    };
    let ready = net.call(1, "CheckCommitReadiness", other);
    let ready = wire::CheckCommitReadinessResult::decode(ready.payload).unwrap();
    assert_eq!(ready.mismatches["Org1MSP"].items, ["EndorsementInfo"]);
    let refused = net.commit_definition(2, 1);
    let text = "chaincode definition not agreed to by this org (Org2MSP)";
    fails(refused, "CommitChaincodeDefinition", text);
    net.state.writes.clear();
    assert_eq!(net.commit_definition(1, 1).status, 200);
    assert_eq!(net.state.commit(), 5);
    let query = wire::QueryChaincodeDefinitionArgs {
        name: "basic".into(),
    };
    let found = net.call(1, "QueryChaincodeDefinition", query);
    let found = wire::QueryChaincodeDefinitionResult::decode(found.payload).unwrap();
    assert_eq!((found.sequence, found.version.as_str()), (1, "1.0"));
    assert_eq!(found.endorsement_plugin, "escc");
    assert!(found.approvals["Org1MSP"]);
    let all = net.call(
        1,
        "QueryChaincodeDefinitions",
        wire::QueryChaincodeDefinitionsArgs {},
    );
    let all = wire::QueryChaincodeDefinitionsResult::decode(all.payload).unwrap();
    assert_eq!(all.chaincode_definitions.len(), 1);
    // Raising only the sequence changes one field.
    assert_eq!(net.approve(1, 2, "").status, 200);
    net.state.commit();
    assert_eq!(net.commit_definition(1, 2).status, 200);
    assert_eq!(net.state.commit(), 1);
}

#[test]
fn approvals_are_kept_in_sequence() {
    let approve = "ApproveChaincodeDefinitionForMyOrg";
    let mut net = Net::new();
    let zero = "requested sequence is 0, but first definable sequence number is 1";
    fails(net.approve(1, 0, ""), approve, zero);
    let far = "requested sequence 2 is larger than the next available sequence number 1";
    fails(net.approve(1, 2, ""), approve, far);
    assert_eq!(net.approve(1, 1, "").status, 200);
    net.state.commit();
    let again = "attempted to redefine uncommitted sequence (1) for namespace basic with unchanged \
                 content";
    fails(net.approve(1, 1, ""), approve, again);
    assert_eq!(net.commit_definition(1, 1).status, 200);
    net.state.commit();
    let same = "attempted to redefine the current committed sequence (1) for namespace basic";
    fails(net.approve(1, 1, ""), approve, same);
    // Binding a package afterwards is what an organisation does that installs later.
    assert_eq!(net.approve(1, 1, "basic_1:aa").status, 200);
    net.state.commit();
    let past = "currently defined sequence 1 is larger than requested sequence 0";
    fails(net.approve(1, 0, ""), approve, past);
    let commit = "requested sequence is 1, but new definition must be sequence 2";
    fails(
        net.commit_definition(1, 1),
        "CommitChaincodeDefinition",
        commit,
    );
}

#[test]
fn approvals_can_be_looked_up() {
    let mut net = Net::new();
    let query = |sequence| wire::QueryApprovedChaincodeDefinitionArgs {
        name: "basic".into(),
        sequence,
    };
    let function = "QueryApprovedChaincodeDefinition";
    let missing = "could not fetch approved chaincode definition (name: 'basic', sequence: '0') on \
                   channel 'ch'";
    fails(net.call(1, function, query(0)), function, missing);
    net.approve(1, 1, "basic_1:aa");
    net.state.commit();
    for sequence in [0, 1] {
        let found = net.call(1, function, query(sequence));
        let found = wire::QueryApprovedChaincodeDefinitionResult::decode(found.payload).unwrap();
        assert_eq!(found.sequence, 1);
        assert_eq!(package_of(found.source.as_ref()), "basic_1:aa");
    }
    let function = "QueryApprovedChaincodeDefinitions";
    let all = net.call(1, function, wire::QueryApprovedChaincodeDefinitionsArgs {});
    let all = wire::QueryApprovedChaincodeDefinitionsResult::decode(all.payload).unwrap();
    assert_eq!(all.approved_chaincode_definitions[0].name, "basic");
}

#[test]
fn refusals_have_fabrics_words() {
    let mut net = Net::new();
    let query = wire::QueryChaincodeDefinitionArgs { name: "x".into() };
    let missing = net.call(1, "QueryChaincodeDefinition", query);
    assert_eq!(
        (missing.status, missing.message.as_str()),
        (404, "namespace x is not defined")
    );
    let unknown = net.call(1, "Nothing", wire::QueryInstalledChaincodesArgs {});
    fails(
        unknown,
        "Nothing",
        "receiver *lifecycle.Invocation.Nothing does not exist",
    );
    let load = wire::GetInstalledChaincodePackageArgs {
        package_id: "p".into(),
    };
    let name = "GetInstalledChaincodePackage";
    let text = "could not load cc install package: chaincode install package 'p' not found";
    fails(net.call(1, name, load), name, text);
    let one = wire::QueryInstalledChaincodeArgs {
        package_id: "p".into(),
    };
    let name = "QueryInstalledChaincode";
    fails(
        net.call(1, name, one),
        name,
        "could not find chaincode with package id 'p'",
    );
    let all = net.call(
        1,
        "QueryInstalledChaincodes",
        wire::QueryInstalledChaincodesArgs {},
    );
    let all = wire::QueryInstalledChaincodesResult::decode(all.payload).unwrap();
    assert_eq!(
        all.installed_chaincodes[0].references["ch"].chaincodes[0].name,
        "basic"
    );
    net.view.default_policy = false;
    let name = "ApproveChaincodeDefinitionForMyOrg";
    let text = "could not set defaults for chaincode definition in channel ch: policy \
                '/Channel/Application/Endorsement' must be defined for channel 'ch' before \
                chaincode operations can be attempted";
    fails(net.approve(1, 1, ""), name, text);
}

#[test]
fn arguments_are_checked_first() {
    let check = |args: &[&'static str], channel, view: Option<&dyn ChannelView>, text: &str| {
        let args: Vec<Bytes> = args
            .iter()
            .map(|a| Bytes::from_static(a.as_bytes()))
            .collect();
        let message = check_call(&args, channel, view).err().map(|f| f.message);
        assert_eq!(message.unwrap_or_default(), text);
    };
    check(
        &[],
        "",
        None,
        "lifecycle scc must be invoked with arguments",
    );
    let three = "lifecycle scc operations require exactly two arguments but received 3";
    check(&["a", "b", "c"], "", None, three);
    check(&["a", "b"], "", None, "");
    check(
        &["a", "b"],
        "x",
        None,
        "could not get channelconfig for channel 'x'",
    );
    check(
        &["a", "b"],
        "x",
        Some(&View {
            default_policy: true,
        }),
        "",
    );
}

fn collection(name: &str, orgs: &[&str], n: i32) -> StaticCollectionConfig {
    let identities = orgs.iter().map(|org| MspPrincipal {
        principal_classification: 0,
        principal: encode(MspRole {
            msp_identifier: (*org).into(),
            role: 0,
        }),
    });
    let rules = (0..orgs.len() as i32)
        .map(|i| SignaturePolicy {
            r#type: Some(Rule::SignedBy(i)),
        })
        .collect();
    let policy = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy {
            r#type: Some(Rule::NOutOf(NOutOf { n, rules })),
        }),
        identities: identities.collect(),
    };
    StaticCollectionConfig {
        name: name.into(),
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(collection_policy_config::Payload::SignaturePolicy(policy)),
        }),
        maximum_peer_count: 1,
        ..Default::default()
    }
}

fn package(configs: Vec<StaticCollectionConfig>) -> CollectionConfigPackage {
    let wrap = |c| CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(c)),
    };
    CollectionConfigPackage {
        config: configs.into_iter().map(wrap).collect(),
    }
}

#[test]
fn collections_are_judged() {
    let view = View {
        default_policy: true,
    };
    let check = |configs: Vec<StaticCollectionConfig>, text: &str| {
        let package = package(configs);
        let mut state = Memory::default();
        let error = validate::definition("basic", "1", Some(&package), &view, &mut state)
            .err()
            .map(|f| f.message);
        assert_eq!(error.unwrap_or_default(), text);
    };
    let good = || collection("a", &["Org1MSP", "Org2MSP"], 1);
    check(vec![good()], "");
    check(
        vec![good(), good()],
        "collection-name: a -- found duplicate in collection configuration",
    );
    check(
        vec![collection("a", &["Org1MSP", "Org2MSP"], 2)],
        "collection-name: a -- error in member org policy: signature policy is not an OR \
         concatenation, NOutOf 2",
    );
    check(
        vec![collection("a", &["Org9MSP"], 1)],
        "collection-name: a -- collection member 'Org9MSP' is not part of the channel",
    );
    check(
        vec![StaticCollectionConfig {
            required_peer_count: 2,
            ..good()
        }],
        "collection-name: a -- maximum peer count (1) cannot be less than the required peer count \
         (2)",
    );
    check(
        vec![StaticCollectionConfig {
            member_orgs_policy: None,
            ..good()
        }],
        "collection member policy is not set for collection 'a'",
    );
    check(
        vec![collection("_a", &["Org1MSP"], 1)],
        "invalid collection name '_a'. Names can only consist of alphanumerics, '_', and '-' and \
         cannot begin with '_'",
    );
}
