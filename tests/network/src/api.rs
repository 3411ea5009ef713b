//! The agent's API of a running service, over plain HTTP: each request on a connection of its own.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::Service;

/// What a form may not contain, so that it can separate its fields.
const BOUNDARY: &str = "selvage-tests-6d0f2b";

/// Somebody with a token.
#[derive(Debug, Clone)]
pub struct Api {
    address: String,
    token: String,
}

impl Api {
    /// Enters as the console's first user, through `GET /tokens`.
    ///
    /// # Panics
    /// When the service does not let the user in.
    pub fn enter(service: &Service) -> Self {
        let file = service.folder().join("data/access.json");
        let access: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let (user, password) = (&access["user"], &access["password"]);
        let api = &service.said().api;
        let mut entered = Self {
            address: api.trim_start_matches("http://").to_owned(),
            token: String::new(),
        };
        let headers = [
            ("X-Auth-User", user.as_str().unwrap()),
            ("X-Auth-Pass", password.as_str().unwrap()),
        ];
        let (status, answer) = entered.send("GET", "/tokens", &headers, &[]);
        assert_eq!(status, 200, "{answer}");
        entered.token = answer["token"].as_str().unwrap().to_owned();
        entered
    }

    /// `GET` below `/v2/agent/apis`.
    ///
    /// # Panics
    /// When the service does not answer in HTTP.
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, &[], &[])
    }

    /// `POST` of JSON.
    ///
    /// # Panics
    /// When the service does not answer in HTTP.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("Content-Type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// `POST` of a form with a file in its field `file`.
    ///
    /// # Panics
    /// When the service does not answer in HTTP.
    pub fn upload(&self, path: &str, fields: &[(&str, &str)], file: &[u8]) -> (u16, Value) {
        let mut body = Vec::new();
        let mut add = |head: &str, value: &[u8]| {
            let head =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{head}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        };
        for (name, value) in fields {
            add(&format!("{name}\""), value.as_bytes());
        }
        let kind = "file\"; filename=\"chaincode.zip\"\r\nContent-Type: application/zip";
        add(kind, file);
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send("POST", path, &[("Content-Type", &kind)], &body)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Value) {
        let mut head = format!(
            "{method} /v2/agent/apis{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Length: {}\r\nX-Auth-Token: {}\r\n",
            self.address,
            body.len(),
            self.token
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}
