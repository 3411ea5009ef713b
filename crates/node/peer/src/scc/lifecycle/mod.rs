//! The system chaincode `_lifecycle`: installing, approving and committing chaincode
//! (Fabric: `core/chaincode/lifecycle/scc.go`).

mod functions;
mod record;
mod validate;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;
use selvage_proto::lifecycle as wire;
use selvage_proto::lifecycle::check_commit_readiness_result::Mismatches;
use selvage_proto::lifecycle::query_approved_chaincode_definitions_result as approved_result;
use selvage_proto::lifecycle::query_chaincode_definitions_result as definitions_result;
use selvage_proto::lifecycle::query_installed_chaincode_result as installed_result;
use selvage_proto::lifecycle::query_installed_chaincodes_result as all_installed_result;
use selvage_proto::lifecycle::{ChaincodeEndorsementInfo, ChaincodeValidationInfo};
use selvage_proto::lifecycle::{ChaincodeSource, chaincode_source};
use selvage_proto::peer::{CollectionConfigPackage, Response};

pub(crate) use self::functions::collection_of as implicit_collection_of;
use self::functions::collection_of;
pub(crate) use self::functions::defined_chaincodes;
use self::functions::{Approved, Target};
use super::stub::{ChannelView, Failure, Packages, State, success};
use crate::lifecycle::ChaincodeDefinition;

/// An answer that carries a definition. The four messages that do have the same fields under
/// different types, and one or two of their own.
macro_rules! described {
    ($message:path, $definition:expr, $($field:ident: $value:expr),* $(,)?) => {{
        let definition: ChaincodeDefinition = $definition;
        $message {
            sequence: definition.sequence,
            version: definition.endorsement.version,
            endorsement_plugin: definition.endorsement.endorsement_plugin,
            validation_plugin: definition.validation.validation_plugin,
            validation_parameter: definition.validation.validation_parameter,
            collections: Some(definition.collections),
            init_required: definition.endorsement.init_required,
            $($field: $value),*
        }
    }};
}

/// What one call of `_lifecycle` works on.
pub(crate) struct Call<'a> {
    /// Empty for calls that concern the peer and no channel.
    pub(crate) channel_id: &'a str,
    /// The configuration of the channel, if there is one.
    pub(crate) view: Option<&'a dyn ChannelView>,
    /// The peer's own organisation.
    pub(crate) msp_id: &'a str,
    /// The packages of this peer.
    pub(crate) packages: &'a dyn Packages,
}

/// Checks of a call that come before its access control: the arguments and the channel.
pub(crate) fn check_call(
    args: &[Bytes],
    channel_id: &str,
    view: Option<&dyn ChannelView>,
) -> Result<(), Failure> {
    match args.len() {
        2 => {}
        0 => return Err(Failure::new("lifecycle scc must be invoked with arguments")),
        n => {
            return Err(Failure::new(format!(
                "lifecycle scc operations require exactly two arguments but received {n}"
            )));
        }
    }
    if channel_id.is_empty() {
        return Ok(());
    }
    let view = view.ok_or_else(|| no_channel_config(channel_id))?;
    if !view.lifecycle_v20() {
        return Err(Failure::new(format!(
            "cannot use new lifecycle for channel '{channel_id}' as it does not have the required \
             capabilities enabled"
        )));
    }
    Ok(())
}

fn no_channel_config(channel_id: &str) -> Failure {
    Failure::new(format!(
        "could not get channelconfig for channel '{channel_id}'"
    ))
}

/// Whether an organisation approved exactly this definition. Its hashes suffice to tell.
pub(crate) fn approves(
    name: &str,
    definition: &ChaincodeDefinition,
    msp_id: &str,
    state: &mut dyn State,
) -> Result<bool, String> {
    let orgs = [msp_id.to_owned()];
    let found = functions::approvals(name, definition, &orgs, state).map_err(|e| e.message)?;
    Ok(found.mismatches.is_empty())
}

