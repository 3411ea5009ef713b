//! Our `.proto` files say the same as the descriptors inside a published package: every message,
//! field number, type, label, oneof, enum value and service method.

use std::collections::BTreeMap;
use std::process::Command;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use selvage_proto::Message;

/// Packages that only we have: gRPC's error model and the peer's internal records.
const OWN_PACKAGES: [&str; 2] = ["google.rpc", "selvage.ledger"];

/// Everything a descriptor set says, one line per fact under the full name of what it is about.
type Facts = BTreeMap<String, String>;

#[test]
fn the_wire_types_are_those_of_the_published_package() {
    let Some(python) = selvage_conformance::python("wire types against the published package")
    else {
        return;
    };
    let script = selvage_conformance::root().join("tests/conformance/wire/dump_descriptors.py");
    let output = Command::new(python).arg(script).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let published = facts(&FileDescriptorSet::decode(output.stdout.as_slice()).unwrap());
    let ours = facts(&FileDescriptorSet::decode(selvage_proto::DESCRIPTORS).unwrap());

    assert!(
        published.len() > 1_000,
        "only {} facts: is the package whole?",
        published.len()
    );
    let mut differences = Vec::new();
    for (name, fact) in &published {
        match ours.get(name) {
            Some(own) if own == fact => {}
            Some(own) => differences.push(format!("{name}: published {fact}, ours {own}")),
            None => differences.push(format!("{name}: published {fact}, missing in ours")),
        }
    }
    for (name, own) in ours
        .iter()
        .filter(|(name, _)| !published.contains_key(*name))
    {
        differences.push(format!("{name}: ours {own}, not in the published package"));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn facts(set: &FileDescriptorSet) -> Facts {
    let mut facts = Facts::new();
    for file in &set.file {
        let package = file.package();
        if package.starts_with("google.protobuf") || OWN_PACKAGES.contains(&package) {
            continue;
        }
        for message in &file.message_type {
            message_facts(&mut facts, package, message);
        }
        for enumeration in &file.enum_type {
            enum_facts(&mut facts, package, enumeration);
        }
        for service in &file.service {
            for method in &service.method {
                let name = format!("{package}.{}/{}", service.name(), method.name());
                let fact = format!(
                    "{}{} -> {}{}",
                    if method.client_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.input_type(),
                    if method.server_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.output_type()
                );
                facts.insert(name, fact);
            }
        }
    }
    facts
}

fn message_facts(facts: &mut Facts, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    facts.insert(name.clone(), "message".into());
    for field in &message.field {
        let oneof = match field.oneof_index {
            Some(index) if !field.proto3_optional() => message.oneof_decl[index as usize].name(),
            _ => "",
        };
        let fact = format!(
            "{} {:?} {:?} {} oneof={oneof} optional={}",
            field.name(),
            field.label(),
            field.r#type(),
            field.type_name(),
            field.proto3_optional()
        );
        facts.insert(format!("{name}#{:05}", field.number()), fact);
    }
    for nested in &message.nested_type {
        message_facts(facts, &name, nested);
    }
    for nested in &message.enum_type {
        enum_facts(facts, &name, nested);
    }
}

fn enum_facts(facts: &mut Facts, scope: &str, enumeration: &EnumDescriptorProto) {
    let name = format!("{scope}.{}", enumeration.name());
    facts.insert(name.clone(), "enum".into());
    for value in &enumeration.value {
        facts.insert(
            format!("{name}={}", value.name()),
            value.number().to_string(),
        );
    }
}
