//! The text form of signature policies: `AND`, `OR` and `OutOf` over `'<MSP>.<role>'`.
//!
//! Fabric reads it with a general expression language, three times over: first the gates become
//! calls of one gate, written as text again, then that text is read twice more. The passes show:
//! a string that is no principal is read as an expression by the next pass, so `OutOf('1', …)`
//! works, and principals are numbered from the inside out. The same passes are here, over the part of the
//! language such texts use: calls, strings, numbers and the words `true`, `false` and `nil`.

mod expression;

use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope};

use super::PolicyError;
use super::build::{envelope, n_out_of, role_principal, signed_by};
use expression::{Expression, quoted};

/// Longer texts are no policies.
const MAX_TEXT: usize = 64 * 1024;

/// The spellings of the gates.
const GATES: [(&str, Gate); 9] = [
    ("And", Gate::And),
    ("and", Gate::And),
    ("AND", Gate::And),
    ("Or", Gate::Or),
    ("or", Gate::Or),
    ("OR", Gate::Or),
    ("OutOf", Gate::OutOf),
    ("outof", Gate::OutOf),
    ("OUTOF", Gate::OutOf),
];

#[derive(Clone, Copy)]
enum Gate {
    And,
    Or,
    OutOf,
}

/// What an expression of the first two passes comes to.
enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Other(&'static str),
}

/// What an expression of the last pass comes to.
enum Outcome {
    Text(String),
    Number(i64),
    Rule(SignaturePolicy),
    Context,
    Other(&'static str),
}

fn wrong<T>(reason: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError::Malformed(reason.into()))
}

/// Reads the text form of a policy.
///
/// # Errors
/// [`PolicyError::Malformed`] with a text like Fabric's.
pub fn parse(text: &str) -> Result<SignaturePolicyEnvelope, PolicyError> {
    if text.len() > MAX_TEXT {
        return wrong("the policy string is too long");
    }
    let invalid = || wrong(format!("invalid policy string '{text}'"));
    let gates = |name: &str| {
        GATES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, gate)| *gate)
    };
    let first = expression::parse(text)?;
    first.check_names(|name| gates(name).is_some())?;
    let Value::Text(second) = first_pass(&first, &gates)? else {
        return invalid();
    };

    let second = expression::parse(&second)?;
    second.check_names(|name| name == "outof")?;
    let Value::Text(third) = second_pass(&second)? else {
        return invalid();
    };

    let third = expression::parse(&third)?;
    third.check_names(|name| name == "outof" || name == "ID")?;
    let mut principals = Vec::new();
    match third_pass(&third, &mut principals)? {
        Outcome::Rule(rule) => Ok(envelope(rule, principals)),
        _ => invalid(),
    }
}

/// Splits `<MSP>.<role>`.
fn principal(text: &str) -> Option<(&str, MspRoleType)> {
    let (msp, role) = text.rsplit_once('.')?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if msp.is_empty() || !msp.chars().all(allowed) {
        return None;
    }
    let role = match role {
        "member" => MspRoleType::Member,
        "admin" => MspRoleType::Admin,
        "client" => MspRoleType::Client,
        "peer" => MspRoleType::Peer,
        "orderer" => MspRoleType::Orderer,
        _ => return None,
    };
    Some((msp, role))
}

/// A string as it goes into the next pass: a principal keeps its quotes, anything else is read.
fn handed_on(text: &str) -> String {
    if principal(text).is_some() {
        quoted(text)
    } else {
        text.to_owned()
    }
}

fn literal(expression: &Expression) -> Value {
    match expression {
        Expression::Text(text) => Value::Text(text.clone()),
        Expression::Integer(n) => Value::Integer(*n),
        Expression::Float(n) => Value::Float(*n),
        Expression::Word(word) => Value::Other(type_of_word(word)),
        Expression::Call(..) => Value::Other("func"),
    }
}

fn type_of_word(word: &str) -> &'static str {
    match word {
        "true" | "false" => "bool",
        "nil" => "%!s(<nil>)",
        _ => "func",
    }
}