/// Installs the package a call of `InstallChaincode` brings.
pub(crate) async fn install(input: &Bytes, packages: &dyn Packages) -> Response {
    let name = "InstallChaincode";
    let outcome = match decode::<wire::InstallChaincodeArgs>(name, input) {
        Ok(args) => packages
            .install(args.chaincode_install_package)
            .await
            .map_err(Failure::new),
        Err(failure) => Err(failure),
    };
    let outcome = outcome
        .map(|(package_id, label)| encode(wire::InstallChaincodeResult { package_id, label }));
    respond(name, outcome)
}

/// Runs every other function. `state` is absent for calls without a channel.
pub(crate) fn invoke(
    call: &Call<'_>,
    function: &str,
    input: &Bytes,
    state: Option<&mut dyn State>,
) -> Response {
    respond(function, dispatch(call, function, input, state))
}

fn respond(function: &str, outcome: Result<Bytes, Failure>) -> Response {
    match outcome {
        Ok(payload) => success(payload),
        Err(failure) if failure.status == 404 => failure.into(),
        Err(failure) => failure
            .within(format!(
                "failed to invoke backing implementation of '{function}'"
            ))
            .into(),
    }
}

fn dispatch(
    call: &Call<'_>,
    function: &str,
    input: &Bytes,
    state: Option<&mut dyn State>,
) -> Result<Bytes, Failure> {
    match function {
        "QueryInstalledChaincodes" => {
            decode::<wire::QueryInstalledChaincodesArgs>(function, input)?;
            return Ok(query_installed_chaincodes(call));
        }
        "QueryInstalledChaincode" => {
            return query_installed_chaincode(call, &decode(function, input)?);
        }
        "GetInstalledChaincodePackage" => {
            let args: wire::GetInstalledChaincodePackageArgs = decode(function, input)?;
            let package = call
                .packages
                .load(&args.package_id)
                .map_err(|e| Failure::new(e).within("could not load cc install package"))?;
            return Ok(encode(wire::GetInstalledChaincodePackageResult {
                chaincode_install_package: package,
            }));
        }
        _ => {}
    }
    let known = matches!(
        function,
        "ApproveChaincodeDefinitionForMyOrg"
            | "QueryApprovedChaincodeDefinition"
            | "QueryApprovedChaincodeDefinitions"
            | "CheckCommitReadiness"
            | "CommitChaincodeDefinition"
            | "QueryChaincodeDefinition"
            | "QueryChaincodeDefinitions"
    );
    if !known {
        return Err(Failure::new(format!(
            "receiver *lifecycle.Invocation.{function} does not exist"
        )));
    }
    let (Some(view), Some(state)) = (call.view, state) else {
        return Err(no_channel_config(call.channel_id));
    };
    on_channel(call, function, input, view, state)
}

