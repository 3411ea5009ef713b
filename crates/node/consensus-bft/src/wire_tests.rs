use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use selvage_proto::common::Block;

use super::*;

fn id(seed: u8) -> BlockId {
    BlockId {
        digest: [seed; 32],
        data_hash: [seed ^ 1; 32],
        view: u64::from(seed) << 40,
        is_config: seed.is_multiple_of(2),
    }
}

fn vote(kind: VoteType, seed: u8) -> SignedVote<Chain> {
    let value = match seed % 3 {
        0 => NilOrVal::Nil,
        _ => NilOrVal::Val(id(seed)),
    };
    let extension = (kind == VoteType::Precommit && value.is_val()).then(|| {
        let header = Bytes::copy_from_slice(&[seed; 30]);
        SignedMessage::new(BlockSignature(header), Bytes::copy_from_slice(&[seed; 71]))
    });
    let vote = BlockVote {
        kind,
        height: Number(u64::from(seed) + 1),
        round: Round::new(u32::from(seed)),
        value,
        voter: Id(u32::from(seed) + 7),
        extension,
    };
    SignedMessage::new(vote, Bytes::copy_from_slice(&[seed; 70]))
}

fn through_bytes(body: Body) -> Body {
    let bytes = Message::new(body).encode_to_vec();
    let message = Message::decode(bytes.as_slice()).unwrap();
    assert_eq!(message.version, VERSION);
    message.body.unwrap()
}

#[test]
fn votes_come_back() {
    for seed in 0..=u8::MAX {
        for kind in [VoteType::Prevote, VoteType::Precommit] {
            let vote = vote(kind, seed);
            let Body::Vote(back) = through_bytes(Body::Vote(Vote::of(&vote))) else {
                panic!("another body");
            };
            assert_eq!(back.read().unwrap(), vote);
        }
    }
}

#[test]
fn certificates_come_back() {
    let votes: Vec<_> = (0..5).map(|n| vote(VoteType::Precommit, n)).collect();
    let (height, round) = (Number(9), Round::new(4));
    for kind in [RoundCertificateType::Skip, RoundCertificateType::Precommit] {
        let certificate =
            RoundCertificate::new_from_votes(height, round, kind.clone(), votes.clone());
        let body = Body::Skip(Certificate::of_round(&certificate));
        let Body::Skip(back) = through_bytes(body) else {
            panic!("another body");
        };
        assert_eq!(back.read_round(kind).unwrap(), certificate);
    }
    let polka_signatures = (0..4)
        .map(|n| PolkaSignature::new(Id(n), Bytes::from_static(b"s")))
        .collect();
    let polka = PolkaCertificate {
        height,
        round,
        value_id: id(3),
        polka_signatures,
    };
    let Body::Polka(back) = through_bytes(Body::Polka(Certificate::of_polka(&polka))) else {
        panic!("another body");
    };
    assert_eq!(back.read_polka().unwrap(), polka);
    let empty = Certificate::default();
    assert!(empty.read_polka().is_err());
    let mut mixed = back;
    mixed.votes[1].value = None;
    assert!(mixed.read_polka().is_err());
    let many = Certificate {
        votes: vec![Vote::default(); MAX_VOTES + 1],
        ..Certificate::default()
    };
    assert!(many.read_round(RoundCertificateType::Skip).is_err());
}

#[test]
fn proposals_come_back() {
    let candidate = Candidate {
        id: id(5),
        block: Arc::new(Block::default()),
        encoded: Bytes::from_static(b"block"),
    };
    for pol_round in [Round::Nil, Round::new(0), Round::new(3)] {
        let proposal = BlockProposal {
            height: Number(3),
            round: Round::new(4),
            value: candidate.clone(),
            pol_round,
            proposer: Id(2),
        };
        let signed = SignedMessage::new(proposal, Bytes::from_static(b"signature"));
        let Body::Proposal(back) = through_bytes(Body::Proposal(Proposal::of(&signed))) else {
            panic!("another body");
        };
        assert_eq!(back.block, "block");
        assert_eq!(back.read(candidate.clone()).unwrap(), signed);
    }
}

#[test]
fn oversized_parts_are_refused() {
    let good = Vote::of(&vote(VoteType::Precommit, 1));
    good.read().unwrap();
    let check = |spoil: fn(&mut Vote)| {
        let mut vote = good.clone();
        spoil(&mut vote);
        vote.read().unwrap_err();
    };
    check(|vote| vote.signature = vec![0; MAX_SIGNATURE + 1].into());
    check(|vote| vote.block_signature = vec![0; MAX_SIGNATURE + 1].into());
    check(|vote| vote.identifier_header = vec![0; MAX_IDENTIFIER + 1].into());
    check(|vote| vote.kind = 3);
    check(|vote| vote.value.as_mut().unwrap().digest = Bytes::from_static(b"short"));
    let timeout = Timeout { kind: 4, round: 0 };
    timeout.read().unwrap_err();
}

proptest! {
    /// Whatever comes over the network is read or refused, and reading changes nothing.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::decode(bytes.as_slice()) {
            read_all(&message);
        }
        if let Ok(Record { entry: Some(entry), .. }) = Record::decode(bytes.as_slice()) {
            match entry {
                Entry::Vote(vote) => drop(vote.read()),
                Entry::Polka(polka) => drop(polka.read_polka()),
                Entry::Timeout(timeout) => drop(timeout.read()),
                Entry::Proposal(_) => {}
            }
        }
    }

    /// Good messages with a few bytes changed.
    #[test]
    fn damaged_messages_are_read_or_refused(
        seed in any::<u8>(),
        at in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let votes = vec![vote(VoteType::Precommit, seed); 3];
        let kind = RoundCertificateType::Precommit;
        let certificate =
            RoundCertificate::new_from_votes(Number(2), Round::new(1), kind, votes.clone());
        for body in [
            Body::Vote(Vote::of(&votes[0])),
            Body::Precommits(Certificate::of_round(&certificate)),
        ] {
            let mut bytes = Message::new(body).encode_to_vec();
            for (index, value) in &at {
                let index = index.index(bytes.len());
                bytes[index] = *value;
            }
            if let Ok(message) = Message::decode(bytes.as_slice()) {
                read_all(&message);
            }
        }
    }
}

fn read_all(message: &Message) {
    match &message.body {
        Some(Body::Vote(vote)) => {
            if let Ok(read) = vote.read() {
                let again = Vote::of(&read).read().expect("what was read once");
                assert_eq!(again, read);
            }
        }
        Some(Body::Polka(votes)) => drop(votes.read_polka()),
        Some(Body::Skip(votes)) => drop(votes.read_round(RoundCertificateType::Skip)),
        Some(Body::Precommits(votes)) => drop(votes.read_round(RoundCertificateType::Precommit)),
        _ => {}
    }
}
