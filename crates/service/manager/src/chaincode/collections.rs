//! Private data collections, from the JSON text that BCS and Fabric's tools take.

use selvage_identity::policy::dsl;
use selvage_manager_api::ApiError;
use selvage_manager_api::chaincode::MAX_PRIVATE_DATA;
use selvage_proto::peer::{
    CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
    collection_config, collection_policy_config,
};
use serde::Deserialize;

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Collection {
    name: String,
    policy: String,
    #[serde(default)]
    required_peer_count: i32,
    #[serde(default)]
    max_peer_count: i32,
    #[serde(default)]
    block_to_live: u64,
    #[serde(default = "yes")]
    member_only_read: bool,
    #[serde(default)]
    member_only_write: bool,
}

/// Reads `private_data`. What the peers check, such as names and counts, is left to them.
pub(super) fn parse(text: &str) -> Result<CollectionConfigPackage, ApiError> {
    if text.chars().count() > MAX_PRIVATE_DATA {
        return Err(ApiError::bad(format!(
            "private_data has more than {MAX_PRIVATE_DATA} characters"
        )));
    }
    let read: Vec<Collection> = serde_json::from_str(text).map_err(|e| {
        ApiError::bad(format!(
            "private_data is not the JSON text of collections: {e}; an example is \
             [{{\"name\":\"c\",\"policy\":\"OR('<MSP>.member')\",\"requiredPeerCount\":0,\
             \"maxPeerCount\":3,\"blockToLive\":0,\"memberOnlyRead\":true}}]"
        ))
    })?;
    let config = read.into_iter().map(one).collect::<Result<_, _>>()?;
    Ok(CollectionConfigPackage { config })
}

fn one(collection: Collection) -> Result<CollectionConfig, ApiError> {
    let members = dsl::parse(&collection.policy).map_err(|e| {
        ApiError::bad(format!(
            "the policy of the collection {} is invalid: {e}",
            collection.name
        ))
    })?;
    let config = StaticCollectionConfig {
        name: collection.name,
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(collection_policy_config::Payload::SignaturePolicy(members)),
        }),
        required_peer_count: collection.required_peer_count,
        maximum_peer_count: collection.max_peer_count,
        block_to_live: collection.block_to_live,
        member_only_read: collection.member_only_read,
        member_only_write: collection.member_only_write,
        endorsement_policy: None,
    };
    Ok(CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(config)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_bcs_is_read() {
        let text = r#"[{"name":"c","policy":"OR('AMSP.member','BMSP.member')",
            "requiredPeerCount":0,"maxPeerCount":2,"blockToLive":7}]"#;
        let read = parse(text).expect("read");
        let Some(collection_config::Payload::StaticCollectionConfig(c)) = &read.config[0].payload
        else {
            panic!("no collection");
        };
        assert_eq!((c.name.as_str(), c.maximum_peer_count), ("c", 2));
        assert_eq!((c.block_to_live, c.member_only_read), (7, true));
        assert!(c.member_orgs_policy.is_some());
    }

    #[test]
    fn bad_texts_are_refused_by_cause() {
        let long = format!("[{}]", " ".repeat(MAX_PRIVATE_DATA));
        for (text, part) in [
            ("no JSON", "not the JSON text"),
            (r#"[{"name":"c","policy":"x("}]"#, "the collection c"),
            (
                r#"[{"name":"c","policy":"OR('A.member')","x":1}]"#,
                "unknown field",
            ),
            (&long, "more than 5000"),
        ] {
            let error = parse(text).expect_err(part);
            assert!(error.message.contains(part), "{error}");
        }
    }
}