fn on_channel(
    call: &Call<'_>,
    function: &str,
    input: &Bytes,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<Bytes, Failure> {
    let collection = collection_of(call.msp_id);
    let channel_id = call.channel_id;
    let target = |name| Target {
        channel_id,
        name,
        collection: &collection,
    };
    match function {
        "ApproveChaincodeDefinitionForMyOrg" => {
            let args: wire::ApproveChaincodeDefinitionForMyOrgArgs = decode(function, input)?;
            validate(
                &args.name,
                &args.version,
                args.collections.as_ref(),
                view,
                state,
            )?;
            let package_id = package_of(args.source.as_ref());
            let definition = definition_of_approval(&args);
            functions::approve(&target(&args.name), definition, &package_id, view, state)?;
            Ok(encode(wire::ApproveChaincodeDefinitionForMyOrgResult {}))
        }
        "QueryApprovedChaincodeDefinition" => {
            let args: wire::QueryApprovedChaincodeDefinitionArgs = decode(function, input)?;
            let approved = functions::query_approved(&target(&args.name), args.sequence, state)?;
            Ok(encode(approved_definition(approved)))
        }
        "QueryApprovedChaincodeDefinitions" => {
            decode::<wire::QueryApprovedChaincodeDefinitionsArgs>(function, input)?;
            let all = functions::query_all_approved(channel_id, &collection, state)?;
            let approved_chaincode_definitions = all
                .into_iter()
                .map(|(name, a)| listed_approval(name, a))
                .collect();
            Ok(encode(wire::QueryApprovedChaincodeDefinitionsResult {
                approved_chaincode_definitions,
            }))
        }
        "CheckCommitReadiness" => {
            let args: wire::CheckCommitReadinessArgs = decode(function, input)?;
            check_commit_readiness(&target(&args.name), &args, view, state)
        }
        "CommitChaincodeDefinition" => {
            let args: wire::CommitChaincodeDefinitionArgs = decode(function, input)?;
            commit(call, &target(&args.name), &args, view, state)
        }
        "QueryChaincodeDefinition" => {
            query_chaincode_definition(&decode(function, input)?, view, state)
        }
        _ => {
            decode::<wire::QueryChaincodeDefinitionsArgs>(function, input)?;
            query_chaincode_definitions(state)
        }
    }
}

fn validate(
    name: &str,
    version: &str,
    collections: Option<&CollectionConfigPackage>,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<(), Failure> {
    validate::definition(name, version, collections, view, state)
        .map_err(|e| e.within("error validating chaincode definition"))
}

fn check_commit_readiness(
    target: &Target<'_>,
    args: &wire::CheckCommitReadinessArgs,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<Bytes, Failure> {
    let mut definition = definition_of_check(args);
    let found = functions::check_readiness(target, &mut definition, view, state)?;
    let mismatches = found.mismatches.into_iter();
    Ok(encode(wire::CheckCommitReadinessResult {
        approvals: found.by_org,
        mismatches: mismatches
            .map(|(org, items)| (org, Mismatches { items }))
            .collect(),
    }))
}

fn commit(
    call: &Call<'_>,
    target: &Target<'_>,
    args: &wire::CommitChaincodeDefinitionArgs,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<Bytes, Failure> {
    validate(
        &args.name,
        &args.version,
        args.collections.as_ref(),
        view,
        state,
    )?;
    let msp_id = call.msp_id;
    if !functions::org_ids(view).iter().any(|id| id == msp_id) {
        return Err(Failure::new(
            "impossibly, this peer's org is processing requests for a channel it is not a member \
             of",
        ));
    }
    let found = functions::commit(target, definition_of_commit(args), view, state)?;
    if found.by_org.get(msp_id) != Some(&true) {
        return Err(Failure::new(format!(
            "chaincode definition not agreed to by this org ({msp_id})"
        )));
    }
    Ok(encode(wire::CommitChaincodeDefinitionResult {}))
}

fn query_chaincode_definition(
    args: &wire::QueryChaincodeDefinitionArgs,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<Bytes, Failure> {
    let definition = functions::query_definition(&args.name, state)?;
    let orgs = functions::org_ids(view);
    let found = functions::approvals(&args.name, &definition, &orgs, state)?;
    Ok(encode(described!(
        wire::QueryChaincodeDefinitionResult,
        definition,
        approvals: found.by_org,
    )))
}

fn query_chaincode_definitions(state: &mut dyn State) -> Result<Bytes, Failure> {
    let mut chaincode_definitions = Vec::new();
    for name in functions::defined_chaincodes(state)? {
        let definition = functions::query_definition(&name, state)?;
        chaincode_definitions.push(described!(
            definitions_result::ChaincodeDefinition,
            definition,
            name: name,
        ));
    }
    Ok(encode(wire::QueryChaincodeDefinitionsResult {
        chaincode_definitions,
    }))
}

fn query_installed_chaincodes(call: &Call<'_>) -> Bytes {
    let mut installed_chaincodes = Vec::new();
    for package in call.packages.list() {
        let mut listed = all_installed_result::InstalledChaincode {
            package_id: package.package_id,
            label: package.label,
            ..Default::default()
        };
        for (channel, name, version) in package.references {
            let references = listed.references.entry(channel).or_default();
            references
                .chaincodes
                .push(all_installed_result::Chaincode { name, version });
        }
        installed_chaincodes.push(listed);
    }
    encode(wire::QueryInstalledChaincodesResult {
        installed_chaincodes,
    })
}

fn query_installed_chaincode(
    call: &Call<'_>,
    args: &wire::QueryInstalledChaincodeArgs,
) -> Result<Bytes, Failure> {
    let id = &args.package_id;
    let found = call
        .packages
        .list()
        .into_iter()
        .find(|p| p.package_id == *id);
    let package = found
        .ok_or_else(|| Failure::new(format!("could not find chaincode with package id '{id}'")))?;
    let mut result = wire::QueryInstalledChaincodeResult {
        package_id: package.package_id,
        label: package.label,
        ..Default::default()
    };
    for (channel, name, version) in package.references {
        let references = result.references.entry(channel).or_default();
        references
            .chaincodes
            .push(installed_result::Chaincode { name, version });
    }
    Ok(encode(result))
}

fn package_of(source: Option<&ChaincodeSource>) -> String {
    match source.and_then(|s| s.r#type.as_ref()) {
        Some(chaincode_source::Type::LocalPackage(local)) => local.package_id.clone(),
        Some(chaincode_source::Type::Unavailable(_)) | None => String::new(),
    }
}

fn source_of(package_id: String) -> ChaincodeSource {
    let kind = if package_id.is_empty() {
        chaincode_source::Type::Unavailable(chaincode_source::Unavailable {})
    } else {
        chaincode_source::Type::LocalPackage(chaincode_source::Local { package_id })
    };
    ChaincodeSource { r#type: Some(kind) }
}

fn approved_definition(approved: Approved) -> wire::QueryApprovedChaincodeDefinitionResult {
    described!(
        wire::QueryApprovedChaincodeDefinitionResult,
        approved.definition,
        source: Some(source_of(approved.package_id)),
    )
}

fn listed_approval(
    name: String,
    approved: Approved,
) -> approved_result::ApprovedChaincodeDefinition {
    described!(
        approved_result::ApprovedChaincodeDefinition,
        approved.definition,
        name: name,
        source: Some(source_of(approved.package_id)),
    )
}

/// The three argument messages carry the same fields under different types.
macro_rules! definition_from {
    ($name:ident, $args:ty) => {
        fn $name(args: &$args) -> ChaincodeDefinition {
            ChaincodeDefinition {
                sequence: args.sequence,
                endorsement: ChaincodeEndorsementInfo {
                    version: args.version.clone(),
                    init_required: args.init_required,
                    endorsement_plugin: args.endorsement_plugin.clone(),
                },
                validation: ChaincodeValidationInfo {
                    validation_plugin: args.validation_plugin.clone(),
                    validation_parameter: args.validation_parameter.clone(),
                },
                collections: args.collections.clone().unwrap_or_default(),
            }
        }
    };
}

definition_from!(
    definition_of_approval,
    wire::ApproveChaincodeDefinitionForMyOrgArgs
);
definition_from!(definition_of_commit, wire::CommitChaincodeDefinitionArgs);
definition_from!(definition_of_check, wire::CheckCommitReadinessArgs);

fn decode<M: Message + Default>(function: &str, input: &Bytes) -> Result<M, Failure> {
    M::decode(input.clone()).map_err(|e| {
        Failure::new(format!(
            "could not decode input arg for *lifecycle.Invocation.{function}: proto: {e}"
        ))
    })
}

fn encode(message: impl Message) -> Bytes {
    message.encode_to_vec().into()
}
