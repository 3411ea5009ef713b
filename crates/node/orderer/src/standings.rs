//! How this node stands to its channels, as metrics (Fabric: `orderer/common/multichannel/metrics.go`).

use std::collections::BTreeSet;
use std::sync::Weak;

use parking_lot::Mutex;
use selvage_net::metrics::{Gauges, Metrics};

use crate::chain::{Part, Relation, Standing};
use crate::registrar::Registrar;

const CHANNEL: &[&str] = &["channel"];

/// Shows what the participation API says of every channel, whenever somebody looks.
pub(crate) fn show(registrar: Weak<Registrar>, metrics: &Metrics) {
    let relations = metrics.gauges(
        "participation_consensus_relation",
        "What this node is to the channel: 0 other, 1 consenter, 2 follower, 3 config tracker.",
        CHANNEL,
    );
    let statuses = metrics.gauges(
        "participation_status",
        "How this node's part in the channel stands: 0 inactive, 1 active, 2 onboarding, 3 failed.",
        CHANNEL,
    );
    let shown = Mutex::new(BTreeSet::new());
    metrics.before_shown(move || {
        if let Some(registrar) = registrar.upgrade() {
            refresh(&registrar, &relations, &statuses, &mut shown.lock());
        }
    });
}

fn refresh(
    registrar: &Registrar,
    relations: &Gauges,
    statuses: &Gauges,
    shown: &mut BTreeSet<String>,
) {
    let mut names = registrar.names();
    // Those that are being removed are not among the names, but are known still.
    names.extend(std::mem::take(shown));
    for name in names {
        let labels = [name.as_str()];
        let Some(info) = registrar.info(&name) else {
            relations.remove(&labels);
            statuses.remove(&labels);
            continue;
        };
        let (relation, status) = numbers(info.standing);
        relations.with(&labels).set(relation);
        statuses.with(&labels).set(status);
        shown.insert(name);
    }
}

/// Fabric's numbers.
fn numbers(standing: Standing) -> (i64, i64) {
    let relation = match standing.relation {
        Relation::Other => 0,
        Relation::Consenter => 1,
        Relation::Follower => 2,
    };
    let status = match standing.part {
        Part::Inactive => 0,
        Part::Active => 1,
        Part::Onboarding => 2,
        Part::Failed => 3,
    };
    (relation, status)
}
