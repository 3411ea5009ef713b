//! What the functions of `_lifecycle` do to state
//! (Fabric: `core/chaincode/lifecycle/lifecycle.go`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvage_proto::lifecycle::{StateMetadata, state_data};
use selvage_proto::peer::ApplicationPolicy;
use selvage_proto::peer::application_policy::Type as PolicyType;

use super::record::{Record, Space, read_metadata, text};
use crate::lifecycle::{
    CHAINCODE_SOURCES, ChaincodeDefinition, DEFAULT_ENDORSEMENT_PLUGIN, DEFAULT_ENDORSEMENT_REF,
    DEFAULT_VALIDATION_PLUGIN, DEFINITION_TYPE, LOCAL_PACKAGE_TYPE, NAMESPACES, PARAMETERS_TYPE,
    decode_field, decode_message_field, field_key, read_sequence,
};
use crate::scc::stub::{ChannelView, Failure, State};

/// An approval as it lies in an organisation's collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Approved {
    pub(super) definition: ChaincodeDefinition,
    /// Empty when the organisation does not run the chaincode.
    pub(super) package_id: String,
}

/// Who approved a definition, and what differs where they did not.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    pub(super) by_org: BTreeMap<String, bool>,
    pub(super) mismatches: BTreeMap<String, Vec<String>>,
}

/// The name of an organisation's implicit collection.
pub(crate) fn collection_of(msp_id: &str) -> String {
    format!("_implicit_org_{msp_id}")
}

fn private_name(name: &str, sequence: i64) -> String {
    format!("{name}#{sequence}")
}

fn public(state: &mut dyn State) -> Space<'_> {
    Space {
        state,
        collection: None,
    }
}

/// Fills what the caller left empty.
pub(super) fn set_defaults(
    channel_id: &str,
    definition: &mut ChaincodeDefinition,
    view: &dyn ChannelView,
) -> Result<(), Failure> {
    if definition.endorsement.endorsement_plugin.is_empty() {
        definition.endorsement.endorsement_plugin = DEFAULT_ENDORSEMENT_PLUGIN.to_owned();
    }
    if definition.validation.validation_plugin.is_empty() {
        definition.validation.validation_plugin = DEFAULT_VALIDATION_PLUGIN.to_owned();
    }
    if definition.validation.validation_parameter.is_empty() {
        if !view.has_policy(DEFAULT_ENDORSEMENT_REF) {
            return Err(Failure::new(format!(
                "could not set defaults for chaincode definition in channel {channel_id}: policy \
                 '{DEFAULT_ENDORSEMENT_REF}' must be defined for channel '{channel_id}' before \
                 chaincode operations can be attempted"
            )));
        }
        let reference =
            PolicyType::ChannelConfigPolicyReference(DEFAULT_ENDORSEMENT_REF.to_owned());
        let policy = ApplicationPolicy {
            r#type: Some(reference),
        };
        definition.validation.validation_parameter = policy.encode_to_vec().into();
    }
    Ok(())
}

/// Names of a channel, a chaincode and an organisation's collection, which travel together.
pub(super) struct Target<'a> {
    pub(super) channel_id: &'a str,
    pub(super) name: &'a str,
    /// The own organisation's implicit collection.
    pub(super) collection: &'a str,
}

