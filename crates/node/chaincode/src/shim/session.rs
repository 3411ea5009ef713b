//! One stream between peer and chaincode: registration and the routing to transactions.

use std::collections::HashMap;

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{ChaincodeAdditionalParams, ChaincodeId, ChaincodeMessage};

use super::context::ContextError;

/// Why a stream ends. The texts are Fabric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A message other than `REGISTER` came first.
    #[error("[{txid}] Fabric side handler cannot handle message ({kind}) while in created state")]
    NotRegistered {
        /// Transaction of the message.
        txid: String,
        /// Its type.
        kind: String,
    },
    /// A message that only the peer sends, or of an unknown type.
    #[error("[{txid}] Fabric side handler cannot handle message ({kind}) while in ready state")]
    Unexpected {
        /// Transaction of the message.
        txid: String,
        /// Its type.
        kind: String,
    },
    /// The payload of `REGISTER` is not a chaincode id.
    #[error("error in received REGISTER, could NOT unmarshal registration info: {0}")]
    MalformedRegistration(String),
    /// The chaincode gave no name.
    #[error("error in handling register chaincode, chaincodeID name is empty")]
    EmptyName,
    /// Another stream serves this chaincode already.
    #[error("duplicate chaincodeID: {0}")]
    Duplicate(String),
    /// The chaincode was not started by this peer.
    #[error("peer will not accept external chaincode connection {0} (except in dev mode)")]
    NotLaunched(String),
    /// The TLS client certificate was issued for another chaincode, or was not shown.
    #[error("chaincode {claimed} is not allowed to register: {reason}")]
    Unauthorised {
        /// The name in `REGISTER`.
        claimed: String,
        /// What is wrong.
        reason: String,
    },
    /// The chaincode did not register in time.
    #[error("chaincode did not register within {0} seconds of opening its stream")]
    RegistrationTimeout(u64),
    /// The other side stopped reading.
    #[error("chaincode stream terminated")]
    Closed,
}

/// The capabilities offered to a chaincode with `READY`. Shims before 2.5.5 ignore them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Several writes may come in one message.
    pub use_write_batch: bool,
    /// Most writes in one message.
    pub max_size_write_batch: u32,
    /// Several keys may be read with one message.
    pub use_get_multiple_keys: bool,
    /// Most keys in one message.
    pub max_size_get_multiple_keys: u32,
}

impl Default for Offer {
    /// What Fabric's `core.yaml` sets (`chaincode.runtimeParams`).
    fn default() -> Self {
        Self {
            use_write_batch: true,
            max_size_write_batch: 1000,
            use_get_multiple_keys: true,
            max_size_get_multiple_keys: 1000,
        }
    }
}

/// What to do after a message from the chaincode.
#[derive(Debug, PartialEq)]
pub enum SessionEvent<T> {
    /// Nothing.
    Idle,
    /// The chaincode claims this name. The caller decides and then calls [`Session::accept`].
    Register(String),
    /// Hand the message to this transaction.
    Deliver {
        /// The handle given to [`Session::open`].
        to: T,
        /// A request, or the end of the transaction.
        message: ChaincodeMessage,
    },
    /// Send this to the chaincode.
    Reply(ChaincodeMessage),
    /// The message was dropped, as Fabric does; the text is for the log.
    Dropped(String),
}

#[derive(Debug)]
struct Slot<T> {
    handle: T,
    /// A request of this transaction is being answered.
    busy: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TxKey {
    channel: String,
    txid: String,
}

impl TxKey {
    fn new(channel: &str, txid: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            txid: txid.to_owned(),
        }
    }
}

/// One chaincode stream (Fabric: the peer's `Handler`). `T` is the caller's handle of a running
/// transaction, typically the sending half of a channel.
#[derive(Debug)]
pub struct Session<T> {
    offer: Offer,
    chaincode: Option<String>,
    ready: bool,
    open: HashMap<TxKey, Slot<T>>,
}

impl<T: Clone> Session<T> {
    /// A stream on which nothing was said yet.
    pub fn new(offer: Offer) -> Self {
        Self {
            offer,
            chaincode: None,
            ready: false,
            open: HashMap::new(),
        }
    }

    /// The package id under which the chaincode registered.
    pub fn chaincode(&self) -> Option<&str> {
        self.chaincode.as_deref()
    }

    /// Whether transactions may be sent.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many transactions are running.
    pub fn running(&self) -> usize {
        self.open.len()
    }

