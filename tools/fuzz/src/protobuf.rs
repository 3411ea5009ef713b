//! Protobuf messages as trees, so that a change deep inside keeps the lengths around it right.

use crate::mutate::Chance;

/// Deeper trees are taken as bytes.
const MAX_DEPTH: usize = 24;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    number: u64,
    value: Value,
}

/// Changes one place of a message; input that is no message is given to `leaf` as a whole.
pub(crate) fn change(input: &[u8], chance: &Chance, leaf: &impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let Some(mut fields) = read(input, 0) else {
        return leaf(input.to_vec());
    };
    change_fields(&mut fields, chance, leaf);
    let mut out = Vec::with_capacity(input.len());
    write(&fields, &mut out);
    out
}

fn change_fields(fields: &mut Vec<Field>, chance: &Chance, leaf: &impl Fn(Vec<u8>) -> Vec<u8>) {
    if fields.is_empty() {
        let value = Value::Bytes(leaf(Vec::new()));
        let number = 1 + chance.below(6) as u64;
        return fields.push(Field { number, value });
    }
    let at = chance.below(fields.len());
    if !chance.one_in(4) {
        return change_value(&mut fields[at].value, chance, leaf);
    }
    match chance.below(5) {
        0 => {
            fields.remove(at);
        }
        1 => {
            let again = fields[at].clone();
            fields.insert(at, again);
        }
        2 => fields[at].number = 1 + chance.below(12) as u64,
        3 => {
            let second = chance.below(fields.len());
            fields.swap(at, second);
        }
        _ => {
            let second = chance.below(fields.len());
            fields[at].value = fields[second].value.clone();
        }
    }
}

fn change_value(value: &mut Value, chance: &Chance, leaf: &impl Fn(Vec<u8>) -> Vec<u8>) {
    match value {
        Value::Varint(number) => {
            let bytes = leaf(number.to_le_bytes().to_vec());
            let mut eight = [0; 8];
            let kept = bytes.len().min(8);
            eight[..kept].copy_from_slice(&bytes[..kept]);
            *number = u64::from_le_bytes(eight);
        }
        Value::Fixed(bytes) => {
            let width = bytes.len();
            *bytes = leaf(std::mem::take(bytes));
            bytes.resize(width, 0);
        }
        Value::Bytes(bytes) => *bytes = leaf(std::mem::take(bytes)),
        Value::Message(fields) => change_fields(fields, chance, leaf),
    }
}

/// Reads a message. Bytes that could be a message are taken for one: text seldom can.
fn read(mut input: &[u8], depth: usize) -> Option<Vec<Field>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut fields = Vec::new();
    while !input.is_empty() {
        let tag = varint(&mut input)?;
        let number = tag >> 3;
        if number == 0 || number > 1 << 20 {
            return None;
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut input)?),
            1 => Value::Fixed(take(&mut input, 8)?.to_vec()),
            5 => Value::Fixed(take(&mut input, 4)?.to_vec()),
            2 => {
                let length = usize::try_from(varint(&mut input)?).ok()?;
                let bytes = take(&mut input, length)?;
                match read(bytes, depth + 1).filter(|fields| !fields.is_empty()) {
                    Some(fields) => Value::Message(fields),
                    None => Value::Bytes(bytes.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(taken)
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for Field { number, value } in fields {
        match value {
            Value::Varint(n) => {
                put_varint(number << 3, out);
                put_varint(*n, out);
            }
            Value::Fixed(bytes) => {
                let kind = if bytes.len() == 8 { 1 } else { 5 };
                put_varint(number << 3 | kind, out);
                out.extend_from_slice(bytes);
            }
            Value::Bytes(bytes) => put_bytes(*number, bytes, out),
            Value::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                put_bytes(*number, &inner, out);
            }
        }
    }
}

fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use selvage_proto::common::{ChannelHeader, Header, Payload};

    use super::*;

    fn payload() -> Vec<u8> {
        let channel = ChannelHeader {
            channel_id: "the channel".into(),
            tx_id: "an id".into(),
            epoch: u64::MAX,
            ..Default::default()
        };
        let header = Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: Default::default(),
        };
        let payload = Payload {
            header: Some(header),
            data: b"data".as_slice().into(),
        };
        payload.encode_to_vec()
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let bytes = payload();
        let fields = read(&bytes, 0).expect("a message");
        let mut again = Vec::new();
        write(&fields, &mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn changes_deep_inside_keep_the_message_whole() {
        let bytes = payload();
        let mut inner = 0;
        for seed in 0..200 {
            let chance = Chance::new(seed);
            let changed = change(&bytes, &chance, &|mut leaf| {
                leaf.push(b'x');
                leaf
            });
            let Ok(payload) = Payload::decode(changed.as_slice()) else {
                continue; // a field that changed its number need not fit its type
            };
            let header = payload.header.unwrap_or_default();
            let channel = ChannelHeader::decode(header.channel_header);
            inner += usize::from(channel.is_ok_and(|c| c.channel_id.contains('x')));
        }
        assert!(
            inner > 10,
            "{inner} of 200 changes reached the channel's id"
        );
    }
}
