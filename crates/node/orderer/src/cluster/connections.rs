//! One connection to each node, whatever the number of channels shared with it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use selvage_env::Rng;
use selvage_net::{Backoff, Dialled, Endpoint, describe_connect, dial};
use tokio::time::Instant;

use super::members::Node;
use super::metrics::{Count, Counting};
use super::tls::ClusterTls;

/// The first pause after a failure, and the longest.
pub(crate) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The address, and the public key of the server there.
type Key = (String, Vec<u8>);

/// The connections of this node, by address and by the key the server must show.
pub(crate) struct Connections {
    tls: Arc<ClusterTls>,
    rng: Arc<dyn Rng>,
    dial_timeout: Duration,
    count: Count,
    known: Mutex<HashMap<Key, Weak<Connection>>>,
}

impl Connections {
    pub(crate) fn new(
        tls: Arc<ClusterTls>,
        rng: Arc<dyn Rng>,
        dial_timeout: Duration,
        count: Count,
    ) -> Self {
        Self {
            tls,
            rng,
            dial_timeout,
            count,
            known: Mutex::new(HashMap::new()),
        }
    }

    /// The connection to a node, shared with everyone who asks for the same one.
    pub(crate) fn to(&self, node: &Node) -> Arc<Connection> {
        let key = (node.address.clone(), node.server_key.clone());
        let mut known = self.known.lock();
        if let Some(connection) = known.get(&key).and_then(Weak::upgrade) {
            return connection;
        }
        known.retain(|_, connection| connection.strong_count() > 0);
        let connection = Arc::new(Connection {
            address: node.address.clone(),
            server_key: node.server_key.clone(),
            tls: self.tls.clone(),
            rng: self.rng.clone(),
            dial_timeout: self.dial_timeout,
            count: self.count.clone(),
            state: tokio::sync::Mutex::new(State {
                open: None,
                generation: 0,
                backoff: Backoff::new(PAUSE.0, PAUSE.1),
                down: None,
            }),
        });
        known.insert(key, Arc::downgrade(&connection));
        connection
    }
}

/// A connection that is opened when it is needed.
pub(crate) struct Connection {
    address: String,
    server_key: Vec<u8>,
    tls: Arc<ClusterTls>,
    rng: Arc<dyn Rng>,
    dial_timeout: Duration,
    count: Count,
    /// Held while dialling: who comes meanwhile waits for the outcome.
    state: tokio::sync::Mutex<State>,
}

struct State {
    open: Option<(Dialled, Counting)>,
    generation: u64,
    backoff: Backoff,
    down: Option<Down>,
}

/// The node cannot be reached, and will not be tried before that time.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    pub(crate) until: Instant,
    pub(crate) reason: String,
}

/// An open connection; the number tells it from its successors.
pub(crate) struct Opened {
    pub(crate) dialled: Dialled,
    generation: u64,
}

impl Connection {
    /// The open connection, or a new one.
    pub(crate) async fn open(&self) -> Result<Opened, Down> {
        let mut state = self.state.lock().await;
        if let Some((dialled, _)) = &state.open {
            return Ok(Opened {
                dialled: dialled.clone(),
                generation: state.generation,
            });
        }
        if let Some(down) = &state.down
            && down.until > Instant::now()
        {
            return Err(down.clone());
        }
        match self.dial().await {
            Ok(dialled) => {
                state.backoff.reset();
                state.down = None;
                state.generation += 1;
                state.open = Some((dialled.clone(), self.count.enter()));
                Ok(Opened {
                    dialled,
                    generation: state.generation,
                })
            }
            Err(reason) => {
                let pause = state.backoff.pause(self.rng.as_ref());
                let down = Down {
                    until: Instant::now() + pause,
                    reason,
                };
                state.down = Some(down.clone());
                Err(down)
            }
        }
    }

    async fn dial(&self) -> Result<Dialled, String> {
        // Made anew each time, because certificates are exchanged while the node runs.
        let tls = self.tls.to_consenter(&self.server_key);
        let tls = tls.map_err(|error| crate::in_full(&error))?;
        let mut endpoint = Endpoint::new(&self.address, Some(tls));
        endpoint.connect_timeout = self.dial_timeout;
        dial(&endpoint)
            .await
            .map_err(|error| describe_connect(&error))
    }

    /// Gives a broken connection up, so that the next user opens another.
    pub(crate) async fn broken(&self, opened: &Opened) {
        let mut state = self.state.lock().await;
        if state.generation == opened.generation {
            state.open = None;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some((dialled, _)) = &self.state.get_mut().open {
            dialled.close();
        }
    }
}
