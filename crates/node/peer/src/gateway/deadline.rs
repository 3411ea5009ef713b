//! How long a client waits for an answer: a header of gRPC says so. Nobody reads an answer that
//! comes later, so work for it ends.

use std::time::Duration;

use selvage_net::tonic::metadata::MetadataMap;
use selvage_net::tonic::{Request, Status};
use tokio::time::Instant;

/// The header, as gRPC over HTTP/2 defines it: at most eight digits and a unit.
const HEADER: &str = "grpc-timeout";

/// When the client stops waiting; never, unless it said so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline of a request that arrives now.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let wait = timeout(request.metadata());
        Self(wait.and_then(|wait| Instant::now().checked_add(wait)))
    }

    /// What the work comes to, or Fabric's words for the deadline that passed first.
    pub(super) async fn hold<T>(
        self,
        passed: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Status> {
        match self.0 {
            Some(at) => tokio::time::timeout_at(at, work)
                .await
                .map_err(|_| Status::deadline_exceeded(passed)),
            None => Ok(work.await),
        }
    }
}

fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let check = |text: &str, expected: Option<Duration>| {
            let mut metadata = MetadataMap::new();
            metadata.insert(HEADER, text.parse().unwrap());
            assert_eq!(timeout(&metadata), expected, "{text:?}");
        };
        check("2H", Some(Duration::from_secs(7200)));
        check("3M", Some(Duration::from_secs(180)));
        check("99999999S", Some(Duration::from_secs(99_999_999)));
        check("5m", Some(Duration::from_millis(5)));
        check("7u", Some(Duration::from_micros(7)));
        check("0n", Some(Duration::ZERO));
        for text in ["", "5", "S", "+5S", "123456789S", "5s", "1.5S", "5 S"] {
            check(text, None);
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
