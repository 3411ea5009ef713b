use proptest::prelude::*;

use super::super::build::{role_principal, signed_by};
use super::*;
use MspRoleType::{Admin, Client, Member, Orderer, Peer};

fn check(text: &str, rule: SignaturePolicy, principals: &[(&str, MspRoleType)]) {
    let principals = principals
        .iter()
        .map(|(msp, role)| role_principal(msp, *role))
        .collect();
    let want = envelope(rule, principals);
    match parse(text) {
        Ok(got) => assert_eq!(got, want, "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn refuse(text: &str, reason: &str) {
    let error = parse(text).unwrap_err().to_string();
    assert!(error.contains(reason), "{text}: {error}");
}

fn by(n: i32) -> SignaturePolicy {
    signed_by(n)
}

#[test]
fn gates() {
    let members = [("A", Member), ("B", Member)];
    check(
        "OutOf(1, 'A.member', 'B.member')",
        n_out_of(1, vec![by(0), by(1)]),
        &members,
    );
    check(
        "OutOf(2, 'A.member', 'B.member')",
        n_out_of(2, vec![by(0), by(1)]),
        &members,
    );
    check(
        "AND('A.member', 'B.member')",
        n_out_of(2, vec![by(0), by(1)]),
        &members,
    );
    check(
        "OR('A.member', 'B.member')",
        n_out_of(1, vec![by(0), by(1)]),
        &members,
    );
    for gate in ["And", "and", "AND"] {
        let text = format!(" {gate} ( \"A.member\" , `B.member`\n) ");
        check(&text, n_out_of(2, vec![by(0), by(1)]), &members);
    }
    check(
        "OutOf('1', 'A.member', 'B.member')",
        n_out_of(1, vec![by(0), by(1)]),
        &members,
    );
    check(
        "OutOf(1.9, 'A.member', 'B.member')",
        n_out_of(1, vec![by(0), by(1)]),
        &members,
    );
    check("OR('A.member')", n_out_of(1, vec![by(0)]), &members[..1]);
    check(
        "OR('A.member', 'A.member')",
        n_out_of(1, vec![by(0), by(1)]),
        &[("A", Member); 2],
    );
}

#[test]
fn roles_and_names() {
    let roles = [("A", Peer), ("B", Admin), ("C", Orderer), ("D", Client)];
    let four = n_out_of(1, (0..4).map(by).collect());
    check(
        "OR('A.peer', 'B.admin', 'C.orderer', 'D.client')",
        four,
        &roles,
    );
    check(
        "OR('MSP.member', 'MSP.WITH.DOTS.member', 'MSP-WITH-DASHES.member')",
        n_out_of(1, (0..3).map(by).collect()),
        &[
            ("MSP", Member),
            ("MSP.WITH.DOTS", Member),
            ("MSP-WITH-DASHES", Member),
        ],
    );
    check(
        "OR('member.member')",
        n_out_of(1, vec![by(0)]),
        &[("member", Member)],
    );
}

#[test]
fn principals_are_numbered_from_the_inside_out() {
    let inner = n_out_of(2, vec![by(0), by(1)]);
    check(
        "OR('A.member', AND('B.member', 'C.member'))",
        n_out_of(1, vec![by(2), inner.clone()]),
        &[("B", Member), ("C", Member), ("A", Member)],
    );
    check(
        "OR(AND('A.member', 'B.member'), OR('C.admin', 'D.member'))",
        n_out_of(1, vec![inner, n_out_of(1, vec![by(2), by(3)])]),
        &[("A", Member), ("B", Member), ("C", Admin), ("D", Member)],
    );
}

#[test]
fn thresholds() {
    let members = [("A", Member), ("B", Member)];
    let rules = || vec![by(0), by(1)];
    check(
        "OutOf(0, 'A.member', 'B.member')",
        n_out_of(0, rules()),
        &members,
    );
    check(
        "OutOf(3, 'A.member', 'B.member')",
        n_out_of(3, rules()),
        &members,
    );
    let predicate = "invalid t-out-of-n predicate, t";
    refuse(
        "OutOf(-1, 'A.member', 'B.member')",
        &format!("{predicate} -1, n 2"),
    );
    refuse(
        "OutOf(4, 'A.member', 'B.member')",
        &format!("{predicate} 4, n 2"),
    );
}

#[test]
fn nonsense() {
    refuse("OR('A.member', Bmember)", "unknown name Bmember");
    refuse("OR('A.member', 'Bmember')", "unknown name Bmember");
    refuse(r"OR('A.member', '\'Bmember\'')", "unknown name Bmember");
    refuse("", "unexpected token EOF");
    refuse(
        "OutOf(1)",
        "expected at least two arguments to NOutOf. Given 1",
    );
    refuse("OutOf(true, 'A.member')", "unexpected type bool");
    refuse("OutOf(1, 2)", "unexpected type int");
    refuse("OutOf(1, 'true')", "unexpected type bool");
    let number = "unrecognized type, expected a number, got string";
    refuse(r"OutOf('\'\\\'A\\\'\'', 'B.member')", number);
    let rule = "unrecognized type, expected a principal or a policy, got int";
    refuse(r"OutOf(1, '\'1\'')", rule);
    refuse("''", "unexpected token EOF");
    refuse(r"'\'\''", "unexpected token EOF");
    refuse("1", "invalid policy string '1'");
    refuse("'1'", "invalid policy string ''1''");
    refuse(r"'\'1\''", r"invalid policy string ''\'1\'''");
    refuse("XOR('A.member', 'B.member')", "unknown name XOR");
    refuse("AND('A.member' 'B.member')", "unexpected token");
    refuse("AND('A.member', 'B.member'", "unexpected token EOF");
    refuse("AND('A.member', 'B.member", "literal not terminated");
    refuse("AND('A.member', 'B.boss')", "");
    refuse(&"x".repeat(100_000), "too long");
    refuse(&"AND(".repeat(1000), "nests too deep");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_text_of_its_own_letters_makes_it_panic(text in "[ANDORoutf()',.\\\\\" 0-9a-z-]{0,60}") {
        let _ = parse(&text);
    }
}
