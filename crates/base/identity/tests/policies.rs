//! Signature policies over real signatures, with the outcomes of Fabric's tests.

#![allow(clippy::unwrap_used)]

mod support;

use selvage_crypto::issue::NodeRole;
use selvage_identity::policy::build::{
    accept_all, envelope, identity_principal, n_out_of, reject_all, signed_by, signed_by_any_admin,
    signed_by_any_client, signed_by_any_member, signed_by_any_peer, signed_by_msp_admin,
    signed_by_msp_client, signed_by_msp_member, signed_by_msp_peer, signed_by_n_out_of_role,
};
use selvage_identity::policy::{self, dsl};
use selvage_identity::{PolicyError, SignedData, SigningIdentity};
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{SignaturePolicy, SignaturePolicyEnvelope};

use support::{Organisation, manager, signed};

struct Bench {
    organisations: Vec<Organisation>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            organisations: ["Org1MSP", "Org2MSP"].map(Organisation::new).into(),
        }
    }

    fn signer(&self, organisation: usize, role: NodeRole) -> SigningIdentity {
        self.organisations[organisation].signer("x", role)
    }

    fn evaluate(&self, policy: &SignaturePolicyEnvelope, set: &[SignedData]) -> bool {
        let manager = manager(&self.organisations.iter().collect::<Vec<_>>());
        policy::compile(policy, manager)
            .unwrap()
            .evaluate(set)
            .is_ok()
    }
}

fn both(a: SignaturePolicy, b: SignaturePolicy) -> SignaturePolicy {
    n_out_of(2, vec![a, b])
}

fn either(a: SignaturePolicy, b: SignaturePolicy) -> SignaturePolicy {
    n_out_of(1, vec![a, b])
}

/// A policy over the identities of these signers.
fn over(rule: SignaturePolicy, signers: &[&SigningIdentity]) -> SignaturePolicyEnvelope {
    envelope(
        rule,
        signers
            .iter()
            .map(|one| identity_principal(one.serialized()))
            .collect(),
    )
}

#[test]
fn one_signature() {
    let bench = Bench::new();
    let (zero, one) = (
        bench.signer(0, NodeRole::Client),
        bench.signer(1, NodeRole::Client),
    );
    let policy = over(signed_by(0), &[&zero, &one]);
    assert!(bench.evaluate(&policy, &[signed(&zero, b"m")]));
    assert!(!bench.evaluate(&policy, &[signed(&one, b"m")]));
    assert!(bench.evaluate(&policy, &[signed(&one, b"m"), signed(&zero, b"m")]));
    assert!(!bench.evaluate(&policy, &[]));
}

#[test]
fn a_signature_counts_once() {
    let bench = Bench::new();
    let (zero, one) = (
        bench.signer(0, NodeRole::Client),
        bench.signer(1, NodeRole::Client),
    );
    let policy = over(both(signed_by(0), signed_by(1)), &[&zero, &one]);
    assert!(bench.evaluate(&policy, &[signed(&zero, b"m"), signed(&one, b"m")]));
    assert!(!bench.evaluate(&policy, &[signed(&zero, b"m"), signed(&zero, b"m")]));
    let twice = over(both(signed_by(0), signed_by(0)), &[&zero]);
    assert!(!bench.evaluate(&twice, &[signed(&zero, b"m"), signed(&zero, b"m")]));
}

#[test]
fn nested_gates_take_signers_greedily() {
    let bench = Bench::new();
    let members = |n: usize| {
        (0..n)
            .map(|_| bench.signer(0, NodeRole::Client))
            .collect::<Vec<_>>()
    };
    let other = bench.signer(1, NodeRole::Client);
    // Principal 0 is any member of the first organisation, 1 any of the second.
    let principals = signed_by_any_member(&["Org1MSP", "Org2MSP"]).identities;
    let zero_zero = both(signed_by(0), signed_by(0));
    let zero_one = both(signed_by(0), signed_by(1));
    let rule = both(either(zero_one, zero_zero), signed_by(0));
    let policy = envelope(rule, principals.clone());
    let check = |signers: &[&SigningIdentity], want: bool| {
        let set: Vec<SignedData> = signers.iter().map(|one| signed(one, b"m")).collect();
        assert_eq!(bench.evaluate(&policy, &set), want);
    };
    let own = members(3);
    check(&[&own[0], &other, &own[1]], true);
    check(&[&own[0], &own[1], &own[2]], true);
    check(&[&own[0], &other], false);
    check(&[&own[0], &other, &other], false);

    // "Any of both" grabs the only member of the first organisation, and nothing gives it back.
    let grabbing = over_any_then_first(&principals);
    let set = [signed(&own[0], b"m"), signed(&other, b"m")];
    assert!(!bench.evaluate(&grabbing, &set));
    let reversed = [signed(&other, b"m"), signed(&own[0], b"m")];
    assert!(bench.evaluate(&grabbing, &reversed));
}

