//! Validation codes in words.

use selvage_proto::peer::TxValidationCode;
use serde::Serialize;

/// A validation code, its name and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodeView {
    /// The number.
    pub code: i32,
    /// Fabric's name.
    pub name: String,
    /// Whether the transaction took effect.
    pub valid: bool,
    /// What it means, in a sentence.
    pub meaning: String,
}

/// A validation code in words.
pub fn code(code: u8) -> CodeView {
    let number = i32::from(code);
    let known = TxValidationCode::try_from(number).ok();
    CodeView {
        code: number,
        name: known.map_or_else(|| format!("CODE_{code}"), |c| c.as_str_name().to_owned()),
        valid: known == Some(TxValidationCode::Valid),
        meaning: known
            .map_or("A code this program does not know.", meaning)
            .to_owned(),
    }
}

fn meaning(code: TxValidationCode) -> &'static str {
    use TxValidationCode as C;
    match code {
        C::Valid => "The transaction is valid and took effect.",
        C::NilEnvelope => "The transaction is empty.",
        C::BadPayload => "The transaction's payload cannot be read.",
        C::BadCommonHeader => "The transaction's header is malformed.",
        C::BadCreatorSignature => {
            "The sender is not valid in its organisation, or did not sign this transaction."
        }
        C::InvalidEndorserTransaction => {
            "The transaction does not hold exactly one endorsed action that fits its header."
        }
        C::InvalidConfigTransaction => "The configuration in the transaction is not allowed.",
        C::UnsupportedTxPayload => "The transaction is of a kind that blocks may not hold.",
        C::BadProposalTxid => "The transaction's id does not follow from its nonce and sender.",
        C::DuplicateTxid => "A transaction with this id is on the ledger already.",
        C::EndorsementPolicyFailure => {
            "The endorsements do not satisfy the policy of the chaincode, collection or key."
        }
        C::MvccReadConflict => {
            "Another transaction changed a key that this one had read. Send it again."
        }
        C::PhantomReadConflict => {
            "Another transaction changed the result of a range query that this one had made. \
             Send it again."
        }
        C::UnknownTxType => "The transaction's type is unknown.",
        C::TargetChainNotFound => "The transaction is for a channel the peer does not have.",
        C::MarshalTxError => "The transaction could not be encoded again.",
        C::NilTxaction => "The transaction holds no action.",
        C::ExpiredChaincode => "The chaincode's definition has expired.",
        C::ChaincodeVersionConflict => {
            "The chaincode's version changed between endorsement and commit."
        }
        C::BadHeaderExtension => "The header does not name the chaincode in readable form.",
        C::BadChannelHeader => "The channel header cannot be read.",
        C::BadResponsePayload => "The endorsed response cannot be read.",
        C::BadRwset => "The read and write set cannot be read.",
        C::IllegalWriteset => "The transaction writes where transactions may not write.",
        C::InvalidWriteset => "The write set holds a key or value the state cannot store.",
        C::InvalidChaincode => {
            "The chaincode named in the transaction is not the one that was endorsed, or is not \
             committed on the channel."
        }
        C::NotValidated => "The peer has not judged the transaction yet.",
        C::InvalidOtherReason => "The transaction is invalid for another reason.",
    }
}
