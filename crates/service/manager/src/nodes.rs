//! The real nodes, spoken to in Fabric's protocols through the client crate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use prost::Message;
use selvage_client::{
    ClientError, Definition, Gateway, Invocation, Network as ChannelNodes, Orderer, Participation,
    Peer, PeerAdmin, User,
};
use selvage_crypto::PrivateKey;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::Endpoint;
use selvage_net::tls::{ClientTls, TlsIdentity};
use selvage_proto::common::Block;
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;
use selvage_proto::lifecycle::query_installed_chaincodes_result::InstalledChaincode as Installed;

use crate::error::ManagerError;
use crate::fabric::{Answer, At, ChaincodePlan, Fabric, Site};
use crate::files::read_limited;
use crate::network::keys::{self, ADMIN, USER};
use crate::network::{ChannelPlan, Node, Org};

/// Largest certificate or key file.
const MOST: u64 = 64 * 1024;
/// Largest genesis block.
const MOST_BLOCK: u64 = 16 * 1024 * 1024;
/// How long a chaincode may take to start and answer its first call.
const START: Duration = Duration::from_secs(120);
/// Pause between looks at something that will come about by itself.
const LOOK: Duration = Duration::from_millis(25);

/// Opens users and connections from an instance's folders.
#[derive(Clone)]
pub(crate) struct Nodes {
    env: Env,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self { env: Env::real() }
    }

    /// A user of an organisation.
    pub(crate) fn user(&self, site: &Site, org: &Org, user: &str) -> Result<User, ManagerError> {
        let msp = site.folders.user(org, user).join("msp");
        let cert = read_limited(&keys::only_file(&msp.join("signcerts"))?, MOST)?;
        let key = read_limited(&keys::only_file(&msp.join("keystore"))?, MOST)?;
        let fail = |source| ManagerError::Keys {
            doing: "use an identity",
            source,
        };
        let key = PrivateKey::from_pem(&key).map_err(fail)?;
        let identity = SigningIdentity::new(&org.msp_id(), &cert, key).map_err(fail)?;
        Ok(User::new(Arc::new(identity), &self.env))
    }

    fn endpoint(
        site: &Site,
        org: &Org,
        node: &Node,
        address: String,
        identity: Option<&Path>,
    ) -> Result<Endpoint, ManagerError> {
        let tls = site.folders.node(node).join("tls");
        let roots = read_limited(&tls.join("ca.crt"), MOST)?;
        let fail = |e: selvage_net::TlsError| {
            ManagerError::Driver(format!("cannot use the TLS files of {}: {e}", org.name))
        };
        let identity = match identity {
            None => None,
            Some(folder) => {
                let cert = read_limited(&folder.join("server.crt"), MOST)?;
                let key = read_limited(&folder.join("server.key"), MOST)?;
                let origin = folder.display().to_string();
                Some(TlsIdentity::from_pem(&origin, &cert, &key).map_err(fail)?)
            }
        };
        let tls = ClientTls::from_pem(&tls.display().to_string(), &roots, identity)
            .map_err(fail)?
            .with_server_name(&node.domain);
        Ok(Endpoint::new(address, Some(tls)))
    }

    /// A connection to a peer.
    pub(crate) fn peer(&self, site: &Site, org: &Org, node: &Node) -> Result<Peer, ManagerError> {
        let endpoint = Self::endpoint(site, org, node, site.network.address(node), None)?;
        Peer::new(&endpoint).map_err(|e| failed(&node.name, &e))
    }

    /// A peer as its organisation's administrator.
    pub(crate) fn admin(
        &self,
        site: &Site,
        org: &Org,
        node: &Node,
    ) -> Result<PeerAdmin, ManagerError> {
        Ok(PeerAdmin::new(
            self.peer(site, org, node)?,
            self.user(site, org, ADMIN)?,
        ))
    }

    fn admin_at(&self, at: At<'_>) -> Result<PeerAdmin, ManagerError> {
        self.admin(at.site, at.org, at.node)
    }

    fn orderers(&self, site: &Site) -> Result<Vec<Orderer>, ManagerError> {
        let org = &site.network.orderer;
        org.nodes
            .iter()
            .map(|node| {
                let address = site.network.address(node);
                let endpoint = Self::endpoint(site, org, node, address, None)?;
                Orderer::new(&endpoint).map_err(|e| failed(&node.name, &e))
            })
            .collect()
    }

    /// The administration of an orderer.
    fn participation(site: &Site, node: &Node) -> Result<Participation, ManagerError> {
        let org = &site.network.orderer;
        let address = format!("127.0.0.1:{}", node.third_port);
        let identity = site.folders.user(org, ADMIN).join("tls");
        let endpoint = Self::endpoint(site, org, node, address, Some(&identity))?;
        Participation::new(&endpoint).map_err(|e| failed(&node.name, &e))
    }

    fn genesis(site: &Site, channel: &ChannelPlan) -> Result<Block, ManagerError> {
        let path = site.folders.genesis(&channel.name);
        Block::decode(read_limited(&path, MOST_BLOCK)?.as_slice())
            .map_err(|e| ManagerError::Driver(format!("{} holds no block: {e}", path.display())))
    }

    /// Every peer of a channel as its organisation's administrator.
    fn admins(&self, site: &Site, channel: &ChannelPlan) -> Result<Vec<PeerAdmin>, ManagerError> {
        site.network
            .members(channel)
            .flat_map(|org| org.nodes.iter().map(move |node| (org, node)))
            .map(|(org, node)| self.admin(site, org, node))
            .collect()
    }
}

