//! Connections that cost something and ask nothing, and one too many.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures::{StreamExt, stream};
use selvage_net::CancellationToken;
use selvage_net::server::{Server, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A server whose `/slow` answers a beginning, and the rest when told.
async fn serve(options: ServerOptions) -> (SocketAddr, Arc<Notify>, CancellationToken) {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let slow = move || async move {
        let end = async move {
            told.notified().await;
            Ok::<_, Infallible>(Bytes::from_static(b"the end"))
        };
        let beginning = stream::iter([Ok(Bytes::from_static(b"the beginning"))]);
        Body::from_stream(beginning.chain(stream::once(end)))
    };
    let router = Router::new()
        .route("/slow", get(slow))
        .route("/", get(|| async { "here" }));
    let server = Server::bind("127.0.0.1:0", options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    tokio::spawn(server.serve(router, shutdown.clone()));
    (address, go_on, shutdown)
}

async fn open(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn until(stream: &mut TcpStream, end: &str) {
    let mut came = String::new();
    while !came.contains(end) {
        let mut buffer = [0; 1024];
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "closed after {came:?}");
        came += &String::from_utf8_lossy(&buffer[..n]);
    }
}

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
const CLOSING: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_connection_without_requests_is_closed_and_no_other() {
    let options = ServerOptions {
        idle_timeout: Some(Duration::from_millis(20)),
        drain: Duration::from_millis(20),
        ..ServerOptions::http(None)
    };
    let (address, go_on, shutdown) = serve(options).await;
    let mut slow = open(address, SLOW).await;
    until(&mut slow, "the beginning").await;
    let settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for silent in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: loc", settings] {
        let stream = open(address, silent).await;
        let answer = rest(stream).await;
        assert!(!answer.contains("200"), "{silent:?}: {answer}");
    }
    // The slow answer has lasted longer than all of them.
    go_on.notify_one();
    until(&mut slow, "the end").await;
    rest(slow).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let options = ServerOptions {
        max_connections: 1,
        ..ServerOptions::http(None)
    };
    let (address, go_on, shutdown) = serve(options).await;
    let mut first = open(address, SLOW).await;
    until(&mut first, "the beginning").await;
    let answer = rest(open(address, CLOSING).await).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("1 connections are open"), "{answer}");
    go_on.notify_one();
    until(&mut first, "the end").await;
    drop(first);
    // Its place is free as soon as the server has noticed.
    let mut answer = String::new();
    while !answer.starts_with("HTTP/1.1 200") {
        answer = rest(open(address, CLOSING).await).await;
    }
    shutdown.cancel();
}
