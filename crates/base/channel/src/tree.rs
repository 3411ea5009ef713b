//! The configuration tree as a flat map, the form in which updates are compared.
//!
//! Keys look like `[Value]  /Channel/Orderer/BatchSize`; they appear in error texts that operators
//! of Fabric networks know.

use std::collections::BTreeMap;

use selvage_proto::common::{ConfigGroup, ConfigPolicy, ConfigValue};

use crate::names::{ADMINS, CHANNEL, NameError, check_element_name};

const ORDERER_CAPABILITIES: &str = "[Value]  /Channel/Orderer/Capabilities";

/// Something in the configuration that has a version and a modification policy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    Group(&'a ConfigGroup),
    Value(&'a ConfigValue),
    Policy(&'a ConfigPolicy),
}

impl<'a> Item<'a> {
    pub(crate) fn version(self) -> u64 {
        match self {
            Self::Group(g) => g.version,
            Self::Value(v) => v.version,
            Self::Policy(p) => p.version,
        }
    }

    pub(crate) fn mod_policy(self) -> &'a str {
        match self {
            Self::Group(g) => &g.mod_policy,
            Self::Value(v) => &v.mod_policy,
            Self::Policy(p) => &p.mod_policy,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Group(_) => "[Group]  ",
            Self::Value(_) => "[Value]  ",
            Self::Policy(_) => "[Policy] ",
        }
    }
}

/// One element and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Element<'a> {
    pub(crate) item: Item<'a>,
    /// The groups from the root to the one that judges changes: the element's own for a group, the
    /// one that contains it for values and policies.
    pub(crate) groups: Vec<&'a str>,
}

/// The whole tree, by key.
pub(crate) type FlatTree<'a> = BTreeMap<String, Element<'a>>;

/// A name somewhere in the tree is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal characters in key: {parent}")]
pub struct TreeNameError {
    /// The group it stands in.
    pub parent: String,
    /// What is wrong with it.
    pub source: NameError,
}

/// Flattens a tree; a missing one is empty.
pub(crate) fn flatten(root: Option<&ConfigGroup>) -> Result<FlatTree<'_>, TreeNameError> {
    let mut map = FlatTree::new();
    if let Some(root) = root {
        flatten_group(root, vec![CHANNEL], &mut map)?;
    }
    Ok(map)
}

fn flatten_group<'a>(
    group: &'a ConfigGroup,
    path: Vec<&'a str>,
    map: &mut FlatTree<'a>,
) -> Result<(), TreeNameError> {
    let here = path.join("/");
    let check = |name: &str| {
        check_element_name(name).map_err(|source| TreeNameError {
            parent: format!("/{here}"),
            source,
        })
    };
    for (name, child) in &group.groups {
        check(name)?;
        let mut below = path.clone();
        below.push(name);
        flatten_group(child, below, map)?;
    }
    let values = group.values.iter().map(|(n, v)| (n, Item::Value(v)));
    let policies = group.policies.iter().map(|(n, p)| (n, Item::Policy(p)));
    for (name, item) in values.chain(policies) {
        check(name)?;
        let key = format!("{}/{here}/{name}", item.prefix());
        let groups = path.clone();
        map.insert(key, Element { item, groups });
    }
    let item = Item::Group(group);
    let key = format!("{}/{here}", item.prefix());
    map.insert(key, Element { item, groups: path });
    Ok(())
}

/// A flat map that is no tree: a group lists a member that the map lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("missing element at path: {key}")]
pub struct Incomplete {
    /// The key that is missing.
    pub key: String,
}

/// Builds the tree back from the flat map.
///
/// Elements that were written without a modification policy get `Admins` when the orderer section
/// has capabilities: Fabric repairs channels that its first release created without, and every node
/// has to arrive at the same tree.
pub(crate) fn rebuild(map: &FlatTree<'_>) -> Result<ConfigGroup, Incomplete> {
    let repair = map.contains_key(ORDERER_CAPABILITIES);
    rebuild_group(&format!("/{CHANNEL}"), map, repair)
}

