//! What happens in a run, all of it from the seed.

use crate::dice::Dice;
use crate::network::Faults;

/// Microseconds in a millisecond.
pub const MS: u64 = 1_000;

/// The plan of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// The seed of everything.
    pub seed: u64,
    /// How many consenters the channel starts with.
    pub nodes: usize,
    /// How long the first phase lasts, in microseconds.
    pub chaos: u64,
    /// What the network does in it.
    pub faults: Faults,
    /// The time between two messages of clients.
    pub pace: u64,
    /// The time between two crashes; 0 for none.
    pub crashes: u64,
    /// How long a crashed node stays down at most.
    pub downtime: u64,
    /// The time between two splits of the network; 0 for none.
    pub splits: u64,
    /// Full disks, in parts of a thousand of the crashes.
    pub full_disks: u64,
    /// How long a write to the disk takes at most.
    pub disk_delay: u64,
    /// How far clocks run apart, in parts of a thousand.
    pub drift: u64,
    /// The time between two changes of the consenters; 0 for none.
    pub changes: u64,
    /// Whether the journal of one node that stops is damaged in the middle. Consenters are changed only
    /// to replace it then, or too few might be left.
    pub rot: bool,
    /// Whether a consenter is cut off, taken out, told so, and then hears only orderers that lag.
    pub outcast: bool,
}

impl Scenario {
    /// Draws a plan. The longer ones come with the larger seeds' dice, not with larger seeds.
    pub fn from_seed(seed: u64, nodes: usize) -> Self {
        let dice = Dice::new(seed ^ 0x5e1f);
        let maybe = |value: u64| if dice.chance(700) { value } else { 0 };
        let plan = Self {
            seed,
            nodes,
            chaos: dice.between(5_000, 30_000) * MS,
            faults: Faults {
                loss: maybe(dice.between(1, 150)),
                doubled: maybe(dice.between(1, 100)),
                slow: maybe(dice.between(1, 200)),
                delay_min: dice.between(50, 500),
                delay_max: dice.between(1, 40) * MS,
            },
            pace: dice.between(2, 200) * MS,
            crashes: maybe(dice.between(300, 6_000) * MS),
            downtime: dice.between(50, 5_000) * MS,
            splits: maybe(dice.between(500, 8_000) * MS),
            full_disks: maybe(dice.between(10, 300)),
            disk_delay: dice.between(1, 20) * MS,
            drift: maybe(dice.between(1, 100)),
            changes: maybe(dice.between(2_000, 10_000) * MS),
            rot: false,
            outcast: false,
        };
        let rot = plan.crashes > 0 && nodes > 2 && Dice::new(seed ^ 0x407).chance(150);
        let outcast = !rot && plan.changes > 0 && nodes > 3;
        Self {
            rot,
            outcast: outcast && Dice::new(seed ^ 0x0c57).chance(200),
            ..plan
        }
    }
}
