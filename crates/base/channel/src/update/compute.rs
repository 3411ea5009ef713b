//! Making an update from two configurations.

use std::collections::BTreeMap;

use selvage_proto::common::{Config, ConfigGroup, ConfigPolicy, ConfigUpdate, ConfigValue};

/// The two configurations are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no differences detected between original and updated config")]
pub struct NoDifference;

/// The smallest update that leads from `original` to `updated`, as `configtxlator compute_update`
/// makes it. Versions inside `updated` are ignored. The channel id is left for the caller to set.
pub fn compute(original: &Config, updated: &Config) -> Result<ConfigUpdate, NoDifference> {
    let empty = ConfigGroup::default();
    let from = original.channel_group.as_ref().unwrap_or(&empty);
    let to = updated.channel_group.as_ref().unwrap_or(&empty);
    let diff = diff_group(from, to);
    if !diff.changed {
        return Err(NoDifference);
    }
    Ok(ConfigUpdate {
        channel_id: String::new(),
        read_set: Some(diff.read),
        write_set: Some(diff.write),
        isolated_data: BTreeMap::new(),
    })
}

struct GroupDiff {
    read: ConfigGroup,
    write: ConfigGroup,
    changed: bool,
}

/// What changed among the members of one kind in one group.
#[derive(Default)]
struct MemberDiff<T> {
    read: BTreeMap<String, T>,
    write: BTreeMap<String, T>,
    /// Unchanged members. They enter both sets only when the membership itself changes, because a
    /// group lists all its members then.
    same: BTreeMap<String, T>,
    membership: bool,
}

impl<T: Clone> MemberDiff<T> {
    fn list_all(&mut self) {
        self.read.extend(self.same.clone());
        self.write.append(&mut self.same);
    }

    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }
}

/// Values and policies: elements that are replaced as a whole.
trait Leaf: Clone + Default + PartialEq {
    fn version_mut(&mut self) -> &mut u64;

    fn version(&self) -> u64;

    fn at_version(mut self, version: u64) -> Self {
        *self.version_mut() = version;
        self
    }

    fn same_content(&self, other: &Self) -> bool {
        *self == other.clone().at_version(self.version())
    }
}

macro_rules! leaves {
    ($($kind:ty),*) => {$(
        impl Leaf for $kind {
            fn version_mut(&mut self) -> &mut u64 {
                &mut self.version
            }

            fn version(&self) -> u64 {
                self.version
            }
        }
    )*};
}

leaves!(ConfigValue, ConfigPolicy);

fn diff_leaves<T: Leaf>(from: &BTreeMap<String, T>, to: &BTreeMap<String, T>) -> MemberDiff<T> {
    let mut diff = MemberDiff::default();
    for (name, old) in from {
        let Some(new) = to.get(name) else {
            diff.membership = true;
            continue;
        };
        if old.same_content(new) {
            // A bare version is what read sets carry.
            let bare = T::default().at_version(old.version());
            diff.same.insert(name.clone(), bare);
        } else {
            let raised = new.clone().at_version(old.version().wrapping_add(1));
            diff.write.insert(name.clone(), raised);
        }
    }
    for (name, new) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
        diff.membership = true;
        diff.write.insert(name.clone(), new.clone().at_version(0));
    }
    diff
}

fn diff_groups(
    from: &BTreeMap<String, ConfigGroup>,
    to: &BTreeMap<String, ConfigGroup>,
) -> MemberDiff<ConfigGroup> {
    let mut diff = MemberDiff::default();
    for (name, old) in from {
        let Some(new) = to.get(name) else {
            diff.membership = true;
            continue;
        };
        let group = diff_group(old, new);
        if group.changed {
            diff.read.insert(name.clone(), group.read);
            diff.write.insert(name.clone(), group.write);
        } else {
            diff.same.insert(name.clone(), group.read);
        }
    }
    for (name, new) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
        diff.membership = true;
        let mut group = diff_group(&ConfigGroup::default(), new).write;
        group.version = 0;
        group.mod_policy.clone_from(&new.mod_policy);
        diff.write.insert(name.clone(), group);
    }
    diff
}

fn diff_group(from: &ConfigGroup, to: &ConfigGroup) -> GroupDiff {
    let mut policies = diff_leaves(&from.policies, &to.policies);
    let mut values = diff_leaves(&from.values, &to.values);
    let mut groups = diff_groups(&from.groups, &to.groups);
    let itself = policies.membership
        || values.membership
        || groups.membership
        || from.mod_policy != to.mod_policy;
    let below = !(policies.is_empty() && values.is_empty() && groups.is_empty());
    if itself {
        policies.list_all();
        values.list_all();
        groups.list_all();
    }
    let raised = u64::from(itself);
    GroupDiff {
        read: ConfigGroup {
            version: from.version,
            groups: groups.read,
            values: values.read,
            policies: policies.read,
            mod_policy: String::new(),
        },
        write: ConfigGroup {
            version: from.version.wrapping_add(raised),
            groups: groups.write,
            values: values.write,
            policies: policies.write,
            mod_policy: if itself {
                to.mod_policy.clone()
            } else {
                String::new()
            },
        },
        changed: itself || below,
    }
}
