//! Blocks of unsigned transactions, as a ledger takes them after validation.

#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256;
use selvage_env::{Disk, MemDisk};
use selvage_ledger::{
    CollectionInfo, CollectionSource, CommittedBlock, DecodedTx, Ledger, LedgerError,
    LedgerOptions, PrivateSets, Simulation, Simulator, StateReader, StateStorage, TxRwSet,
};
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, HeaderType,
    Payload, SignatureHeader,
};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ProposalResponsePayload,
    Transaction, TransactionAction, TxValidationCode,
};

pub(crate) const NS: &str = "cc";
/// A collection whose data stays, and one whose data goes after two further blocks.
pub(crate) const COLL: &str = "coll";
pub(crate) const SHORT: &str = "short";

/// The collections of every chaincode.
pub(crate) struct Fixed;

impl CollectionSource for Fixed {
    fn collections(
        &self,
        ns: &str,
        state: &mut dyn StateReader,
    ) -> Result<Option<Vec<CollectionInfo>>, String> {
        if ns == "none" {
            return Ok(None);
        }
        // As in Fabric, looking up a definition is itself a read.
        state
            .get_state("_lifecycle", ns)
            .map_err(|e| e.to_string())?;
        let info = |name: &str, block_to_live| CollectionInfo {
            name: name.to_owned(),
            block_to_live,
        };
        Ok(Some(vec![info(COLL, 0), info(SHORT, 2)]))
    }
}

pub(crate) fn open_on(disk: Arc<dyn Disk>) -> Result<Arc<Ledger>, LedgerError> {
    let options = LedgerOptions {
        state: StateStorage::Memory,
        ..LedgerOptions::default()
    };
    Ledger::open(disk, Path::new("/ledger"), options, Arc::new(Fixed))
}

pub(crate) fn in_memory() -> Arc<Ledger> {
    open_on(Arc::new(MemDisk::new())).expect("an empty ledger opens")
}

pub(crate) fn on_disk(dir: &Path) -> Result<Arc<Ledger>, LedgerError> {
    let disk = Arc::new(selvage_env::RealDisk);
    Ledger::open(disk, dir, LedgerOptions::default(), Arc::new(Fixed))
}

/// An envelope of the given type.
pub(crate) fn envelope(kind: HeaderType, id: &str, data: Vec<u8>) -> Bytes {
    let channel = ChannelHeader {
        r#type: kind as i32,
        channel_id: "ch".into(),
        tx_id: id.into(),
        ..Default::default()
    };
    let signature = SignatureHeader {
        creator: Bytes::from_static(b"creator"),
        nonce: Bytes::copy_from_slice(id.as_bytes()),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: signature.encode_to_vec().into(),
        }),
        data: data.into(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    envelope.encode_to_vec().into()
}

/// An endorser transaction with these results.
pub(crate) fn transaction(id: &str, results: Bytes) -> Bytes {
    let response = selvage_proto::peer::Response {
        status: 200,
        ..Default::default()
    };
    let action = ChaincodeAction {
        results,
        response: Some(response),
        ..Default::default()
    };
    let response = ProposalResponsePayload {
        proposal_hash: Bytes::new(),
        extension: action.encode_to_vec().into(),
    };
    let payload = ChaincodeActionPayload {
        chaincode_proposal_payload: Bytes::new(),
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: response.encode_to_vec().into(),
            endorsements: Vec::new(),
        }),
    };
    let transaction = Transaction {
        actions: vec![TransactionAction {
            header: Bytes::new(),
            payload: payload.encode_to_vec().into(),
        }],
    };
    let kind = HeaderType::EndorserTransaction;
    envelope(kind, id, transaction.encode_to_vec())
}

/// The block that comes next in this ledger.
pub(crate) fn next_block(ledger: &Ledger, envelopes: Vec<Bytes>) -> Block {
    let info = ledger.info();
    let mut data = Vec::new();
    envelopes.iter().for_each(|e| data.extend_from_slice(e));
    Block {
        header: Some(BlockHeader {
            number: info.height,
            previous_hash: info.current_block_hash,
            data_hash: sha256(&data).to_vec().into(),
        }),
        data: Some(BlockData { data: envelopes }),
        metadata: Some(BlockMetadata::default()),
    }
}

/// The endorser transactions of a block as a validator hands them over.
pub(crate) fn decoded(block: &Block) -> Vec<Option<DecodedTx>> {
    block.envelopes().iter().map(decoded_tx).collect()
}

fn decoded_tx(envelope: &Bytes) -> Option<DecodedTx> {
    let envelope = Envelope::decode(envelope.clone()).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    let header = ChannelHeader::decode(payload.header?.channel_header).ok()?;
    if header.r#type != HeaderType::EndorserTransaction as i32 {
        return None;
    }
    let transaction = Transaction::decode(payload.data).ok()?;
    let action = transaction.actions.into_iter().next()?;
    let action = ChaincodeActionPayload::decode(action.payload).ok()?;
    let response = action.action?.proposal_response_payload;
    let response = ProposalResponsePayload::decode(response).ok()?;
    let action = ChaincodeAction::decode(response.extension).ok()?;
    Some(DecodedTx {
        id: header.tx_id,
        set: Arc::new(TxRwSet::decode(action.results).ok()?),
    })
}

/// Commits transactions that the validator found valid.
pub(crate) fn commit(ledger: &Ledger, envelopes: Vec<Bytes>) -> Arc<CommittedBlock> {
    commit_private(ledger, envelopes, &PrivateSets::new())
}

pub(crate) fn commit_private(
    ledger: &Ledger,
    envelopes: Vec<Bytes>,
    private: &PrivateSets,
) -> Arc<CommittedBlock> {
    let codes = vec![TxValidationCode::Valid; envelopes.len()];
    let block = next_block(ledger, envelopes);
    ledger.commit(block, &codes, private).expect("commits")
}

/// Runs a transaction and gives what it did.
pub(crate) fn simulate(ledger: &Ledger, id: &str, run: impl FnOnce(&mut Simulator)) -> Simulation {
    let mut simulator = ledger.simulator(id).expect("a simulator");
    run(&mut simulator);
    simulator.done().expect("results")
}

/// Runs a transaction and makes it an envelope.
pub(crate) fn run(ledger: &Ledger, id: &str, run: impl FnOnce(&mut Simulator)) -> Bytes {
    transaction(id, simulate(ledger, id, run).results)
}

/// Writes keys of [`NS`] in one block. An empty value deletes.
pub(crate) fn put(ledger: &Ledger, pairs: &[(&str, &str)]) -> Arc<CommittedBlock> {
    let id = format!("put-{}", ledger.height());
    let tx = run(ledger, &id, |s| {
        for (key, value) in pairs {
            let value = Bytes::copy_from_slice(value.as_bytes());
            s.set_state(NS, key, value).expect("writes");
        }
    });
    commit(ledger, vec![tx])
}

pub(crate) fn get(ledger: &Ledger, key: &str) -> Option<String> {
    let query = ledger.query().expect("a query");
    let value = query.get_state(NS, key).expect("state");
    value.map(|v| String::from_utf8(v.to_vec()).expect("text"))
}
