//! Updates of channels made in memory: what an orderer refuses, and what it says is missing.

#[allow(dead_code)]
mod network;

use network::{Consortium, update};
use selvage_channel::ChannelConfig;
use selvage_channel::genesis::Policy;
use selvage_channel::names::{APPLICATION, ORDERER};
use selvage_channel::update::{propose, set_bft_block_validation};
use selvage_crypto::issue::NodeRole;
use selvage_identity::SigningIdentity;
use selvage_proto::Message as _;
use selvage_proto::common::{Capabilities, ConfigGroup, Orderers};

fn config(consortium: &Consortium) -> ChannelConfig {
    ChannelConfig::from_block(&consortium.genesis()).expect("a configuration")
}

fn below<'a>(group: &'a mut ConfigGroup, name: &str) -> &'a mut ConfigGroup {
    group.groups.get_mut(name).expect("the group")
}

fn put(group: &mut ConfigGroup, key: &str, message: &impl prost::Message) {
    let value = group.values.get_mut(key).expect("the value");
    value.value = message.encode_to_vec().into();
}

/// What a change of the application's or the whole channel's capabilities lacks.
#[test]
fn refusals_name_who_has_yet_to_sign() {
    let check = |rule: &str, groups: &[&str], by: &[&str], missing: &str| {
        let mut consortium = Consortium::new();
        let application = consortium.profile.application.as_mut().expect("one");
        let policies = &mut application.policies;
        policies.insert("Admins".to_owned(), Policy::implicit(rule));
        let current = config(&consortium);
        let orgs = [&consortium.orderer, &consortium.org1, &consortium.org2];
        let signers = by.iter().map(|id| {
            let org = orgs.iter().find(|org| org.msp_id == *id).expect("an org");
            org.member("admin", NodeRole::Admin)
        });
        let signers: Vec<SigningIdentity> = signers.collect();
        let mut changed = current.config().clone();
        let root = changed.channel_group.as_mut().expect("a tree");
        let group = groups.iter().fold(root, |group, name| below(group, name));
        let admins = group.policies.get_mut("Admins").expect("a policy");
        admins.mod_policy = "Readers".to_owned();
        let signers: Vec<&SigningIdentity> = signers.iter().collect();
        let error = current.propose_update(&update(current.config(), &changed, &signers));
        let text = error.expect_err("too few signatures").text();
        let expected = format!("; missing: {missing})");
        assert!(text.ends_with(&expected), "{text}");
    };
    let application = &[APPLICATION];
    check(
        "MAJORITY Admins",
        application,
        &["Org1MSP"],
        "Org2MSP (Org2MSP.admin)",
    );
    check(
        "ALL Admins",
        application,
        &["OrdererMSP"],
        "Org1MSP (Org1MSP.admin) and Org2MSP (Org2MSP.admin)",
    );
    check(
        "ANY Admins",
        application,
        &["OrdererMSP"],
        "1 of Org1MSP (Org1MSP.admin), Org2MSP (Org2MSP.admin)",
    );
    // A policy that gathers policies which gather others, and one of a single organisation.
    check(
        "MAJORITY Admins",
        &[],
        &["Org1MSP"],
        "Application (Org2MSP (Org2MSP.admin)) and Orderer (OrdererMSP (OrdererMSP.admin))",
    );
    check(
        "MAJORITY Admins",
        &[APPLICATION, "Org2MSP"],
        &["Org1MSP"],
        "Org2MSP.admin",
    );
}

#[test]
fn bft_goes_with_its_capability_and_its_policy() {
    let (consortium, _) = Consortium::bft();
    let current = config(&consortium);
    current
        .check_supported_by_orderer()
        .expect("as it should be");
    let admins = [&consortium.orderer, &consortium.org1, &consortium.org2]
        .map(|o| o.member("admin", NodeRole::Admin));
    let signers: Vec<&SigningIdentity> = admins.iter().collect();
    let changed = |edit: &dyn Fn(&mut ConfigGroup)| {
        let mut changed = current.config().clone();
        edit(changed.channel_group.as_mut().expect("a tree"));
        update(current.config(), &changed, &signers)
    };
    let check = |edit: &dyn Fn(&mut ConfigGroup), text: &str| {
        let envelope = changed(edit);
        let error = current.propose_update(&envelope).expect_err(text).text();
        assert!(error.contains(text), "{error}");
        // Only orderers refuse: what was ordered all the same, peers take as Fabric's do.
        let made = propose(&current, &envelope).expect("it is signed");
        current.apply(&made).expect("by the rules of updates")
    };
    let without = check(
        &|root| {
            let v2 = Capabilities {
                capabilities: [("V2_0".to_owned(), Default::default())].into(),
            };
            put(root, "Capabilities", &v2);
        },
        "config update is not compatible: /Channel/Capabilities: consensus type BFT must be used \
         with V3_0 channel capability",
    );
    let error = without
        .check_supported_by_orderer()
        .expect_err("nor may an orderer join it");
    assert!(error.to_string().contains("V3_0"), "{error}");

    let fewer = |root: &mut ConfigGroup| {
        let orderer = below(root, ORDERER);
        let mut orderers = Orderers::decode(orderer.values["Orderers"].value.clone()).unwrap();
        orderers.consenter_mapping.pop();
        put(orderer, "Orderers", &orderers);
    };
    check(
        &fewer,
        "policy /Channel/Orderer/BlockValidation does not fit the consenters: block validation \
         policy should be a signature policy: 2 of the 3 identities",
    );
    let both = changed(&|root| {
        fewer(root);
        set_bft_block_validation(below(root, ORDERER)).expect("consenters");
    });
    current.propose_update(&both).expect("they fit");
}
