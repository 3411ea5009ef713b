//! Consenters that come and go, and what a new configuration does to messages on their way.

use selvage_ordering::{Effect, Engine as _, Input, Submission, Ticket};
use selvage_proto::Message as _;
use selvage_proto::common::Envelope;
use selvage_proto::orderer::smartbft::Options;
use selvage_proto::orderer::smartbft::options::Rotation;

use crate::harness::{Cluster, MS, SECOND};
use crate::world::{self, Plain};

/// Gives a configuration to a node and waits until all have it.
fn configure(cluster: &mut Cluster, at: usize, sequence: u64, consenters: &[u32]) {
    let message = world::config(sequence, consenters);
    cluster.configure(at, message.clone());
    cluster.run_until("the configuration is in force", 10 * SECOND, |cluster| {
        let mut nodes = cluster.nodes.iter().filter(|node| !node.evicted);
        let has = |blocks: &[crate::harness::Stored]| {
            let mut blocks = blocks.iter().rev();
            blocks.any(|stored| stored.block.envelopes() == [message.clone()])
        };
        nodes.all(|node| has(&node.blocks))
    });
}

#[test]
fn consenters_come_and_go_while_messages_flow() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(Plain::new(1..=4), seed);
        cluster.weather.max_delay = 10 * MS;
        let mut count = 0;
        let mut busy = |cluster: &mut Cluster, messages: usize| {
            for _ in 0..messages {
                count += 1;
                let up: Vec<usize> = (0..cluster.nodes.len())
                    .filter(|index| cluster.is_up(*index) && !cluster.nodes[*index].evicted)
                    .collect();
                let index = up[cluster.dice(up.len() as u64) as usize];
                cluster.submit(index, &format!("message {count}"));
                let pause = cluster.dice(5 * MS);
                cluster.run_for(pause);
            }
        };
        busy(&mut cluster, 30);
        // A fifth joins: the configuration names it, it copies the chain and takes part.
        configure(&mut cluster, 2, 1, &[1, 2, 3, 4, 5]);
        cluster.add_node(5, true);
        busy(&mut cluster, 30);
        // The leader is taken out.
        configure(&mut cluster, 1, 2, &[2, 3, 4, 5]);
        assert!(cluster.nodes[0].evicted);
        busy(&mut cluster, 30);
        // Two at once are nothing special.
        configure(&mut cluster, 3, 3, &[2, 3]);
        busy(&mut cluster, 10);
        let refused = cluster.refused as usize;
        cluster.run_until("the rest is ordered", 10 * SECOND, |cluster| {
            cluster.accepted.len() + refused >= cluster.submitted.len()
        });
        cluster.check_once();
        assert!(cluster.chain.len() > 10);
    }
}

#[test]
fn a_configuration_stands_alone_and_what_waited_passes_the_filters_again() {
    let mut cluster = Cluster::new(Plain::new(1..=4), 3);
    for n in 0..10 {
        cluster.submit(n % 4, &format!("before {n}"));
    }
    cluster.configure(0, world::config(1, &[4, 3, 2, 1]));
    for n in 0..10 {
        cluster.submit(n % 4, &format!("after {n}"));
    }
    cluster.run_until("all is ordered", 5 * SECOND, Cluster::is_accepted);
    let configs = cluster.chain.values().filter(|block| {
        let envelopes = block.envelopes();
        envelopes.contains(&world::config(1, &[4, 3, 2, 1]))
    });
    let sizes: Vec<usize> = configs.map(|block| block.envelopes().len()).collect();
    assert_eq!(sizes, [1]);
    assert_eq!(cluster.ordered().len(), 21);
}

#[test]
fn configurations_that_cannot_be_are_refused() {
    for (name, message) in [
        (
            "a sequence that does not follow",
            world::config(7, &[1, 2, 3, 4]),
        ),
        ("no consenters", world::config(1, &[])),
        ("a number twice", world::config(1, &[1, 2, 2, 3])),
    ] {
        let mut cluster = Cluster::new(Plain::new(1..=4), 4);
        // The leader's own filters were not asked: it proposes what the others have to refuse.
        cluster.configure(0, message);
        cluster.run_for(100 * MS);
        cluster.submit(2, "goes on");
        cluster.run_until(name, 10 * SECOND, Cluster::is_accepted);
        assert_eq!(cluster.ordered().len(), 1, "{name}");
    }
}

#[test]
fn the_leader_rotates_where_the_channel_says_so() {
    let options = Options {
        leader_rotation: Rotation::On as i32,
        decisions_per_leader: 2,
        ..Options::default()
    };
    let mut cluster = Cluster::new(Plain::new(1..=4).with_options(options), 5);
    let mut leaders = Vec::new();
    for n in 0..8 {
        cluster.submit(n % 4, &format!("message {n}"));
        cluster.run_until("it is ordered", 2 * SECOND, Cluster::is_settled);
        leaders.push(cluster.leaders[&1]);
    }
    assert_eq!(leaders, [1, 2, 2, 3, 3, 4, 4, 1]);
    cluster.check_once();
}

/// While a node fetches blocks its driver knows of a configuration before its engine does. What comes
/// in by that one waits in the engine: sent back, it would come again at once, for ever.
#[test]
fn a_message_that_is_ahead_of_the_engine_waits_for_it() {
    let mut cluster = Cluster::new(Plain::new(1..=4), 6);
    let envelope = cluster.world.message("early");
    let decoded = Envelope::decode(envelope.clone()).unwrap();
    let submission = |sequence| Submission::new(Ticket(7), &decoded, sequence);
    let engine = cluster.nodes[0].engine.as_mut().unwrap();
    let effects = engine.step(Input::Order(submission(1)));
    let returned = |effect: &Effect| matches!(effect, Effect::Revalidate { .. });
    assert!(!effects.iter().any(returned), "{effects:?}");
    cluster.run_for(SECOND);
    assert!(cluster.chain.is_empty());
    configure(&mut cluster, 1, 1, &[1, 2, 3, 4]);
    cluster.run_until("it is ordered", 5 * SECOND, |cluster| {
        cluster.ordered().contains_key(&envelope)
    });
}
