//! Channels that this node was told to join with a later block than their first, before it has any of
//! their blocks (Fabric: a `follower.Chain` of height 0).
//!
//! The join is durable before it is answered. The first block is then asked for until one of the
//! channel's orderers gives it, however long that takes; from there on the channel opens as any
//! other, and follows the rest of its blocks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use selvage_channel::ChannelConfig;
use selvage_net::CancellationToken;

use crate::chain::{Shared, Standing, first_block};
use crate::registrar::Registrar;

/// The first pause between attempts; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A channel without blocks.
pub(crate) struct Onboarding {
    /// The configuration to join with.
    config: ChannelConfig,
    pub(crate) standing: Standing,
    stop: CancellationToken,
}

impl Onboarding {
    pub(crate) fn new(shared: &Shared, config: ChannelConfig) -> Self {
        Self {
            standing: Standing::following(shared, Some(&config)),
            config,
            stop: CancellationToken::new(),
        }
    }

    /// Asks for the first block in a task of its own, and opens the channel with it.
    pub(crate) fn begin(self: &Arc<Self>, registrar: &Arc<Registrar>) {
        let (this, registrar) = (self.clone(), Arc::downgrade(registrar));
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(this.run(&registrar)).await });
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    async fn run(self: Arc<Self>, registrar: &Weak<Registrar>) {
        let id = self.config.channel_id();
        let mut pause = PAUSE;
        loop {
            let Some(registrar) = registrar.upgrade() else {
                return;
            };
            match first_block(registrar.shared(), &self.config).await {
                Ok(genesis) => {
                    let (this, block) = (self.clone(), genesis);
                    // Creating a channel writes and syncs files.
                    let opened = tokio::task::spawn_blocking(move || {
                        registrar.open_onboarded(&this, &block)
                    });
                    match opened.await {
                        Ok(Err(error)) => tracing::error!(channel = id, "cannot go on: {error}"),
                        _ => return,
                    }
                }
                // Once in full, then every time the pause has grown.
                Err(reason) if pause < MAX_PAUSE => tracing::warn!(channel = id, "{reason}"),
                Err(reason) => tracing::debug!(channel = id, "{reason}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}
