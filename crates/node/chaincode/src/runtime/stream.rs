//! The task behind one chaincode stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvage_proto::peer::ChaincodeMessage;
use selvage_proto::peer::chaincode_message::Type;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::shim::{Session, SessionError, SessionEvent};

use super::parts::{RuntimeConfig, StreamOrigin};
use super::registry::{Link, Registry, TxSender, lock};

/// Takes a stream out of the registry however its task ends.
struct Registered<'a> {
    registry: &'a Registry,
    link: Arc<Link>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let chaincode = {
            let mut session = lock(&self.link.session);
            session.terminate();
            session.chaincode().map(str::to_owned)
        };
        if let Some(chaincode) = chaincode {
            self.registry.deregister(&chaincode, &self.link);
        }
        self.link.ended.send_replace(true);
    }
}

pub(super) async fn serve(
    config: &RuntimeConfig,
    registry: &Registry,
    origin: StreamOrigin,
    mut inbound: mpsc::Receiver<ChaincodeMessage>,
    outbound: mpsc::Sender<ChaincodeMessage>,
) -> Result<(), SessionError> {
    let link = Arc::new(Link {
        session: Mutex::new(Session::new(config.offer)),
        outbound,
        ended: watch::Sender::new(false),
        calls: Semaphore::new(config.concurrent_calls),
    });
    let guard = Registered { registry, link };
    let link = &guard.link;
    register(config, registry, &origin, &mut inbound, link).await?;
    let mut keepalive = interval(config.keepalive.unwrap_or(Duration::from_secs(86_400)));
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keepalive.tick().await;
    loop {
        tokio::select! {
            message = inbound.recv() => match message {
                Some(message) => dispatch(link, message)?,
                None => return Ok(()),
            },
            _ = keepalive.tick(), if config.keepalive.is_some() => {
                let message =
                    ChaincodeMessage { r#type: Type::Keepalive as i32, ..Default::default() };
                // A full channel carries traffic, which keeps the stream alive as well.
                if let Err(mpsc::error::TrySendError::Closed(_)) = link.outbound.try_send(message) {
                    return Err(SessionError::Closed);
                }
            }
            () = link.outbound.closed() => return Err(SessionError::Closed),
        }
    }
}

/// From the first message to `READY`.
async fn register(
    config: &RuntimeConfig,
    registry: &Registry,
    origin: &StreamOrigin,
    inbound: &mut mpsc::Receiver<ChaincodeMessage>,
    link: &Arc<Link>,
) -> Result<(), SessionError> {
    let deadline = sleep(config.registration_timeout);
    tokio::pin!(deadline);
    let claimed = loop {
        let message = tokio::select! {
            message = inbound.recv() => message.ok_or(SessionError::Closed)?,
            () = &mut deadline => {
                let seconds = config.registration_timeout.as_secs();
                return Err(SessionError::RegistrationTimeout(seconds));
            }
        };
        match lock(&link.session).receive(message)? {
            SessionEvent::Register(claimed) => break claimed,
            _ => continue,
        }
    };
    registry.authorise(origin, &claimed, config.dev_mode)?;
    registry.register(&claimed, link)?;
    let messages = lock(&link.session).accept();
    for message in messages {
        link.outbound
            .send(message)
            .await
            .map_err(|_| SessionError::Closed)?;
    }
    registry.ready(&claimed);
    tracing::debug!(chaincode = claimed, "chaincode registered");
    Ok(())
}

fn dispatch(link: &Link, message: ChaincodeMessage) -> Result<(), SessionError> {
    let event: SessionEvent<TxSender> = lock(&link.session).receive(message)?;
    match event {
        SessionEvent::Idle | SessionEvent::Register(_) => Ok(()),
        SessionEvent::Dropped(reason) => {
            tracing::warn!("{reason}");
            Ok(())
        }
        SessionEvent::Reply(reply) => {
            tracing::warn!(
                txid = reply.txid,
                "chaincode asks for a transaction that is not running"
            );
            link.outbound
                .try_send(reply)
                .map_err(|_| SessionError::Closed)
        }
        SessionEvent::Deliver { to, message } => {
            // A transaction has one request and one end in flight at most. What exceeds that is a
            // chaincode that ended its transaction twice, and what follows an end is void.
            if to.try_send(message).is_err() {
                tracing::debug!("message for a transaction that has ended was dropped");
            }
            Ok(())
        }
    }
}
