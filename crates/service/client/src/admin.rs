//! Administration of a peer: channels, blocks, chaincode packages. Fabric's words: `cscc`, `qscc`,
//! `_lifecycle`.

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::common::{Block, BlockchainInfo, Config};
use selvage_proto::lifecycle::{
    GetInstalledChaincodePackageArgs, GetInstalledChaincodePackageResult, InstallChaincodeArgs,
    InstallChaincodeResult, QueryInstalledChaincodesArgs, QueryInstalledChaincodesResult,
    query_installed_chaincodes_result::InstalledChaincode,
};
use selvage_proto::peer::{ChannelQueryResponse, ProcessedTransaction};

use crate::error::ClientError;
use crate::node::Peer;
use crate::proposal::Invocation;
use crate::user::User;

/// A peer as one user administers it.
#[derive(Debug, Clone)]
pub struct PeerAdmin {
    peer: Peer,
    user: User,
}

impl PeerAdmin {
    /// What this user may do with this peer.
    pub fn new(peer: Peer, user: User) -> Self {
        Self { peer, user }
    }

    /// The peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    pub(crate) async fn call(
        &self,
        channel_id: &str,
        invocation: &Invocation,
    ) -> Result<Bytes, ClientError> {
        let answer = self.peer.query(&self.user, channel_id, invocation).await?;
        Ok(answer.payload)
    }

    pub(crate) async fn call_for<M: Message + Default>(
        &self,
        channel_id: &str,
        invocation: &Invocation,
        what: &'static str,
    ) -> Result<M, ClientError> {
        let payload = self.call(channel_id, invocation).await?;
        M::decode(payload).map_err(|e| ClientError::answer(&self.peer.address, what, e))
    }

    /// Lets the peer join a channel, given its genesis block.
    pub async fn join_channel(&self, genesis: &Block) -> Result<(), ClientError> {
        let call = Invocation::new("cscc", "JoinChain").arg(genesis.encode_to_vec());
        self.call("", &call).await.map(drop)
    }

    /// The channels the peer has joined.
    pub async fn channels(&self) -> Result<Vec<String>, ClientError> {
        let call = Invocation::new("cscc", "GetChannels");
        let answer: ChannelQueryResponse = self.call_for("", &call, "channel list").await?;
        Ok(answer.channels.into_iter().map(|c| c.channel_id).collect())
    }

    /// Height and newest hashes of a channel.
    pub async fn channel_info(&self, channel_id: &str) -> Result<BlockchainInfo, ClientError> {
        let call = Invocation::new("qscc", "GetChainInfo").args([channel_id]);
        self.call_for(channel_id, &call, "channel information")
            .await
    }

    /// The newest configuration block.
    pub async fn config_block(&self, channel_id: &str) -> Result<Block, ClientError> {
        let call = Invocation::new("cscc", "GetConfigBlock").args([channel_id]);
        self.call_for(channel_id, &call, "configuration block")
            .await
    }

    /// The configuration in force.
    pub async fn channel_config(&self, channel_id: &str) -> Result<Config, ClientError> {
        let call = Invocation::new("cscc", "GetChannelConfig").args([channel_id]);
        self.call_for(channel_id, &call, "configuration").await
    }

    /// A block by its number.
    pub async fn block(&self, channel_id: &str, number: u64) -> Result<Block, ClientError> {
        let number = number.to_string();
        let call = Invocation::new("qscc", "GetBlockByNumber").args([channel_id, &number]);
        self.call_for(channel_id, &call, "block").await
    }

    /// A block by the hash of its header.
    pub async fn block_by_hash(
        &self,
        channel_id: &str,
        hash: impl Into<Bytes>,
    ) -> Result<Block, ClientError> {
        let call = Invocation::new("qscc", "GetBlockByHash")
            .args([channel_id])
            .arg(hash);
        self.call_for(channel_id, &call, "block").await
    }

    /// The block that holds a transaction.
    pub async fn block_by_tx_id(
        &self,
        channel_id: &str,
        tx_id: &str,
    ) -> Result<Block, ClientError> {
        let call = Invocation::new("qscc", "GetBlockByTxID").args([channel_id, tx_id]);
        self.call_for(channel_id, &call, "block").await
    }

    /// A transaction and its validation code.
    pub async fn transaction(
        &self,
        channel_id: &str,
        tx_id: &str,
    ) -> Result<ProcessedTransaction, ClientError> {
        let call = Invocation::new("qscc", "GetTransactionByID").args([channel_id, tx_id]);
        self.call_for(channel_id, &call, "transaction").await
    }

    /// Installs a chaincode package and returns its id and label.
    pub async fn install(
        &self,
        package: impl Into<Bytes>,
    ) -> Result<InstallChaincodeResult, ClientError> {
        let args = InstallChaincodeArgs {
            chaincode_install_package: package.into(),
        };
        let call = lifecycle("InstallChaincode", &args);
        self.call_for("", &call, "installation result").await
    }

    /// The chaincode packages on the peer, with the definitions that use them.
    pub async fn installed(&self) -> Result<Vec<InstalledChaincode>, ClientError> {
        let call = lifecycle("QueryInstalledChaincodes", &QueryInstalledChaincodesArgs {});
        let answer: QueryInstalledChaincodesResult =
            self.call_for("", &call, "list of packages").await?;
        Ok(answer.installed_chaincodes)
    }

    /// A chaincode package as it was installed.
    pub async fn installed_package(&self, package_id: &str) -> Result<Bytes, ClientError> {
        let args = GetInstalledChaincodePackageArgs {
            package_id: package_id.to_owned(),
        };
        let call = lifecycle("GetInstalledChaincodePackage", &args);
        let answer: GetInstalledChaincodePackageResult =
            self.call_for("", &call, "package").await?;
        Ok(answer.chaincode_install_package)
    }
}

/// A call of the lifecycle chaincode.
pub(crate) fn lifecycle(function: &str, args: &impl Message) -> Invocation {
    Invocation::new("_lifecycle", function).arg(args.encode_to_vec())
}
