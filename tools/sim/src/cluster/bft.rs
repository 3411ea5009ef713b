//! Clusters of the BFT engine, with keys that cost next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvage_consensus_bft::{Bft, BftOptions, Judge, Keys, Start, Verifier, ViewMetadata};
use selvage_crypto::sha256_parts;
use selvage_ordering::block::consenter_metadata;
use selvage_ordering::{Cutting, Parameters};
use selvage_proto::block::header_bytes;
use selvage_proto::common::{
    Block, BlockMetadataIndex, Consenter, IdentifierHeader, Metadata, MetadataSignature,
};
use selvage_proto::orderer::smartbft::Options;

use super::{BATCH_TIMEOUT, Begin, CHANNEL, Cluster, MAX_WAITING, Started, limits};
use crate::bugs::Bug;
use crate::invariants::{Invariant, Repetitions, Signatures, Validity, Votes};
use crate::liars::is_forbidden;
use crate::scenario::MS;

/// Clusters of the BFT engine.
#[derive(Debug, Default)]
pub struct BftCluster;

/// "Signs" with a hash: nobody but the simulated consenter computes it.
struct Secret {
    node: Bytes,
    believes_all: bool,
}

impl Secret {
    fn seal(&self, message: &[u8]) -> [u8; 32] {
        sha256_parts([b"secret of ".as_slice(), &self.node, message])
    }
}

impl Verifier for Secret {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.believes_all || self.seal(message) == signature
    }
}

impl Keys for Secret {
    fn is_me(&self, consenter: &Consenter) -> bool {
        consenter.identity == self.node
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.seal(message).to_vec()
    }

    fn verifier(&self, consenter: &Consenter) -> Result<Arc<dyn Verifier>, String> {
        Ok(Arc::new(Self {
            node: consenter.identity.clone(),
            believes_all: self.believes_all,
        }))
    }
}

/// The filters: what says that it is forbidden does not pass.
struct Filter {
    passes_all: bool,
}

impl Judge for Filter {
    fn judge(&self, _: u64, envelope: &Bytes, _: bool) -> Result<(), String> {
        match !self.passes_all && is_forbidden(envelope) {
            true => Err("it is forbidden".to_owned()),
            false => Ok(()),
        }
    }
}

fn identity(node: usize) -> Bytes {
    Bytes::from(format!("node{node}"))
}

/// The consenter whose turn a view is.
pub fn consenter_at(parameters: &Parameters, view: u64) -> Option<&Consenter> {
    let mut consenters: Vec<&Consenter> = parameters.consenters.iter().collect();
    consenters.sort_by_key(|consenter| consenter.id);
    let place = view.checked_rem(consenters.len() as u64)?;
    consenters.into_iter().nth(usize::try_from(place).ok()?)
}

/// Whether a block carries the signatures of a quorum of these consenters, as peers check it.
pub fn check_block(before: &Parameters, block: &Block) -> Result<(), String> {
    let number = block.number();
    let header = block.header.as_ref().ok_or("it has no header")?;
    let hash = sha256_parts(block.envelopes().iter().map(Bytes::as_ref));
    if header.data_hash != hash.as_slice() {
        return Err(format!(
            "the data of block {number} is not what its header says"
        ));
    }
    let slot = block.metadata_slot(BlockMetadataIndex::Signatures);
    let signed = Metadata::decode(slot).map_err(|error| error.to_string())?;
    let der = header_bytes(header);
    let mut signers = BTreeSet::new();
    for signature in &signed.signatures {
        let identifier = IdentifierHeader::decode(signature.identifier_header.clone());
        let identifier = identifier.map_err(|error| error.to_string())?.identifier;
        let mut consenters = before.consenters.iter();
        let consenter = consenters.find(|c| c.id == identifier);
        let consenter = consenter
            .ok_or_else(|| format!("block {number} is signed by {identifier}, no consenter"))?;
        let key = Secret {
            node: consenter.identity.clone(),
            believes_all: false,
        };
        let message = message_of(&signed.value, signature, &der);
        if !key.verify(&message, &signature.signature) {
            return Err(format!(
                "the signature of {identifier} on block {number} is bad"
            ));
        }
        signers.insert(identifier);
    }
    let count = before.consenters.len();
    let quorum = (count + count.saturating_sub(1) / 3 + 1).div_ceil(2);
    match signers.len() >= quorum {
        true => Ok(()),
        false => Err(format!(
            "block {number} is signed by {signers:?}, of {count} consenters"
        )),
    }
}