    /// Takes one message from the chaincode. An error ends the stream.
    pub fn receive(&mut self, message: ChaincodeMessage) -> Result<SessionEvent<T>, SessionError> {
        let kind = Type::try_from(message.r#type);
        if kind == Ok(Type::Keepalive) {
            return Ok(SessionEvent::Idle);
        }
        if self.ready {
            self.receive_ready(message)
        } else {
            self.receive_created(&message)
        }
    }

    fn receive_created(
        &mut self,
        message: &ChaincodeMessage,
    ) -> Result<SessionEvent<T>, SessionError> {
        if message.r#type != Type::Register as i32 || self.chaincode.is_some() {
            return Err(SessionError::NotRegistered {
                txid: message.txid.clone(),
                kind: type_name(message.r#type),
            });
        }
        let id = ChaincodeId::decode(message.payload.clone())
            .map_err(|error| SessionError::MalformedRegistration(error.to_string()))?;
        if id.name.is_empty() {
            return Err(SessionError::EmptyName);
        }
        self.chaincode = Some(id.name.clone());
        Ok(SessionEvent::Register(id.name))
    }

    fn receive_ready(
        &mut self,
        message: ChaincodeMessage,
    ) -> Result<SessionEvent<T>, SessionError> {
        let Some(kind) = request_or_end(message.r#type) else {
            return Err(SessionError::Unexpected {
                kind: type_name(message.r#type),
                txid: message.txid,
            });
        };
        let key = TxKey::new(&message.channel_id, &message.txid);
        let Some(slot) = self.open.get_mut(&key) else {
            return Ok(without_transaction(kind, &message));
        };
        if !matches!(kind, Type::Completed | Type::Error) {
            if slot.busy {
                return Ok(SessionEvent::Dropped(format!(
                    "Another request pending for this CC: {}, Txid: {}, ChannelID: {}. \
                     Cannot process.",
                    self.chaincode.as_deref().unwrap_or_default(),
                    message.txid,
                    message.channel_id
                )));
            }
            slot.busy = true;
        }
        Ok(SessionEvent::Deliver {
            to: slot.handle.clone(),
            message,
        })
    }

    /// Admits the chaincode; the messages are to be sent in order.
    pub fn accept(&mut self) -> [ChaincodeMessage; 2] {
        self.ready = true;
        let params = ChaincodeAdditionalParams {
            use_write_batch: self.offer.use_write_batch,
            max_size_write_batch: self.offer.max_size_write_batch,
            use_get_multiple_keys: self.offer.use_get_multiple_keys,
            max_size_get_multiple_keys: self.offer.max_size_get_multiple_keys,
        };
        [
            ChaincodeMessage {
                r#type: Type::Registered as i32,
                ..Default::default()
            },
            ChaincodeMessage {
                r#type: Type::Ready as i32,
                payload: Bytes::from(params.encode_to_vec()),
                ..Default::default()
            },
        ]
    }

    /// Begins a transaction: messages with this channel and id go to `handle` from now on.
    pub fn open(&mut self, channel: &str, txid: &str, handle: T) -> Result<(), ContextError> {
        let key = TxKey::new(channel, txid);
        if self.open.contains_key(&key) {
            return Err(ContextError(format!("txid: {txid}({channel}) exists")));
        }
        self.open.insert(
            key,
            Slot {
                handle,
                busy: false,
            },
        );
        Ok(())
    }

    /// Notes that the pending request of a transaction was answered.
    pub fn answered(&mut self, channel: &str, txid: &str) {
        if let Some(slot) = self.open.get_mut(&TxKey::new(channel, txid)) {
            slot.busy = false;
        }
    }

    /// Ends a transaction; later messages for it find no context.
    pub fn close(&mut self, channel: &str, txid: &str) {
        self.open.remove(&TxKey::new(channel, txid));
    }

    /// Ends every transaction, as the stream has ended.
    pub fn terminate(&mut self) {
        self.ready = false;
        self.open.clear();
    }
}

fn without_transaction<T>(kind: Type, message: &ChaincodeMessage) -> SessionEvent<T> {
    let reason = match kind {
        Type::Completed | Type::Error => {
            return SessionEvent::Dropped(format!(
                "notifier Txid:{}, channelID:{} does not exist for handling message {}",
                message.txid,
                message.channel_id,
                kind.as_str_name()
            ));
        }
        Type::InvokeChaincode => "could not get valid transaction",
        _ => "no ledger context",
    };
    SessionEvent::Reply(error_reply(message, kind, &ContextError::from(reason)))
}

/// The types a registered chaincode may send; `None` for all others.
fn request_or_end(kind: i32) -> Option<Type> {
    match Type::try_from(kind).ok()? {
        Type::Undefined
        | Type::Register
        | Type::Registered
        | Type::Init
        | Type::Ready
        | Type::Transaction
        | Type::Response
        | Type::Keepalive => None,
        other => Some(other),
    }
}

/// Fabric's name of a message type, or its number when it has none.
pub(crate) fn type_name(kind: i32) -> String {
    Type::try_from(kind).map_or_else(|_| kind.to_string(), |known| known.as_str_name().to_owned())
}

/// The `ERROR` message by which the peer refuses a request.
pub(crate) fn error_reply(
    request: &ChaincodeMessage,
    kind: Type,
    error: &ContextError,
) -> ChaincodeMessage {
    let name = kind.as_str_name();
    let text = format!("{name} failed: transaction ID: {}: {error}", request.txid);
    ChaincodeMessage {
        r#type: Type::Error as i32,
        payload: Bytes::from(text),
        txid: request.txid.clone(),
        channel_id: request.channel_id.clone(),
        ..Default::default()
    }
}
