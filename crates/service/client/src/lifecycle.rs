//! Chaincode definitions: what organisations approve and commit.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_identity::policy::dsl;
use selvage_proto::Message as _;
use selvage_proto::common::SignaturePolicyEnvelope;
use selvage_proto::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ChaincodeSource, CheckCommitReadinessArgs,
    CheckCommitReadinessResult, CommitChaincodeDefinitionArgs,
    QueryApprovedChaincodeDefinitionArgs, QueryApprovedChaincodeDefinitionResult,
    QueryChaincodeDefinitionArgs, QueryChaincodeDefinitionResult, QueryChaincodeDefinitionsArgs,
    QueryChaincodeDefinitionsResult, chaincode_source,
    query_chaincode_definitions_result::ChaincodeDefinition as CommittedDefinition,
};
use selvage_proto::peer::{ApplicationPolicy, CollectionConfigPackage, application_policy};

use crate::admin::{PeerAdmin, lifecycle};
use crate::error::ClientError;
use crate::gateway::Committed;
use crate::transact::Network;
use crate::user::User;

/// Arguments that carry a definition. The three messages that do have the same fields under
/// different types, and at most one of their own.
macro_rules! arguments {
    ($message:path, $definition:expr $(, $field:ident: $value:expr)* $(,)?) => {{
        let definition: &Definition = $definition;
        $message {
            sequence: definition.sequence,
            name: definition.name.clone(),
            version: definition.version.clone(),
            endorsement_plugin: definition.endorsement_plugin.clone(),
            validation_plugin: definition.validation_plugin.clone(),
            validation_parameter: definition.validation_parameter()?,
            collections: definition.collections.clone(),
            init_required: definition.init_required,
            $($field: $value),*
        }
    }};
}

/// Who has to endorse a chaincode's transactions.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum EndorsementPolicy {
    /// What the channel's `Endorsement` policy says.
    #[default]
    Default,
    /// A signature policy in text form: `AND('Org1MSP.peer', 'Org2MSP.peer')`.
    Signature(String),
    /// A signature policy made already: the text form knows roles only.
    Signers(SignaturePolicyEnvelope),
    /// Another policy of the channel, by path.
    Channel(String),
    /// That of an earlier definition, as it was committed (`validation_parameter`).
    Committed(Bytes),
}

/// A chaincode definition, without the package.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// The chaincode's name on the channel.
    pub name: String,
    /// A version for people.
    pub version: String,
    /// 1 for the first definition, then one more each time.
    pub sequence: i64,
    /// Who has to endorse.
    pub endorsement: EndorsementPolicy,
    /// Private data collections.
    pub collections: Option<CollectionConfigPackage>,
    /// Whether the chaincode has to be initialised before use.
    pub init_required: bool,
    /// The endorsement plugin; empty for the default.
    pub endorsement_plugin: String,
    /// The validation plugin; empty for the default.
    pub validation_plugin: String,
}

impl Definition {
    /// A definition with defaults for everything else.
    pub fn new(name: &str, version: &str, sequence: i64) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            sequence,
            ..Self::default()
        }
    }

    fn validation_parameter(&self) -> Result<Bytes, ClientError> {
        use application_policy::Type;
        let policy = match &self.endorsement {
            EndorsementPolicy::Default => return Ok(Bytes::new()),
            EndorsementPolicy::Committed(policy) => return Ok(policy.clone()),
            EndorsementPolicy::Signers(policy) => Type::SignaturePolicy(policy.clone()),
            EndorsementPolicy::Channel(path) => Type::ChannelConfigPolicyReference(path.clone()),
            EndorsementPolicy::Signature(text) => {
                let policy = dsl::parse(text).map_err(|e| {
                    ClientError::Request(format!("invalid signature policy {text}: {e}"))
                })?;
                Type::SignaturePolicy(policy)
            }
        };
        let policy = ApplicationPolicy {
            r#type: Some(policy),
        };
        Ok(policy.encode_to_vec().into())
    }
}

impl Network {
    /// Approves a definition for the user's organisation. The network's endorsers have to be peers
    /// of that organisation; `package_id` is the installed package that runs it there, if any.
    pub async fn approve(
        &self,
        user: &User,
        definition: &Definition,
        package_id: Option<&str>,
    ) -> Result<Committed, ClientError> {
        use chaincode_source::{Local, Type, Unavailable};
        let source = match package_id {
            Some(id) => Type::LocalPackage(Local {
                package_id: id.to_owned(),
            }),
            None => Type::Unavailable(Unavailable {}),
        };
        let args = arguments!(
            ApproveChaincodeDefinitionForMyOrgArgs,
            definition,
            source: Some(ChaincodeSource {
                r#type: Some(source),
            }),
        );
        let call = lifecycle("ApproveChaincodeDefinitionForMyOrg", &args);
        self.transact(user, &call).await
    }

    /// Commits a definition that enough organisations approved. The network's endorsers have to be
    /// peers of as many organisations as `LifecycleEndorsement` asks for.
    pub async fn commit(
        &self,
        user: &User,
        definition: &Definition,
    ) -> Result<Committed, ClientError> {
        let args = arguments!(CommitChaincodeDefinitionArgs, definition);
        let call = lifecycle("CommitChaincodeDefinition", &args);
        self.transact(user, &call).await
    }
}

impl PeerAdmin {
    /// Which organisations approved exactly this definition.
    pub async fn commit_readiness(
        &self,
        channel_id: &str,
        definition: &Definition,
    ) -> Result<BTreeMap<String, bool>, ClientError> {
        let args = arguments!(CheckCommitReadinessArgs, definition);
        let call = lifecycle("CheckCommitReadiness", &args);
        let answer: CheckCommitReadinessResult =
            self.call_for(channel_id, &call, "approvals").await?;
        Ok(answer.approvals)
    }

    /// A committed definition and who approved it. An unknown name is an
    /// [`ClientError::Endorsement`] of status 404 or 500.
    pub async fn committed(
        &self,
        channel_id: &str,
        name: &str,
    ) -> Result<QueryChaincodeDefinitionResult, ClientError> {
        let args = QueryChaincodeDefinitionArgs {
            name: name.to_owned(),
        };
        let call = lifecycle("QueryChaincodeDefinition", &args);
        self.call_for(channel_id, &call, "definition").await
    }

    /// All committed definitions of a channel.
    pub async fn committed_all(
        &self,
        channel_id: &str,
    ) -> Result<Vec<CommittedDefinition>, ClientError> {
        let call = lifecycle(
            "QueryChaincodeDefinitions",
            &QueryChaincodeDefinitionsArgs {},
        );
        let answer: QueryChaincodeDefinitionsResult =
            self.call_for(channel_id, &call, "definitions").await?;
        Ok(answer.chaincode_definitions)
    }

    /// What the peer's organisation approved; sequence 0 asks for the newest.
    pub async fn approved(
        &self,
        channel_id: &str,
        name: &str,
        sequence: i64,
    ) -> Result<QueryApprovedChaincodeDefinitionResult, ClientError> {
        let args = QueryApprovedChaincodeDefinitionArgs {
            name: name.to_owned(),
            sequence,
        };
        let call = lifecycle("QueryApprovedChaincodeDefinition", &args);
        self.call_for(channel_id, &call, "approved definition")
            .await
    }
}
