//! When a bundle of votes proves what it claims: every signature good, every voter a consenter and
//! there once, and enough of them.

use std::collections::BTreeSet;

use bytes::Bytes;
use malachite_types::{
    CertificateError, CommitCertificate, CommitSignature, NilOrVal, PolkaCertificate,
    PolkaSignature, RoundCertificate, RoundCertificateType, RoundSignature, ThresholdParam,
    ThresholdParams, ValidatorSet, VoteType,
};

use crate::context::{BlockVote, Chain, Id, Voters};

type Verdict = Result<(), CertificateError<Chain>>;

/// Counts voters and asks about each signature. Cheap checks come first.
fn tally<'a, S: 'a>(
    votes: impl ExactSizeIterator<Item = (BlockVote, &'a Bytes, S)>,
    voters: &Voters,
    threshold: ThresholdParam,
    mut verify: impl FnMut(&BlockVote, &Bytes) -> bool,
    refuse: impl Fn(S) -> CertificateError<Chain>,
) -> Verdict {
    let total = voters.total_voting_power();
    let signed = votes.len() as u64;
    if !threshold.is_met(signed, total) {
        let expected = threshold.min_expected(total);
        return Err(CertificateError::NotEnoughVotingPower {
            signed,
            total,
            expected,
        });
    }
    let mut seen: BTreeSet<Id> = BTreeSet::new();
    for (vote, signature, source) in votes {
        if voters.get_by_address(&vote.voter).is_none() {
            return Err(CertificateError::UnknownValidator(vote.voter));
        }
        if !seen.insert(vote.voter) {
            return Err(CertificateError::DuplicateVote(vote.voter));
        }
        if !verify(&vote, signature) {
            return Err(refuse(source));
        }
    }
    Ok(())
}

pub(crate) fn commit(
    certificate: &CommitCertificate<Chain>,
    voters: &Voters,
    thresholds: ThresholdParams,
    verify: impl FnMut(&BlockVote, &Bytes) -> bool,
) -> Verdict {
    let votes = certificate.commit_signatures.iter();
    let vote = |s: &CommitSignature<Chain>| BlockVote {
        kind: VoteType::Precommit,
        height: certificate.height,
        round: certificate.round,
        value: NilOrVal::Val(certificate.value_id),
        voter: s.address,
        extension: None,
    };
    let votes = votes.map(|s| (vote(s), &s.signature, s));
    let refuse = |s: &CommitSignature<Chain>| CertificateError::InvalidCommitSignature(s.clone());
    tally(votes, voters, thresholds.quorum, verify, refuse)
}

pub(crate) fn polka(
    certificate: &PolkaCertificate<Chain>,
    voters: &Voters,
    thresholds: ThresholdParams,
    verify: impl FnMut(&BlockVote, &Bytes) -> bool,
) -> Verdict {
    let votes = certificate.polka_signatures.iter();
    let vote = |s: &PolkaSignature<Chain>| BlockVote {
        kind: VoteType::Prevote,
        height: certificate.height,
        round: certificate.round,
        value: NilOrVal::Val(certificate.value_id),
        voter: s.address,
        extension: None,
    };
    let votes = votes.map(|s| (vote(s), &s.signature, s));
    let refuse = |s: &PolkaSignature<Chain>| CertificateError::InvalidPolkaSignature(s.clone());
    tally(votes, voters, thresholds.quorum, verify, refuse)
}

pub(crate) fn round(
    certificate: &RoundCertificate<Chain>,
    voters: &Voters,
    thresholds: ThresholdParams,
    verify: impl FnMut(&BlockVote, &Bytes) -> bool,
) -> Verdict {
    let threshold = match certificate.cert_type {
        RoundCertificateType::Skip => thresholds.honest,
        RoundCertificateType::Precommit => {
            let mut votes = certificate.round_signatures.iter();
            if let Some(vote) = votes.find(|s| s.vote_type != VoteType::Precommit) {
                return Err(CertificateError::InvalidVoteType(vote.address));
            }
            thresholds.quorum
        }
    };
    let votes = certificate.round_signatures.iter();
    let vote = |s: &RoundSignature<Chain>| BlockVote {
        kind: s.vote_type,
        height: certificate.height,
        round: certificate.round,
        value: s.value_id,
        voter: s.address,
        extension: None,
    };
    let votes = votes.map(|s| (vote(s), &s.signature, s));
    let refuse = |s: &RoundSignature<Chain>| CertificateError::InvalidRoundSignature(s.clone());
    tally(votes, voters, threshold, verify, refuse)
}