fn first_member<'a>(channel: &ChannelPlan, members: &[&'a Org]) -> Result<&'a Org, ManagerError> {
    let none = || ManagerError::Driver(format!("the channel {} has no members", channel.name));
    members.first().copied().ok_or_else(none)
}

fn failed(whom: &str, error: &ClientError) -> ManagerError {
    ManagerError::Driver(format!("{whom}: {}", error.text()))
}

impl Fabric for Nodes {
    fn join_orderer<'a>(
        &'a self,
        site: &'a Site,
        node: &'a Node,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            if self
                .orderer_channels(site, node)
                .await?
                .contains(&channel.name)
            {
                return Ok(());
            }
            let block = Self::genesis(site, channel)?;
            Self::participation(site, node)?
                .join(&block, self.env.rng.as_ref())
                .await
                .map_err(|e| failed(&node.name, &e))?;
            Ok(())
        })
    }

    fn orderer_channels<'a>(&'a self, site: &'a Site, node: &'a Node) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let known = Self::participation(site, node)?.list().await;
            let known = known.map_err(|e| failed(&node.name, &e))?;
            Ok(known.into_iter().map(|c| c.name).collect())
        })
    }

    fn join_peer<'a>(
        &'a self,
        site: &'a Site,
        org: &'a Org,
        node: &'a Node,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let admin = self.admin(site, org, node)?;
            let known = admin.channels().await.map_err(|e| failed(&node.name, &e))?;
            if known.contains(&channel.name) {
                return Ok(());
            }
            let block = Self::genesis(site, channel)?;
            admin
                .join_channel(&block)
                .await
                .map_err(|e| failed(&node.name, &e))
        })
    }

    fn peer_channels<'a>(
        &'a self,
        site: &'a Site,
        org: &'a Org,
        node: &'a Node,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let admin = self.admin(site, org, node)?;
            admin.channels().await.map_err(|e| failed(&node.name, &e))
        })
    }

    fn install<'a>(&'a self, at: At<'a>, package: &'a Bytes) -> Answer<'a, ()> {
        Box::pin(async move {
            match self.admin_at(at)?.install(package.clone()).await {
                Ok(_) => Ok(()),
                Err(e) if e.text().contains("already successfully installed") => Ok(()),
                Err(e) => Err(failed(&at.node.name, &e)),
            }
        })
    }

    fn installed<'a>(&'a self, at: At<'a>) -> Answer<'a, Vec<Installed>> {
        Box::pin(async move {
            let answer = self.admin_at(at)?.installed().await;
            answer.map_err(|e| failed(&at.node.name, &e))
        })
    }

    fn package<'a>(&'a self, at: At<'a>, package_id: &'a str) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let answer = self.admin_at(at)?.installed_package(package_id).await;
            answer.map_err(|e| failed(&at.node.name, &e))
        })
    }

    fn definitions<'a>(
        &'a self,
        at: At<'a>,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, Vec<Committed>> {
        Box::pin(async move {
            let answer = self.admin_at(at)?.committed_all(&channel.name).await;
            answer.map_err(|e| failed(&at.node.name, &e))
        })
    }

    fn level<'a>(&'a self, site: &'a Site, channel: &'a ChannelPlan) -> Answer<'a, ()> {
        Box::pin(async move {
            let peers: Vec<_> = site
                .peers_in(channel)
                .map(|at| Ok((at, self.admin_at(at)?)))
                .collect::<Result<_, ManagerError>>()?;
            let height = |(at, admin): &(At<'a>, PeerAdmin)| {
                let (at, admin) = (*at, admin.clone());
                async move {
                    let info = admin.channel_info(&channel.name).await;
                    info.map(|i| i.height)
                        .map_err(|e| failed(&at.node.name, &e))
                }
            };
            let heights = try_join_all(peers.iter().map(height)).await?;
            let highest = heights.into_iter().max().unwrap_or_default();
            try_join_all(peers.iter().map(|peer| async move {
                while height(peer).await? < highest {
                    tokio::time::sleep(LOOK).await;
                }
                Ok::<(), ManagerError>(())
            }))
            .await?;
            Ok(())
        })
    }

    fn approve<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        org: &'a Org,
        definition: &'a Definition,
        package_id: Option<&'a str>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let nodes = ChannelNodes {
                channel_id: channel.name.clone(),
                // All of them: what only the organisation may know is kept by those who endorse.
                endorsers: org
                    .nodes
                    .iter()
                    .map(|n| self.peer(site, org, n))
                    .collect::<Result<_, _>>()?,
                orderers: self.orderers(site)?,
            };
            let user = self.user(site, org, ADMIN)?;
            match nodes.approve(&user, definition, package_id).await {
                Ok(_) => Ok(()),
                // Approved before a crash: Fabric refuses to repeat what changes nothing.
                Err(error) if error.text().contains("unchanged content") => Ok(()),
                Err(error) => Err(failed(&org.name, &error)),
            }
        })
    }

    fn commit<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        definition: &'a Definition,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let members: Vec<&Org> = site.network.members(channel).collect();
            let first = first_member(channel, &members)?;
            let endorsers = members
                .iter()
                .filter_map(|o| o.nodes.first().map(|n| self.peer(site, o, n)))
                .collect::<Result<_, _>>()?;
            let nodes = ChannelNodes {
                channel_id: channel.name.clone(),
                endorsers,
                orderers: self.orderers(site)?,
            };
            let user = self.user(site, first, ADMIN)?;
            nodes
                .commit(&user, definition)
                .await
                .map_err(|e| failed(&channel.name, &e))?;
            Ok(())
        })
    }

    fn call<'a>(
        &'a self,
        at: At<'a>,
        channel: &'a ChannelPlan,
        call: &'a Invocation,
    ) -> Answer<'a, Result<(), String>> {
        Box::pin(async move {
            let admin = self.admin_at(at)?;
            match admin.peer().query(admin.user(), &channel.name, call).await {
                Ok(_) => Ok(Ok(())),
                Err(ClientError::Endorsement { message, .. }) => Ok(Err(message)),
                Err(error) => Err(failed(&at.node.name, &error)),
            }
        })
    }

    fn submit<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        call: &'a Invocation,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let members: Vec<&Org> = site.network.members(channel).collect();
            let first = first_member(channel, &members)?;
            let at = site.peers_of(first).next();
            let at = at.ok_or_else(|| {
                ManagerError::Driver(format!("{} has no peers in {}", first.name, channel.name))
            })?;
            let mut gateway = Gateway::new(
                self.peer(site, first, at.node)?,
                self.user(site, first, USER)?,
                &channel.name,
            );
            // The chaincode may only just be starting.
            gateway.endorse_timeout = START;
            let done = gateway.submit_transaction(call).await;
            done.map(drop).map_err(|e| failed(&at.node.name, &e))
        })
    }

    fn smoke<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        chaincode: Option<&'a ChaincodePlan>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let admins = self.admins(site, channel)?;
            let checks = admins.iter().map(|admin| async move {
                let info = admin.channel_info(&channel.name).await;
                info.map_err(|e| failed(admin.peer().address(), &e))?;
                let probe = chaincode.and_then(|c| Some((c, c.probe.split_first()?)));
                let Some((plan, (function, args))) = probe else {
                    return Ok(());
                };
                let gateway =
                    Gateway::new(admin.peer().clone(), admin.user().clone(), &channel.name);
                let call = Invocation::new(&plan.name, function).args(args);
                let own = [admin.user().msp_id().to_owned()];
                let answer = gateway.evaluate(&call, &own).await;
                answer
                    .map(drop)
                    .map_err(|e| failed(admin.peer().address(), &e))
            });
            join_all(checks).await.into_iter().collect()
        })
    }
}
