//! Transactions without a gateway: endorsers and orderers asked directly.

use std::time::Duration;

use crate::error::ClientError;
use crate::gateway::{Committed, committed};
use crate::node::{Orderer, Peer, endorse, within};
use crate::proposal::{Invocation, Proposal, transaction_result};
use crate::user::User;

/// How long a transaction may take to be committed after it was sent.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// What an orderer says that has not joined the channel.
const NOT_JOINED: &str = "channel does not exist";

/// The nodes of a channel that a user works with.
#[derive(Debug, Clone)]
pub struct Network {
    /// The channel.
    pub channel_id: String,
    /// Who endorses. The first also reports commits.
    pub endorsers: Vec<Peer>,
    /// Who orders; tried in turn until one acknowledges.
    pub orderers: Vec<Orderer>,
}

impl Network {
    /// Has a call endorsed by all endorsers, orders the transaction and waits for its commit.
    pub async fn transact(
        &self,
        user: &User,
        invocation: &Invocation,
    ) -> Result<Committed, ClientError> {
        let proposal = Proposal::new(user, &self.channel_id, invocation.clone());
        let answers = endorse(&proposal, &self.endorsers).await?;
        let envelope = proposal.assemble(user, &answers)?;
        let result = transaction_result(&envelope)
            .map_err(|e| ClientError::answer(&answers[0].0, "proposal response", e))?;
        let reporter = self.endorsers.first();
        let reporter = reporter
            .ok_or_else(|| ClientError::Request("a transaction needs an endorser".to_owned()))?;
        let mut commits = reporter.watch_commits(user, &self.channel_id).await?;
        self.order(envelope).await?;
        let what = format!("the commit of transaction {}", proposal.tx_id);
        let status = within(COMMIT_TIMEOUT, &what, commits.commit(&proposal.tx_id)).await?;
        committed(proposal.tx_id, result.payload, status)
    }

    /// Sends a message to the first orderer that takes it. An orderer that refused it for what it
    /// is ends the search; one that is away or busy, or has not joined the channel, does not.
    pub async fn order(
        &self,
        envelope: selvage_proto::common::Envelope,
    ) -> Result<(), ClientError> {
        let none = "the channel needs an orderer".to_owned();
        let mut last = ClientError::Request(none);
        for orderer in &self.orderers {
            match orderer.broadcast(envelope.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Whether every orderer would say the same.
fn is_final(error: &ClientError) -> bool {
    use selvage_proto::common::Status::{InternalServerError, ServiceUnavailable};
    match error {
        ClientError::Broadcast { status, info, .. } => {
            !matches!(status, ServiceUnavailable | InternalServerError) && info != NOT_JOINED
        }
        _ => false,
    }
}
