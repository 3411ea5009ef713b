//! ECDSA signatures as Fabric reads and writes them.
//!
//! Fabric decodes with Go's `asn1.Unmarshal`, which takes more than DER proper: bytes after the
//! sequence and elements after S inside it are ignored. A stricter reader would refuse blocks that
//! Fabric accepts, so the same laxness is here, and nothing beyond it: lengths and integers must be
//! minimal as in Go.

use crate::CryptoError;

/// The order of a curve's group and its half, big-endian, of equal length.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) order: &'static [u8],
    pub(crate) half: &'static [u8],
}

const P256: [u8; 32] = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
const P384: [u8; 48] = hex(concat!(
    "ffffffffffffffffffffffffffffffffffffffffffffffff",
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973"
));
const P521: [u8; 66] = hex(concat!(
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa",
    "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
));

pub(crate) static P256_ORDER: Order = Order {
    order: &P256,
    half: &halved(P256),
};
pub(crate) static P384_ORDER: Order = Order {
    order: &P384,
    half: &halved(P384),
};
pub(crate) static P521_ORDER: Order = Order {
    order: &P521,
    half: &halved(P521),
};

const fn hex<const N: usize>(text: &str) -> [u8; N] {
    const fn digit(c: u8) -> u8 {
        if c <= b'9' { c - b'0' } else { c - b'a' + 10 }
    }
    let text = text.as_bytes();
    assert!(text.len() == 2 * N);
    let mut out = [0; N];
    let mut i = 0;
    while i < N {
        out[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    out
}

const fn halved<const N: usize>(order: [u8; N]) -> [u8; N] {
    let mut out = [0; N];
    let mut i = 0;
    let mut carry = 0;
    while i < N {
        out[i] = order[i] >> 1 | carry << 7;
        carry = order[i] & 1;
        i += 1;
    }
    out
}

/// R and S without leading zeros; both are greater than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature<'a> {
    pub(crate) r: &'a [u8],
    pub(crate) s: &'a [u8],
}

fn bad<T>(reason: &'static str) -> Result<T, CryptoError> {
    Err(CryptoError::MalformedSignature(reason))
}

/// Splits one element with this tag off the front: its contents and what follows.
fn element(tag: u8, data: &[u8]) -> Result<(&[u8], &[u8]), CryptoError> {
    let [first, length, rest @ ..] = data else {
        return bad("truncated");
    };
    if *first != tag {
        return bad("not a sequence of two integers");
    }
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => match rest {
            [n @ 0x80..=0xff, rest @ ..] => (usize::from(*n), rest),
            [_, ..] => return bad("length not minimal"),
            [] => return bad("truncated"),
        },
        0x82 => match rest {
            [hi @ 1..=0xff, lo, rest @ ..] => (usize::from(*hi) << 8 | usize::from(*lo), rest),
            [0, _, ..] => return bad("length not minimal"),
            _ => return bad("truncated"),
        },
        _ => return bad("length out of range"),
    };
    if rest.len() < length {
        bad("truncated")
    } else {
        Ok(rest.split_at(length))
    }
}

fn positive(data: &[u8]) -> Result<(&[u8], &[u8]), CryptoError> {
    let (value, rest) = element(2, data)?;
    match value {
        [] => bad("empty integer"),
        [0] => bad("integer is zero"),
        [0x80..=0xff, ..] => bad("integer is negative"),
        [0, second, ..] if *second < 0x80 => bad("integer not minimal"),
        [0, magnitude @ ..] | magnitude => Ok((magnitude, rest)),
    }
}

/// Reads a signature the way Go does.
pub(crate) fn parse(signature: &[u8]) -> Result<Signature<'_>, CryptoError> {
    let (body, _ignored) = element(0x30, signature)?;
    let (r, body) = positive(body)?;
    let (s, _ignored) = positive(body)?;
    Ok(Signature { r, s })
}

/// Compares two big-endian numbers; neither may begin with a zero byte unless both have one length.
fn above(a: &[u8], b: &[u8]) -> bool {
    let strip = |n: &[u8]| n.iter().take_while(|byte| **byte == 0).count();
    let (a, b) = (&a[strip(a)..], &b[strip(b)..]);
    (a.len(), a) > (b.len(), b)
}

impl Signature<'_> {
    pub(crate) fn is_low_s(&self, order: &Order) -> bool {
        !above(self.s, order.half)
    }

    /// The one DER encoding of these numbers.
    pub(crate) fn to_der(self) -> Vec<u8> {
        let integer = |n: &[u8], out: &mut Vec<u8>| {
            let pad = usize::from(n.first().is_some_and(|first| *first >= 0x80));
            out.push(2);
            push_length(n.len() + pad, out);
            out.extend_from_slice(&[0][..pad]);
            out.extend_from_slice(n);
        };
        let mut body = Vec::with_capacity(self.r.len() + self.s.len() + 8);
        integer(self.r, &mut body);
        integer(self.s, &mut body);
        let mut out = Vec::with_capacity(body.len() + 4);
        out.push(0x30);
        push_length(body.len(), &mut out);
        out.append(&mut body);
        out
    }
}

