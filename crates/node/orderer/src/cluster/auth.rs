//! The first message of a BFT stream: who opens it, signed, and bound to its TLS session.
//!
//! The form is that of Fabric (`orderer/common/cluster/commauth.go`, `clusterservice.go`); the
//! version is not. Orderers of Fabric speak version 0, and what follows on their streams is not
//! what follows on ours, so neither may take the other for its like. The session binding of version
//! 1 has a label of its own: Fabric's orderers, which do not look at the version, answer "access
//! denied" before they read a consensus message of ours.

use bytes::Bytes;
use selvage_identity::SigningIdentity;
use selvage_net::TlsPeer;
use selvage_proto::Timestamp;
use selvage_proto::orderer::NodeAuthRequest;

use super::members::Members;

/// The version of the handshake.
pub(crate) const VERSION: u32 = 1;

/// What the keying material of the TLS session is exported for.
const LABEL: &[u8] = b"selvage orderer authentication, version 1";

/// Why a stream is refused. Its opener is told less than the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// Fabric's orderers.
    #[error(
        "node {from} speaks version {version} of the BFT orderers' protocol, this orderer version \
         {VERSION}: version 0 is Hyperledger Fabric's, whose BFT orderers cannot order together \
         with these; replace all orderers of channel {channel} at once"
    )]
    Version {
        from: u64,
        version: u32,
        channel: String,
    },
    /// Something else. The texts are Fabric's.
    #[error("{0}")]
    Denied(String),
}

fn denied(reason: impl Into<String>) -> AuthError {
    AuthError::Denied(reason.into())
}

/// The keying material both ends of the session compute for a request.
fn binding(request: &NodeAuthRequest, tls: &TlsPeer) -> Option<[u8; 32]> {
    let context = selvage_crypto::sha256_parts([
        request.version.to_string().as_bytes(),
        &seconds(request),
        request.from_id.to_string().as_bytes(),
        request.to_id.to_string().as_bytes(),
        request.channel.as_bytes(),
    ]);
    tls.export_keying_material(LABEL, &context)
}

/// The timestamp's seconds, little-endian.
fn seconds(request: &NodeAuthRequest) -> [u8; 8] {
    let seconds = request.timestamp.as_ref().map_or(0, |t| t.seconds);
    seconds.to_le_bytes()
}

/// What is signed: `SEQUENCE { INTEGER version, OCTET STRING timestamp, from, to, channel,
/// OCTET STRING session_binding }`, where the three are strings as Go's encoder writes them.
fn signed_bytes(request: &NodeAuthRequest) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    let version = request.version.to_be_bytes();
    let first = version.iter().position(|b| *b != 0).unwrap_or(3);
    let mut digits = version[first..].to_vec();
    if digits[0] & 0x80 != 0 {
        digits.insert(0, 0);
    }
    put(&mut body, 0x02, &digits);
    put(&mut body, 0x04, &seconds(request));
    put_text(&mut body, &request.from_id.to_string());
    put_text(&mut body, &request.to_id.to_string());
    put_text(&mut body, &request.channel);
    put(&mut body, 0x04, &request.session_binding);
    let mut out = Vec::with_capacity(body.len() + 4);
    put(&mut out, 0x30, &body);
    out
}

fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let first = bytes.iter().position(|b| *b != 0).unwrap_or(0);
        out.push(0x80 | (bytes.len() - first) as u8);
        out.extend_from_slice(&bytes[first..]);
    }
    out.extend_from_slice(content);
}

/// A PrintableString where the text can be one, otherwise a UTF8String.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let printable = |b: u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b);
    let tag = if text.bytes().all(printable) {
        0x13
    } else {
        0x0c
    };
    put(out, tag, text.as_bytes());
}

/// The request with which consenter `own` opens a BFT stream to consenter `to`, signed and bound to
/// the TLS session of the connection that it goes over. `None` when that is gone.
pub fn node_auth_request(
    channel: &str,
    own: u64,
    to: u64,
    unix_seconds: i64,
    tls: &TlsPeer,
    signer: &SigningIdentity,
) -> Option<NodeAuthRequest> {
    let mut request = NodeAuthRequest {
        version: VERSION,
        timestamp: Some(Timestamp {
            seconds: unix_seconds,
            nanos: 0,
        }),
        from_id: own,
        to_id: to,
        channel: channel.to_owned(),
        ..Default::default()
    };
    request.session_binding = Bytes::copy_from_slice(&binding(&request, tls)?);
    request.signature = signer.sign(&signed_bytes(&request)).into();
    Some(request)
}

/// Whether a request comes from the consenter it names, was meant for this node, and was made for
/// this TLS session. `own` is this node's number on the channel.
pub(crate) fn verify(
    request: &NodeAuthRequest,
    own: u64,
    members: &Members,
    tls: &TlsPeer,
) -> Result<(), AuthError> {
    let (from, to, channel) = (request.from_id, request.to_id, request.channel.as_str());
    let bound = binding(request, tls).ok_or_else(|| denied("session binding read failed"))?;
    if request.session_binding != bound[..] {
        return Err(denied("session binding mismatch"));
    }
    let foreign = |id| denied(format!("node {id} is not member of channel {channel}"));
    let node = members.node(from).ok_or_else(|| foreign(from))?;
    if to != own {
        return Err(match members.node(to) {
            Some(_) => denied("node id mismatch"),
            None => foreign(to),
        });
    }
    let identity = node.identity.as_ref().ok_or_else(|| foreign(from))?;
    identity
        .verify(&signed_bytes(request), &request.signature)
        .map_err(|error| denied(format!("signature mismatch: {error}")))
}

/// Refuses another version before anything else is looked at, because the signed form of another
/// version is not known.
pub(crate) fn check_version(request: &NodeAuthRequest) -> Result<(), AuthError> {
    if request.version == VERSION {
        return Ok(());
    }
    Err(AuthError::Version {
        from: request.from_id,
        version: request.version,
        channel: request.channel.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes written by Go: `asn1.Marshal(AuthRequestSignature{0, 8 bytes, "1", "2", "mychannel",
    /// 4 bytes})`, field by field.
    #[test]
    fn signed_bytes_are_those_of_go() {
        let request = NodeAuthRequest {
            version: 0,
            timestamp: Some(Timestamp {
                seconds: 0x0102,
                nanos: 9,
            }),
            from_id: 1,
            to_id: 22,
            channel: "mychannel".to_owned(),
            session_binding: vec![0xaa; 4].into(),
            ..Default::default()
        };
        let expected = [
            &[0x30, 0x25][..],
            &[0x02, 0x01, 0x00],
            &[0x04, 0x08, 0x02, 0x01, 0, 0, 0, 0, 0, 0],
            &[0x13, 0x01, b'1'],
            &[0x13, 0x02, b'2', b'2'],
            &[0x13, 0x09],
            b"mychannel",
            &[0x04, 0x04, 0xaa, 0xaa, 0xaa, 0xaa],
        ]
        .concat();
        assert_eq!(signed_bytes(&request), expected);
        let odd = NodeAuthRequest {
            version: 200,
            channel: "ünde_r".to_owned(),
            session_binding: vec![0; 200].into(),
            ..request
        };
        let bytes = signed_bytes(&odd);
        assert_eq!(&bytes[..3], &[0x30, 0x81, 233]);
        assert_eq!(&bytes[3..7], &[0x02, 0x02, 0x00, 200]);
        let text = [&[0x0c, 0x07][..], "ünde_r".as_bytes()].concat();
        assert!(bytes.windows(text.len()).any(|window| window == text));
    }
}
