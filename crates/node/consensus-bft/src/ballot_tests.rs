use malachite_types::{RoundCertificate, RoundCertificateType, RoundSignature};
use selvage_ordering::block::Tip;
use selvage_proto::common::{BlockHeader, Consenter};

use super::*;
use crate::consenters::voters_of;
use crate::keys::Verifier;
use crate::view::Views;

/// Signs with its number in front.
struct Simple(u32);

fn signature(by: u32, message: &[u8]) -> Vec<u8> {
    selvage_crypto::sha256_parts([by.to_be_bytes().as_slice(), message]).to_vec()
}

impl Verifier for Simple {
    fn verify(&self, message: &[u8], by: &[u8]) -> bool {
        signature(self.0, message) == by
    }
}

impl Keys for Simple {
    fn is_me(&self, consenter: &Consenter) -> bool {
        consenter.id == self.0
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        signature(self.0, message)
    }

    fn verifier(&self, consenter: &Consenter) -> Result<Arc<dyn Verifier>, String> {
        Ok(Arc::new(Self(consenter.id)))
    }
}

/// The ballot on block 1 at consenter 3 of 4.
fn ballot() -> Ballot {
    let consenter = |id| Consenter {
        id,
        identity: id.to_string().into(),
        ..Consenter::default()
    };
    let consenters: Vec<Consenter> = (1..=4).map(consenter).collect();
    let tip = Tip::after(&BlockHeader::default());
    let views = Views::after(0, &Bytes::new());
    let mut ballot = Ballot::new(Setting {
        position: Position::behind("channel".into(), &tip, 0, views),
        voters: voters_of(&consenters, &Simple(3)).expect("consenters"),
        me: Id(3),
        keys: Arc::new(Simple(3)),
        timing: Timing::of(&Bytes::new()),
        options: BftOptions::default(),
        first_view: 0,
    });
    ballot.start(Vec::new());
    ballot
}

fn block_id(seed: u8) -> BlockId {
    BlockId {
        digest: [seed; 32],
        data_hash: [seed; 32],
        view: 0,
        is_config: false,
    }
}

fn precommit(ballot: &Ballot, voter: u32, value: NilOrVal<BlockId>) -> RoundSignature<Chain> {
    let vote = BlockVote {
        kind: VoteType::Precommit,
        height: Number(1),
        round: Round::new(0),
        value,
        voter: Id(voter),
        extension: None,
    };
    let by = signature(voter, &ballot.position().vote(&vote));
    RoundSignature::new(VoteType::Precommit, value, Id(voter), by.into())
}

fn publishes_votes(ballot: &mut Ballot) -> bool {
    let outs = ballot.take_outs();
    let mut outs = outs.iter();
    outs.any(|out| matches!(out, Out::Publish(Body::Vote(_))))
}

/// Malachite forgets to repeat its votes when a certificate brought some that it can use and others,
/// those that would have ended the round, that it cannot.
#[test]
fn votes_are_repeated_whatever_certificates_bring() {
    let mut ballot = ballot();
    ballot.pass_over();
    assert!(publishes_votes(&mut ballot));
    let value = NilOrVal::Val(block_id(1));
    let certificate = RoundCertificate {
        height: Number(1),
        round: Round::new(0),
        cert_type: RoundCertificateType::Precommit,
        round_signatures: vec![
            precommit(&ballot, 1, value),
            precommit(&ballot, 2, NilOrVal::Nil),
            precommit(&ballot, 4, value),
        ],
    };
    ballot.round_certificate(certificate);
    assert_eq!(ballot.round(), Round::new(0));
    ballot.take_outs();
    let second = ballot.desk.options.ticks(std::time::Duration::from_secs(1));
    for _ in 0..=second {
        ballot.tick(false);
    }
    assert!(publishes_votes(&mut ballot));
}

/// However often it is asked, and whatever it is told, a ballot signs one prevote a round.
#[test]
fn a_second_prevote_is_a_fault() {
    let mut ballot = ballot();
    ballot.pass_over();
    assert!(ballot.fault().is_none());
    let vote = BlockVote {
        kind: VoteType::Prevote,
        height: Number(1),
        round: Round::new(0),
        value: NilOrVal::Val(block_id(1)),
        voter: Id(3),
        extension: None,
    };
    let bytes = ballot.desk.position.vote(&vote);
    let signed = ballot.desk.sign(Round::new(0), Kind::Prevote, &bytes);
    assert_eq!(signed, Err(Contradiction));
    let fault = ballot.fault().expect("a fault").to_owned();
    assert!(fault.contains("second, different Prevote"), "{fault}");
    assert!(fault.contains("add it again"), "{fault}");
    // It does nothing any more.
    ballot.take_outs();
    for _ in 0..1000 {
        ballot.tick(true);
    }
    assert!(ballot.take_outs().is_empty());
}

/// Votes whose parts do not belong together.
#[test]
fn signatures_are_checked_before_anything_is_counted() {
    let mut ballot = ballot();
    let vote = |kind, value, extension| BlockVote {
        kind,
        height: Number(1),
        round: Round::new(0),
        value,
        voter: Id(1),
        extension,
    };
    let sign = |ballot: &Ballot, vote: BlockVote| {
        let by = signature(1, &ballot.position().vote(&vote));
        SignedMessage::new(vote, Bytes::from(by))
    };
    let id = block_id(1);
    let extend = |ballot: &Ballot, round, by: u32| {
        let header = ballot.position().identifier_header(&id, Id(by));
        let signed = signature(1, &ballot.position().block(&id, round, &header));
        Some(SignedMessage::new(BlockSignature(header), signed.into()))
    };
    let value = NilOrVal::Val(id);
    let good = extend(&ballot, Round::new(0), 1);
    let other_round = extend(&ballot, Round::new(1), 1);
    let other_name = extend(&ballot, Round::new(0), 2);
    use VoteType::{Precommit, Prevote};
    for (vote, expected) in [
        (vote(Prevote, value, None), true),
        (vote(Precommit, NilOrVal::Nil, None), true),
        (vote(Precommit, value, good.clone()), true),
        (vote(Precommit, value, None), false),
        (vote(Prevote, value, good.clone()), false),
        (vote(Precommit, NilOrVal::Nil, good), false),
        (vote(Precommit, value, other_round), false),
        (vote(Precommit, value, other_name), false),
    ] {
        let signed = sign(&ballot, vote);
        assert_eq!(ballot.is_signed(&signed), expected, "{signed:?}");
        let mut forged = signed.clone();
        forged.message.voter = Id(2);
        assert!(!ballot.is_signed(&forged));
        forged.message.voter = Id(9);
        assert!(!ballot.is_signed(&forged));
    }
}