fn push_length(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => out.push(short),
        Ok(long) => out.extend_from_slice(&[0x81, long]),
        Err(_) => out.extend_from_slice(&[0x82, (length >> 8) as u8, length as u8]),
    }
}

/// The same signature with the smaller of S and `order - S`, in its one DER encoding.
pub(crate) fn to_low_s(signature: &[u8], order: &Order) -> Result<Vec<u8>, CryptoError> {
    let parsed = parse(signature)?;
    if parsed.is_low_s(order) {
        return Ok(parsed.to_der());
    }
    if !above(order.order, parsed.s) {
        return bad("S exceeds the order of the group");
    }
    let mut low = order.order.to_vec();
    let mut borrow = false;
    let padded = std::iter::repeat_n(0, low.len() - parsed.s.len()).chain(parsed.s.iter().copied());
    for (a, b) in low
        .iter_mut()
        .rev()
        .zip(padded.collect::<Vec<u8>>().into_iter().rev())
    {
        let (once, under) = a.overflowing_sub(b);
        let (twice, under_again) = once.overflowing_sub(u8::from(borrow));
        borrow = under || under_again;
        *a = twice;
    }
    let zeros = low.iter().take_while(|byte| **byte == 0).count();
    Ok(Signature {
        r: parsed.r,
        s: &low[zeros..],
    }
    .to_der())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sig(text: &str) -> Vec<u8> {
        hex::decode(text.replace(' ', "")).unwrap()
    }

    #[test]
    fn halves_are_right() {
        let want = "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8";
        assert_eq!(hex::encode(P256_ORDER.half), want);
        for order in [&P256_ORDER, &P384_ORDER, &P521_ORDER] {
            let doubled: Vec<u8> = order
                .half
                .iter()
                .rev()
                .fold((Vec::new(), 0u16), |(mut out, c), b| {
                    let n = u16::from(*b) * 2 + c;
                    out.push(n as u8);
                    (out, n >> 8)
                })
                .0;
            let mut doubled: Vec<u8> = doubled.into_iter().rev().collect();
            *doubled.last_mut().unwrap() += 1;
            assert_eq!(doubled, order.order);
        }
    }

    #[test]
    fn what_go_accepts_is_accepted() {
        let check = |text: &str, r: &[u8], s: &[u8]| {
            assert_eq!(parse(&sig(text)).unwrap(), Signature { r, s }, "{text}");
        };
        check("3006 020101 020102", &[1], &[2]);
        check("3006 020101 020102 ffff", &[1], &[2]);
        check("3009 020101 020102 020103", &[1], &[2]);
        check("3008 02020080 02020081", &[0x80], &[0x81]);
        check("3007 020101 020102 ff", &[1], &[2]);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let check = |text: &str| {
            let error = parse(&sig(text)).unwrap_err();
            assert!(
                matches!(error, CryptoError::MalformedSignature(_)),
                "{text}"
            );
        };
        for text in [
            "",
            "30",
            "3006",
            "3106 020101 020102",
            "3006 020101 0201",
            "3006 020100 020101",
            "3006 020101 020100",
            "3006 0201ff 020101",
            "3007 02020001 020101",
            "3005 0200 020101",
            "308106 020101 020102",
            "30820006 020101 020102",
            "3080 020101 020102 0000",
            "3003 020101",
            "3006 030101 020102",
        ] {
            check(text);
        }
    }

    #[test]
    fn high_s_is_folded_once() {
        let high = Signature {
            r: &[7],
            s: P256_ORDER.order,
        };
        assert!(to_low_s(&high.to_der(), &P256_ORDER).is_err());
        let mut below = P256_ORDER.order.to_vec();
        *below.last_mut().unwrap() -= 5;
        let high = Signature { r: &[7], s: &below }.to_der();
        assert!(!parse(&high).unwrap().is_low_s(&P256_ORDER));
        let low = to_low_s(&high, &P256_ORDER).unwrap();
        assert_eq!(parse(&low).unwrap(), Signature { r: &[7], s: &[5] });
        assert_eq!(to_low_s(&low, &P256_ORDER).unwrap(), low);
        let half = Signature {
            r: &[7],
            s: P256_ORDER.half,
        }
        .to_der();
        assert!(parse(&half).unwrap().is_low_s(&P256_ORDER));
    }
}