/// Records an approval. The sequence must be the committed one, with the same parameters, or the
/// next; repeating an approval unchanged is refused because it would write nothing.
pub(super) fn approve(
    target: &Target<'_>,
    mut definition: ChaincodeDefinition,
    package_id: &str,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<(), Failure> {
    let name = target.name;
    let current = current_sequence(name, state)?;
    let requested = definition.sequence;
    check_sequence(requested, current)?;
    set_defaults(target.channel_id, &mut definition, view)?;
    let private = private_name(name, requested);
    if requested == current {
        same_as_committed(name, current, &definition, state)?;
    }
    let mut org = Space {
        state,
        collection: Some(target.collection),
    };
    if repeats(&private, requested, &definition, package_id, &mut org)? {
        return Err(Failure::new(if requested == current {
            format!(
                "attempted to redefine the current committed sequence ({current}) for namespace \
                 {name}"
            )
        } else {
            format!(
                "attempted to redefine uncommitted sequence ({requested}) for namespace {name} \
                 with unchanged content"
            )
        }));
    }
    Record::parameters(&definition)
        .write(&private, &mut org)
        .map_err(|e| e.within("could not serialize chaincode parameters to state"))?;
    Record::package(package_id)
        .write(&private, &mut org)
        .map_err(|e| e.within("could not serialize chaincode package info to state"))
}

fn check_sequence(requested: i64, current: i64) -> Result<(), Failure> {
    if current == 0 && requested == 0 {
        return Err(Failure::new(
            "requested sequence is 0, but first definable sequence number is 1",
        ));
    }
    if requested < current {
        return Err(Failure::new(format!(
            "currently defined sequence {current} is larger than requested sequence {requested}"
        )));
    }
    let next = current.saturating_add(1);
    if requested > next {
        return Err(Failure::new(format!(
            "requested sequence {requested} is larger than the next available sequence number \
             {next}"
        )));
    }
    Ok(())
}

pub(super) fn current_sequence(name: &str, state: &mut dyn State) -> Result<i64, Failure> {
    let mut space = public(state);
    read_sequence(name, |key| space.get(key).map_err(Into::into))
        .map_err(|e| Failure::new(text(&e)).within("could not get current sequence"))
}

fn same_as_committed(
    name: &str,
    current: i64,
    definition: &ChaincodeDefinition,
    state: &mut dyn State,
) -> Result<(), Failure> {
    let mut space = public(state);
    let metadata = read_metadata(NAMESPACES, name, &mut space)
        .map_err(|e| e.within("could not fetch metadata for current definition"))?
        .ok_or_else(|| {
            Failure::new(format!(
                "missing metadata for currently committed sequence number ({current})"
            ))
        })?;
    let committed = read_definition(name, &metadata, &mut space)?;
    difference(&committed, definition).map_or(Ok(()), |difference| {
        Err(Failure::new(difference).within(format!(
            "attempted to redefine the current committed sequence ({current}) for namespace \
             {name} with different parameters"
        )))
    })
}

/// The first parameter that differs, in words.
fn difference(expected: &ChaincodeDefinition, passed: &ChaincodeDefinition) -> Option<String> {
    let differ = |what: &str, a: &str, b: &str| {
        (a != b).then(|| format!("expected {what} '{a}' does not match passed {what} '{b}'"))
    };
    let (e, p) = (&expected.endorsement, &passed.endorsement);
    let (ev, pv) = (&expected.validation, &passed.validation);
    differ("Version", &e.version, &p.version)
        .or_else(|| {
            differ(
                "EndorsementPlugin",
                &e.endorsement_plugin,
                &p.endorsement_plugin,
            )
        })
        .or_else(|| {
            let (a, b) = (e.init_required.to_string(), p.init_required.to_string());
            differ("InitRequired", &a, &b)
        })
        .or_else(|| {
            differ(
                "ValidationPlugin",
                &ev.validation_plugin,
                &pv.validation_plugin,
            )
        })
        .or_else(|| {
            let a = hex::encode(&ev.validation_parameter);
            differ(
                "ValidationParameter",
                &a,
                &hex::encode(&pv.validation_parameter),
            )
        })
        .or_else(|| {
            let differ = expected.collections != passed.collections;
            differ.then(|| "Collections do not match".to_owned())
        })
}

fn repeats(
    private: &str,
    requested: i64,
    definition: &ChaincodeDefinition,
    package_id: &str,
    org: &mut Space<'_>,
) -> Result<bool, Failure> {
    let metadata = read_metadata(NAMESPACES, private, org).map_err(|e| {
        e.within(format!(
            "could not fetch chaincode definition, chaincode {private}, requested at sequence \
             {requested}"
        ))
    })?;
    let Some(metadata) = metadata else {
        return Ok(false);
    };
    let approved = read_parameters(private, &metadata, org).map_err(|e| {
        e.within(format!(
            "could not deserialize namespace {private} as chaincode"
        ))
    })?;
    if difference(&approved, definition).is_some() {
        return Ok(false);
    }
    match read_source(private, org)? {
        Some(metadata) => Ok(read_package(private, &metadata, org)? == package_id),
        None => Ok(false),
    }
}

/// Compares a definition with what each organisation approved.
pub(super) fn approvals(
    name: &str,
    definition: &ChaincodeDefinition,
    orgs: &[String],
    state: &mut dyn State,
) -> Result<Approvals, Failure> {
    let private = private_name(name, definition.sequence);
    let record = Record::parameters(definition);
    let mut out = Approvals::default();
    for msp_id in orgs {
        let items = record
            .mismatches(&private, state, &collection_of(msp_id))
            .map_err(|e| e.within(format!("serialization check failed for key {private}")))?;
        out.by_org.insert(msp_id.clone(), items.is_empty());
        if !items.is_empty() {
            out.mismatches.insert(msp_id.clone(), items);
        }
    }
    Ok(out)
}

/// Whether the definition may be committed next, and who approved it.
pub(super) fn check_readiness(
    target: &Target<'_>,
    definition: &mut ChaincodeDefinition,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<Approvals, Failure> {
    let current = current_sequence(target.name, state)?;
    let next = current.saturating_add(1);
    if definition.sequence != next {
        return Err(Failure::new(format!(
            "requested sequence is {}, but new definition must be sequence {next}",
            definition.sequence
        )));
    }
    set_defaults(target.channel_id, definition, view)?;
    let orgs = org_ids(view);
    approvals(target.name, definition, &orgs, state)
}

/// The MSP ids of the application organisations, once each.
pub(super) fn org_ids(view: &dyn ChannelView) -> Vec<String> {
    let orgs = view.application_orgs();
    orgs.into_iter().map(|(_, msp_id)| msp_id).collect()
}

/// Writes the definition into the public state.
pub(super) fn commit(
    target: &Target<'_>,
    mut definition: ChaincodeDefinition,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<Approvals, Failure> {
    let approvals = check_readiness(target, &mut definition, view, state)?;
    Record::definition(&definition)
        .write(target.name, &mut public(state))
        .map_err(|e| e.within("could not serialize chaincode definition"))?;
    Ok(approvals)
}

/// The committed definition; 404 when there is none.
pub(super) fn query_definition(
    name: &str,
    state: &mut dyn State,
) -> Result<ChaincodeDefinition, Failure> {
    let mut space = public(state);
    let metadata = read_metadata(NAMESPACES, name, &mut space)
        .map_err(|e| e.within(format!("could not fetch metadata for namespace {name}")))?
        .ok_or_else(|| Failure::not_found(format!("namespace {name} is not defined")))?;
    read_definition(name, &metadata, &mut space)
}

/// The names of every committed chaincode.
pub(crate) fn defined_chaincodes(state: &mut dyn State) -> Result<Vec<String>, Failure> {
    let all = public(state)
        .all_metadata()
        .map_err(|e| e.within("could not query namespace metadata"))?;
    let chaincodes = all
        .into_iter()
        .filter(|(_, m)| m.datatype == DEFINITION_TYPE);
    Ok(chaincodes.map(|(name, _)| name).collect())
}

/// The own organisation's approval; sequence 0 asks for the newest.
pub(super) fn query_approved(
    target: &Target<'_>,
    sequence: i64,
    state: &mut dyn State,
) -> Result<Approved, Failure> {
    let name = target.name;
    let current = match sequence {
        0 => Some(current_sequence(name, state)?),
        _ => None,
    };
    let mut org = Space {
        state,
        collection: Some(target.collection),
    };
    let mut requested = sequence;
    if let Some(current) = current {
        let next = current.saturating_add(1);
        let found =
            read_metadata(NAMESPACES, &private_name(name, next), &mut org).map_err(|e| {
                let what =
                    format!("could not deserialize namespace metadata for next sequence {next}");
                e.within(what)
            })?;
        requested = if found.is_some() { next } else { current };
    }
    let private = private_name(name, requested);
    let metadata = read_metadata(NAMESPACES, &private, &mut org)
        .map_err(|e| {
            e.within(format!(
                "could not deserialize namespace metadata for {private}"
            ))
        })?
        .ok_or_else(|| {
            Failure::new(format!(
                "could not fetch approved chaincode definition (name: '{name}', sequence: \
                 '{requested}') on channel '{}'",
                target.channel_id
            ))
        })?;
    fetch_approved(&private, requested, &metadata, &mut org)
}

/// Every approval of the own organisation, with the chaincode it is for.
pub(super) fn query_all_approved(
    channel_id: &str,
    collection: &str,
    state: &mut dyn State,
) -> Result<Vec<(String, Approved)>, Failure> {
    let mut org = Space {
        state,
        collection: Some(collection),
    };
    let all = org
        .all_metadata()
        .map_err(|e| e.within("could not fetch metadatas"))?;
    let mut out = Vec::with_capacity(all.len());
    for (private, metadata) in all {
        let (name, sequence) = split_private_name(&private).map_err(|e| {
            e.within(format!(
                "could not extract chaincode name and sequence number from metadata: {private}"
            ))
        })?;
        let approved = fetch_approved(&private, sequence, &metadata, &mut org).map_err(|e| {
            e.within(format!(
                "could not fetch approved chaincode definition (name: '{name}', sequence: \
                 '{sequence}') on channel '{channel_id}'"
            ))
        })?;
        out.push((name, approved));
    }
    Ok(out)
}

fn split_private_name(private: &str) -> Result<(String, i64), Failure> {
    let mut parts = private.split('#');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(sequence), None) => {
            let sequence = sequence.parse().map_err(|e| {
                Failure::new(format!(
                    "invalid sequence number in private name: {private}: {e}"
                ))
            })?;
            Ok((name.to_owned(), sequence))
        }
        _ => Err(Failure::new(format!(
            "invalid private name format: {private}"
        ))),
    }
}

fn fetch_approved(
    private: &str,
    sequence: i64,
    metadata: &StateMetadata,
    org: &mut Space<'_>,
) -> Result<Approved, Failure> {
    if metadata.datatype != PARAMETERS_TYPE {
        let datatype = &metadata.datatype;
        return Err(Failure::new(format!(
            "not a chaincode parameters type: {datatype}"
        )));
    }
    let mut definition = read_parameters(private, metadata, org).map_err(|e| {
        e.within(format!(
            "could not deserialize chaincode parameters for {private}"
        ))
    })?;
    definition.sequence = sequence;
    let source = read_source(private, org)?.ok_or_else(|| {
        Failure::new(format!(
            "could not fetch chaincode-source metadata for {private}"
        ))
    })?;
    if source.datatype != LOCAL_PACKAGE_TYPE {
        let datatype = source.datatype;
        return Err(Failure::new(format!(
            "not a chaincode local package type: {datatype}"
        )));
    }
    let package_id = read_package(private, &source, org)?;
    Ok(Approved {
        definition,
        package_id,
    })
}

fn read_source(private: &str, org: &mut Space<'_>) -> Result<Option<StateMetadata>, Failure> {
    read_metadata(CHAINCODE_SOURCES, private, org).map_err(|e| {
        e.within(format!(
            "could not deserialize chaincode-source metadata for {private}"
        ))
    })
}

fn read_package(
    private: &str,
    metadata: &StateMetadata,
    org: &mut Space<'_>,
) -> Result<String, Failure> {
    let within = |e: Failure| {
        e.within(format!(
            "could not deserialize chaincode package for {private}"
        ))
    };
    check_type(LOCAL_PACKAGE_TYPE, metadata).map_err(within)?;
    let key = field_key(CHAINCODE_SOURCES, private, "PackageID");
    let value = read(&key, org).map_err(within)?;
    let value = decode_field(&key, value).map_err(|e| within(Failure::new(text(&e))))?;
    match value {
        None => Ok(String::new()),
        Some(state_data::Type::String(package_id)) => Ok(package_id),
        Some(_) => Err(within(Failure::new(format!(
            "expected key {key} to encode a value of type String"
        )))),
    }
}

fn check_type(expected: &str, metadata: &StateMetadata) -> Result<(), Failure> {
    if metadata.datatype == expected {
        return Ok(());
    }
    let datatype = &metadata.datatype;
    Err(Failure::new(format!(
        "type name mismatch '{expected}' != '{datatype}'"
    )))
}

fn read(key: &str, space: &mut Space<'_>) -> Result<Option<Bytes>, Failure> {
    space
        .get(key)
        .map_err(|e| Failure::new(format!("could not get state for key {key}: {e}")))
}

fn message<M: Message + Default>(
    name: &str,
    field: &str,
    space: &mut Space<'_>,
) -> Result<M, Failure> {
    let key = field_key(NAMESPACES, name, field);
    let value = read(&key, space)?;
    decode_message_field(&key, value).map_err(|e| Failure::new(text(&e)))
}

fn read_parameters(
    name: &str,
    metadata: &StateMetadata,
    space: &mut Space<'_>,
) -> Result<ChaincodeDefinition, Failure> {
    check_type(PARAMETERS_TYPE, metadata)?;
    read_fields(name, space)
}

fn read_fields(name: &str, space: &mut Space<'_>) -> Result<ChaincodeDefinition, Failure> {
    Ok(ChaincodeDefinition {
        sequence: 0,
        endorsement: message(name, "EndorsementInfo", space)?,
        validation: message(name, "ValidationInfo", space)?,
        collections: message(name, "Collections", space)?,
    })
}

fn read_definition(
    name: &str,
    metadata: &StateMetadata,
    space: &mut Space<'_>,
) -> Result<ChaincodeDefinition, Failure> {
    let within = |e: Failure| {
        e.within(format!(
            "could not deserialize namespace {name} as chaincode"
        ))
    };
    check_type(DEFINITION_TYPE, metadata).map_err(within)?;
    let sequence = read_sequence(name, |key| space.get(key).map_err(Into::into))
        .map_err(|e| within(Failure::new(text(&e))))?;
    let fields = read_fields(name, space).map_err(within)?;
    Ok(ChaincodeDefinition { sequence, ..fields })
}
