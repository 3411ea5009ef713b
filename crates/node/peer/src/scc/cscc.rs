//! `cscc`: joining channels and reading their configuration (Fabric: `core/scc/cscc`).

use bytes::Bytes;
use prost::Message;
use selvage_channel::{ChannelConfig, config_transaction, open_config};
use selvage_proto::common::Block;
use selvage_proto::peer::{ChannelInfo, ChannelQueryResponse, JoinBySnapshotStatus, Response};

use super::stub::success;
use super::{Failure, SystemChaincodes, refuse_callers};
use crate::chaincode_glue::Tx;
use crate::report;

impl SystemChaincodes {
    pub(super) async fn configuration(
        &self,
        tx: &mut Tx,
        args: &[Bytes],
    ) -> Result<Response, Failure> {
        let count = args.len();
        let miscounted = || Failure::new(format!("Incorrect number of arguments, {count}"));
        let function = String::from_utf8_lossy(args.first().ok_or_else(miscounted)?);
        let alone = matches!(&*function, "GetChannels" | "JoinBySnapshotStatus");
        let argument = match args.get(1) {
            Some(argument) => argument.clone(),
            None if alone => Bytes::new(),
            None => return Err(miscounted()),
        };
        refuse_callers(
            tx,
            "cscc",
            "Rejecting invoke of CSCC from another chaincode",
        )?;
        let denied = |what: &str, error: String| {
            Failure::new(format!("access denied for [{function}]{what}: {error}"))
        };
        match &*function {
            "JoinChain" => self.join_chain(tx, &argument).await,
            "JoinChainBySnapshot" => {
                if argument.is_empty() {
                    let text = "Cannot join the channel, no snapshot directory provided";
                    return Err(Failure::new(text));
                }
                self.check(tx, "", "cscc/JoinChainBySnapshot")
                    .map_err(|e| denied("", format!("[{e}]")))?;
                Err(Failure::new(
                    "joining a channel by snapshot is not supported by this peer",
                ))
            }
            "JoinBySnapshotStatus" => {
                self.check(tx, "", "cscc/JoinBySnapshotStatus")
                    .map_err(|e| denied("", e))?;
                Ok(success(JoinBySnapshotStatus::default().encode_to_vec()))
            }
            "GetChannels" => {
                self.check(tx, "", "cscc/GetChannels")
                    .map_err(|e| denied("", e))?;
                Ok(self.channel_list())
            }
            "GetConfigBlock" => {
                let id = String::from_utf8_lossy(&argument);
                self.check(tx, &id, "cscc/GetConfigBlock")
                    .map_err(|e| denied(&format!("[{id}]"), e))?;
                self.config_block(&id)
            }
            "GetChannelConfig" => {
                let id = String::from_utf8_lossy(&argument);
                if id.is_empty() {
                    return Err(Failure::new("empty channel name provided"));
                }
                self.check(tx, &id, "cscc/GetChannelConfig")
                    .map_err(|e| denied(&format!("[{id}]"), e))?;
                let channel = self.channels.get(&id);
                let channel =
                    channel.ok_or_else(|| Failure::new(format!("unknown channel ID, {id}")))?;
                Ok(success(channel.config().config().encode_to_vec()))
            }
            _ => Err(Failure::new(format!(
                "Requested function {function} not found."
            ))),
        }
    }

    fn channel_list(&self) -> Response {
        let info = |id: &str| ChannelInfo {
            channel_id: id.to_owned(),
        };
        let channels = self.channels.list().iter().map(|c| info(c.id())).collect();
        success(ChannelQueryResponse { channels }.encode_to_vec())
    }

    fn config_block(&self, id: &str) -> Result<Response, Failure> {
        let channel = self
            .channels
            .get(id)
            .ok_or_else(|| Failure::new(format!("Unknown channel ID, {id}")))?;
        let ledger = channel.ledger();
        let failed = |e: selvage_ledger::LedgerError| Failure::new(report(&e));
        let newest = ledger.block_by_number(u64::MAX).map_err(failed)?;
        let index = newest
            .last_config_index()
            .map_err(|e| Failure::new(format!("failed to retrieve metadata: {e}")))?;
        ledger.raw_block(index).map(success).map_err(failed)
    }

    async fn join_chain(&self, tx: &mut Tx, block: &Bytes) -> Result<Response, Failure> {
        if block.is_empty() {
            let text = "Cannot join the channel <nil> configuration block provided";
            return Err(Failure::new(text));
        }
        let block = Block::decode(block.clone()).map_err(|e| {
            Failure::new(format!(
                "Failed to reconstruct the genesis block, error unmarshalling Block: proto: {e}"
            ))
        })?;
        let (id, _) = config_transaction(&block)
            .and_then(|envelope| open_config(&envelope))
            .map_err(|e| {
                Failure::new(format!(
                    "\"JoinChain\" request failed to extract channel id from the block due to [{}]",
                    report(&e)
                ))
            })?;
        let invalid = |error: String| {
            Failure::new(format!(
                "\"JoinChain\" for channelID = {id} failed because of validation of configuration \
                 block, because of {error}"
            ))
        };
        let config = ChannelConfig::from_block(&block).map_err(|e| invalid(report(&e)))?;
        if config.application().is_none() {
            let text = "Invalid configuration block, missing Application configuration group";
            return Err(invalid(text.to_owned()));
        }
        config
            .check_supported_by_peer()
            .map_err(|e| invalid(format!("Failed capabilities check: [{}]", report(&e))))?;
        self.check(tx, "", "cscc/JoinChain")
            .map_err(|e| Failure::new(format!("access denied for [JoinChain][{id}]: [{e}]")))?;
        let channels = self.channels.clone();
        let joined = tokio::task::spawn_blocking(move || channels.join(block)).await;
        match joined {
            Ok(Ok(_)) => Ok(success(Bytes::new())),
            Ok(Err(error)) => Err(Failure::new(report(&error))),
            Err(error) => Err(Failure::new(format!("joining was interrupted: {error}"))),
        }
    }
}