fn rebuild_group(path: &str, map: &FlatTree<'_>, repair: bool) -> Result<ConfigGroup, Incomplete> {
    let mod_policy = |text: &str| {
        if repair && text.is_empty() {
            ADMINS.to_owned()
        } else {
            text.to_owned()
        }
    };
    let key = format!("[Group]  {path}");
    let Some(Item::Group(group)) = map.get(&key).map(|e| e.item) else {
        return Err(Incomplete { key });
    };
    let mut built = ConfigGroup {
        version: group.version,
        mod_policy: mod_policy(&group.mod_policy),
        ..Default::default()
    };
    for name in group.groups.keys() {
        let child = rebuild_group(&format!("{path}/{name}"), map, repair)?;
        built.groups.insert(name.clone(), child);
    }
    for name in group.values.keys() {
        let key = format!("[Value]  {path}/{name}");
        let Some(Item::Value(value)) = map.get(&key).map(|e| e.item) else {
            return Err(Incomplete { key });
        };
        let mut value = value.clone();
        value.mod_policy = mod_policy(&value.mod_policy);
        built.values.insert(name.clone(), value);
    }
    for name in group.policies.keys() {
        let key = format!("[Policy] {path}/{name}");
        let Some(Item::Policy(policy)) = map.get(&key).map(|e| e.item) else {
            return Err(Incomplete { key });
        };
        let mut policy = policy.clone();
        policy.mod_policy = mod_policy(&policy.mod_policy);
        built.policies.insert(name.clone(), policy);
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(version: u64, mod_policy: &str) -> ConfigValue {
        ConfigValue {
            version,
            mod_policy: mod_policy.to_owned(),
            value: vec![7].into(),
        }
    }

    fn sample() -> ConfigGroup {
        let mut orderer = ConfigGroup {
            version: 3,
            mod_policy: "Admins".to_owned(),
            ..Default::default()
        };
        orderer
            .values
            .insert("Capabilities".to_owned(), value(1, "Admins"));
        orderer
            .policies
            .insert("Writers".to_owned(), ConfigPolicy::default());
        let mut root = ConfigGroup::default();
        root.groups.insert("Orderer".to_owned(), orderer);
        root
    }

    #[test]
    fn keys_look_like_fabrics() {
        let root = sample();
        let map = flatten(Some(&root)).expect("legal names");
        let keys: Vec<&str> = map.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "[Group]  /Channel",
                "[Group]  /Channel/Orderer",
                "[Policy] /Channel/Orderer/Writers",
                "[Value]  /Channel/Orderer/Capabilities",
            ]
        );
        let group = &map["[Group]  /Channel/Orderer"];
        assert_eq!(group.groups, ["Channel", "Orderer"]);
        assert_eq!(group.item.version(), 3);
        let policy = &map["[Policy] /Channel/Orderer/Writers"];
        assert_eq!(policy.groups, ["Channel", "Orderer"]);
    }

    #[test]
    fn rebuilding_repairs_missing_mod_policies() {
        let root = sample();
        let map = flatten(Some(&root)).expect("legal names");
        let built = rebuild(&map).expect("complete");
        assert_eq!(built.mod_policy, "Admins");
        let orderer = &built.groups["Orderer"];
        assert_eq!(orderer.policies["Writers"].mod_policy, "Admins");
        assert_eq!(orderer.values, root.groups["Orderer"].values);

        // Without orderer capabilities nothing is touched.
        let mut old = root.clone();
        if let Some(orderer) = old.groups.get_mut("Orderer") {
            orderer.values.clear();
        }
        let map = flatten(Some(&old)).expect("legal names");
        assert_eq!(rebuild(&map).expect("complete"), old);
    }

    #[test]
    fn missing_members_are_named() {
        let root = sample();
        let mut map = flatten(Some(&root)).expect("legal names");
        map.remove("[Policy] /Channel/Orderer/Writers");
        let error = rebuild(&map).expect_err("a policy is missing");
        assert_eq!(error.key, "[Policy] /Channel/Orderer/Writers");
    }

    #[test]
    fn illegal_names_are_refused() {
        let mut root = sample();
        root.values.insert("a/b".to_owned(), value(0, ""));
        let error = flatten(Some(&root)).expect_err("a slash");
        assert_eq!(error.parent, "/Channel");
    }
}