fn first_pass(
    expression: &Expression,
    gates: &impl Fn(&str) -> Option<Gate>,
) -> Result<Value, PolicyError> {
    let Expression::Call(name, arguments) = expression else {
        return Ok(literal(expression));
    };
    let mut values = Vec::with_capacity(arguments.len() + 1);
    for argument in arguments {
        values.push(first_pass(argument, gates)?);
    }
    match gates(name) {
        Some(Gate::And) => values.insert(0, Value::Integer(values.len() as i64)),
        Some(Gate::Or) => values.insert(0, Value::Integer(1)),
        Some(Gate::OutOf) => {}
        None => return wrong(format!("unknown name {name}")),
    }
    if values.len() < 2 {
        let given = values.len();
        return wrong(format!(
            "expected at least two arguments to NOutOf. Given {given}"
        ));
    }
    let mut out = String::from("outof(");
    for (i, value) in values.into_iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        match value {
            Value::Text(text) if i == 0 => out.push_str(&text),
            Value::Text(text) => out.push_str(&handed_on(&text)),
            Value::Integer(n) if i == 0 => out.push_str(&n.to_string()),
            Value::Float(n) if i == 0 => out.push_str(&(n as i64).to_string()),
            Value::Integer(_) => return wrong("unexpected type int"),
            Value::Float(_) => return wrong("unexpected type float64"),
            Value::Other(kind) => return wrong(format!("unexpected type {kind}")),
        }
    }
    out.push(')');
    Ok(Value::Text(out))
}

fn second_pass(expression: &Expression) -> Result<Value, PolicyError> {
    let Expression::Call(_, arguments) = expression else {
        return Ok(literal(expression));
    };
    let mut out = String::from("outof(ID");
    for argument in arguments {
        out.push_str(", ");
        match second_pass(argument)? {
            Value::Text(text) => out.push_str(&handed_on(&text)),
            Value::Integer(n) => out.push_str(&n.to_string()),
            Value::Float(n) => out.push_str(&(n as i64).to_string()),
            Value::Other(kind) => return wrong(format!("unexpected type {kind}")),
        }
    }
    out.push(')');
    Ok(Value::Text(out))
}

fn third_pass(
    expression: &Expression,
    principals: &mut Vec<MspPrincipal>,
) -> Result<Outcome, PolicyError> {
    let arguments = match expression {
        Expression::Call(_, arguments) => arguments,
        Expression::Word(word) if word == "ID" => return Ok(Outcome::Context),
        other => {
            return Ok(match literal(other) {
                Value::Text(text) => Outcome::Text(text),
                Value::Integer(n) => Outcome::Number(n),
                Value::Float(n) => Outcome::Number(n as i64),
                Value::Other(kind) => Outcome::Other(kind),
            });
        }
    };
    // Calls inside are made first, so their principals come first.
    let mut values = Vec::with_capacity(arguments.len());
    for argument in arguments {
        values.push(third_pass(argument, principals)?);
    }
    gate(values, principals)
}

fn gate(values: Vec<Outcome>, principals: &mut Vec<MspPrincipal>) -> Result<Outcome, PolicyError> {
    let given = values.len();
    if given < 3 {
        return wrong(format!("at least 3 arguments expected, got {given}"));
    }
    let mut values = values.into_iter();
    match values.next() {
        Some(Outcome::Context) => {}
        other => {
            let kind = other.as_ref().map_or("nothing", kind);
            return wrong(format!(
                "unrecognized type, expected the context, got {kind}"
            ));
        }
    }
    let needed = match values.next() {
        Some(Outcome::Number(n)) => n,
        other => {
            let kind = other.as_ref().map_or("nothing", kind);
            return wrong(format!("unrecognized type, expected a number, got {kind}"));
        }
    };
    let n = given as i64 - 2;
    // One more than there are is allowed: it makes a policy that nothing satisfies.
    let Some(needed) = i32::try_from(needed)
        .ok()
        .filter(|t| (0..=n + 1).contains(&(*t).into()))
    else {
        return wrong(format!("invalid t-out-of-n predicate, t {needed}, n {n}"));
    };
    let mut rules = Vec::with_capacity(given - 2);
    for value in values {
        rules.push(match value {
            Outcome::Rule(rule) => rule,
            Outcome::Text(text) => {
                let Some((msp, role)) = principal(&text) else {
                    return wrong(format!("error parsing principal {text}"));
                };
                principals.push(role_principal(msp, role));
                signed_by(i32::try_from(principals.len() - 1).unwrap_or(i32::MAX))
            }
            other => {
                let kind = kind(&other);
                return wrong(format!(
                    "unrecognized type, expected a principal or a policy, got {kind}"
                ));
            }
        });
    }
    Ok(Outcome::Rule(n_out_of(needed, rules)))
}

/// Go's name of a value's type, for error texts.
fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Text(_) => "string",
        Outcome::Number(_) => "int",
        Outcome::Rule(_) => "*common.SignaturePolicy",
        Outcome::Context => "*policydsl.context",
        Outcome::Other(kind) => kind,
    }
}

#[cfg(test)]
mod tests;