/// First somebody of either organisation in the order of signatures, then one of the first.
fn over_any_then_first(
    principals: &[selvage_proto::common::MspPrincipal],
) -> SignaturePolicyEnvelope {
    // A gate whose first alternative takes all it can.
    let any = n_out_of(1, vec![signed_by(2)]);
    let mut principals = principals.to_vec();
    let nominal = selvage_proto::common::MspIdentityAnonymity { anonymity_type: 0 };
    principals.push(selvage_proto::common::MspPrincipal {
        principal_classification: 3,
        principal: prost::Message::encode_to_vec(&nominal).into(),
    });
    envelope(n_out_of(2, vec![any, signed_by(0)]), principals)
}

#[test]
fn signatures_that_do_not_verify_are_as_if_absent() {
    let bench = Bench::new();
    let one = bench.signer(0, NodeRole::Client);
    let policy = signed_by_msp_member("Org1MSP");
    let good = signed(&one, b"m");
    let bad = SignedData {
        data: "other".into(),
        ..good.clone()
    };
    let nobody = SignedData {
        identity: "barf".into(),
        ..good.clone()
    };
    let stranger = Organisation::new("Org1MSP").signer("x", NodeRole::Client);
    assert!(bench.evaluate(&policy, std::slice::from_ref(&good)));
    assert!(!bench.evaluate(&policy, &[bad.clone(), nobody.clone()]));
    assert!(!bench.evaluate(&policy, &[signed(&stranger, b"m")]));
    // A failed signature does not use its signer up.
    assert!(bench.evaluate(&policy, &[nobody, bad.clone(), good.clone()]));
    let bench_manager = manager(&bench.organisations.iter().collect::<Vec<_>>());
    let valid = policy::valid_identities(&bench_manager, &[bad.clone(), good.clone(), good, bad]);
    assert_eq!(valid.len(), 1);
}

#[test]
fn roles() {
    let bench = Bench::new();
    let check = |policy: SignaturePolicyEnvelope, organisation: usize, role: NodeRole, want| {
        let signer = bench.signer(organisation, role);
        let got = bench.evaluate(&policy, &[signed(&signer, b"m")]);
        assert_eq!(got, want, "{role:?} of {organisation}");
    };
    use NodeRole::{Admin, Client, Orderer, Peer};
    for role in [Admin, Client, Peer, Orderer] {
        check(signed_by_msp_member("Org1MSP"), 0, role, true);
        check(signed_by_msp_member("Org1MSP"), 1, role, false);
        check(signed_by_msp_admin("Org1MSP"), 0, role, role == Admin);
        check(signed_by_msp_client("Org1MSP"), 0, role, role == Client);
        check(signed_by_msp_peer("Org1MSP"), 0, role, role == Peer);
        let both = ["Org2MSP", "Org1MSP"];
        check(signed_by_any_member(&both), 1, role, true);
        check(signed_by_any_admin(&both), 1, role, role == Admin);
        check(signed_by_any_client(&both), 1, role, role == Client);
        check(signed_by_any_peer(&both), 1, role, role == Peer);
        check(
            dsl::parse("OR('Org1MSP.orderer')").unwrap(),
            0,
            role,
            role == Orderer,
        );
        check(
            signed_by_n_out_of_role(2, MspRoleType::Member, &both),
            0,
            role,
            false,
        );
    }
    let sorted = signed_by_any_member(&["B", "A"]);
    assert_eq!(sorted, dsl::parse("OR('A.member', 'B.member')").unwrap());
    let two = dsl::parse("AND('Org1MSP.peer', 'Org2MSP.peer')").unwrap();
    let (one, other) = (bench.signer(0, Peer), bench.signer(1, Peer));
    assert!(bench.evaluate(&two, &[signed(&other, b"m"), signed(&one, b"m")]));
    assert!(!bench.evaluate(&two, &[signed(&one, b"m")]));
}

#[test]
fn everybody_and_nobody() {
    let bench = Bench::new();
    let one = signed(&bench.signer(0, NodeRole::Admin), b"m");
    for set in [&[][..], std::slice::from_ref(&one)] {
        assert!(bench.evaluate(&accept_all(), set));
        assert!(!bench.evaluate(&reject_all(), set));
    }
}

#[test]
fn policies_that_do_not_compile() {
    let manager = manager(&[]);
    let check = |policy: SignaturePolicyEnvelope, reason: &str| {
        let Err(PolicyError::Malformed(got)) = policy::compile(&policy, manager.clone()) else {
            panic!("it compiled: {policy:?}");
        };
        assert_eq!(got, reason);
    };
    let out_of_range =
        |n| format!("identity index out of range, requested {n}, but identities length is 1");
    let principals = signed_by_msp_member("A").identities;
    for n in [-1, 1, i32::MAX] {
        let rule = both(signed_by(n), signed_by(-2));
        check(envelope(rule, principals.clone()), &out_of_range(n));
    }
    let empty = SignaturePolicyEnvelope {
        identities: principals,
        ..Default::default()
    };
    check(empty, "Empty policy element");
    check(
        envelope(SignaturePolicy { r#type: None }, vec![]),
        "Unknown type: <nil>:<nil>",
    );
    let newer = SignaturePolicyEnvelope {
        version: 1,
        ..accept_all()
    };
    check(
        newer,
        "This evaluator only understands messages of version 0, but version was 1",
    );
    let deep = (0..200).fold(n_out_of(0, vec![]), |rule, _| n_out_of(1, vec![rule]));
    check(
        envelope(deep, vec![]),
        "the rules of the policy nest too deep",
    );
}
