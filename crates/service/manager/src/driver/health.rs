//! A small look at a node's health endpoint: one plain HTTP request on the loopback interface.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer that are read.
const MOST: u64 = 16 * 1024;

/// `GET /healthz`. Ok when the node answers 200, else the reason in words.
pub(crate) async fn check(address: SocketAddr, limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, ask(address)).await {
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, body))) => Err(format!("health check answered {status}: {body}")),
        Ok(Err(error)) => Err(format!(
            "health endpoint {address} does not answer: {error}"
        )),
        Err(_) => Err(format!(
            "health endpoint {address} does not answer within {limit:?}"
        )),
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|t| t.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, b)| b);
    Ok((status, body.trim().chars().take(200).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn serve(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("connection");
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        address
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        let limit = Duration::from_secs(5);
        let ok = serve("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"OK\"}").await;
        assert_eq!(check(ok, limit).await, Ok(()));
        let bad = serve("HTTP/1.1 503 Service Unavailable\r\n\r\nledger").await;
        assert_eq!(
            check(bad, limit).await,
            Err("health check answered 503: ledger".to_owned())
        );
        let odd = serve("SSH-2.0").await;
        assert!(
            check(odd, limit)
                .await
                .expect_err("not HTTP")
                .contains("no HTTP answer")
        );
    }
}