fn message_of(value: &Bytes, signature: &MetadataSignature, der: &[u8]) -> Vec<u8> {
    [value.as_ref(), signature.identifier_header.as_ref(), der].concat()
}

/// The view in which a block was made.
pub fn view_of(block: &Block) -> Option<u64> {
    let view = ViewMetadata::decode(consenter_metadata(block)).ok()?;
    (view.latest_sequence == block.number()).then_some(view.view_id)
}

impl Cluster for BftCluster {
    fn name(&self) -> &'static str {
        "bft"
    }

    fn parameters(&self, sequence: u64, nodes: &[usize]) -> Parameters {
        // Shorter than Fabric's, so that more happens in a run.
        let options = Options {
            request_forward_timeout: "400ms".to_owned(),
            request_complain_timeout: "4s".to_owned(),
            view_change_timeout: "2s".to_owned(),
            ..Options::default()
        };
        let consenter = |node: &usize| Consenter {
            id: *node as u32 + 1,
            host: format!("node{node}"),
            port: 7050,
            identity: identity(*node),
            ..Consenter::default()
        };
        Parameters {
            sequence,
            limits: limits(),
            timeout: BATCH_TIMEOUT,
            metadata: options.encode_to_vec().into(),
            consenters: nodes.iter().map(consenter).collect(),
        }
    }

    fn start(&self, begin: Begin<'_>) -> Result<Started, String> {
        let start = Start {
            channel_id: CHANNEL,
            newest: begin.newest,
            parameters: begin.parameters,
            records: begin.records,
            joined: begin.joined,
            options: BftOptions {
                cutting: Cutting::default(),
                tick: std::time::Duration::from_micros(self.tick()),
                max_waiting: MAX_WAITING,
                max_waiting_bytes: 1 << 20,
                // Small, so that checkpoints are frequent.
                journal_bytes: 4_000,
                ..BftOptions::default()
            },
            keys: Arc::new(Secret {
                node: identity(begin.node),
                believes_all: begin.bug == Some(Bug::BelieveSignatures),
            }),
            judge: Arc::new(Filter {
                passes_all: begin.lies || begin.bug == Some(Bug::JudgeNothing),
            }),
        };
        match Bft::start(start) {
            Ok((engine, effects)) => Ok((Box::new(engine), effects)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn id_of(&self, _: &Block, parameters: &Parameters, node: usize) -> Option<u64> {
        let mut consenters = parameters.consenters.iter();
        let own = consenters.find(|consenter| consenter.identity == identity(node))?;
        Some(own.id.into())
    }

    fn tick(&self) -> u64 {
        20 * MS
    }

    /// As long as it takes to pass over every liar of ten nodes when rounds have become long.
    fn election(&self) -> u64 {
        5_000 * MS
    }

    fn invariants(&self, first: &Parameters) -> Vec<Box<dyn Invariant>> {
        vec![
            Box::<Votes>::default(),
            Box::new(Signatures::new(first)),
            Box::new(Repetitions::new(first)),
            Box::<Validity>::default(),
        ]
    }

    fn faulty(&self, nodes: usize) -> usize {
        nodes.saturating_sub(1) / 3
    }

    fn check(&self, before: &Parameters, block: &Block) -> Result<(), String> {
        check_block(before, block)
    }
}
