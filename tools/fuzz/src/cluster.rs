//! Small clusters of honest nodes, from which seeds are recorded.

use bytes::Bytes;
use prost::Message as _;
use selvage_proto::common::HeaderType;

use crate::consenter::{Consensus, Consenter, Step, config, envelope};
use crate::pick::Put;

/// What is done to a whole cluster.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Time passes for everybody.
    Ticks(u8),
    /// A message for the nodes given.
    Order(&'static [u8], &'static str),
    /// A configuration for one node, under which these order.
    Configure(u8, &'static [u8]),
    /// Batch timers fire.
    Timers,
    /// Nobody reaches this node any more.
    Cut(u8),
    /// Everybody reaches everybody.
    Heal,
    /// A node starts again.
    Restart(u8),
}

/// A cluster of honest nodes.
pub(crate) struct Cluster {
    nodes: Vec<Consenter>,
    steps: Vec<Vec<Step>>,
    cut: Option<u8>,
}

impl Cluster {
    /// A new channel's nodes, after these acts.
    pub(crate) fn run(consensus: Consensus, acts: &[Act]) -> Self {
        let ids = 1..=consensus.nodes();
        let mut cluster = Self {
            nodes: ids
                .clone()
                .map(|id| Consenter::new(consensus, id))
                .collect(),
            steps: ids.map(|_| Vec::new()).collect(),
            cut: None,
        };
        cluster.deliver();
        for act in acts {
            cluster.act(act);
        }
        cluster
    }

    /// What each node went through, as inputs: the node's number, then its steps.
    pub(crate) fn inputs(&self) -> Vec<Vec<u8>> {
        let input = |(number, steps): (usize, &Vec<Step>)| {
            let put = Put::default().byte(number as u8);
            steps.iter().fold(put, |put, step| step.write(put)).rest([])
        };
        self.steps.iter().enumerate().map(input).collect()
    }

    /// What is on the disk of each node that is still a consenter: its number, the newest block,
    /// the newest configuration and the journal.
    pub(crate) fn disks(&self) -> impl Iterator<Item = Vec<u8>> {
        let running = self.nodes.iter().filter(|node| node.engine.is_some());
        running.map(|node| {
            let put = Put::default().byte(node.id - 1);
            let put = put.piece(node.newest.encode_to_vec());
            let put = put.piece(node.config.encode_to_vec());
            node.records.iter().fold(put, Put::piece).rest([])
        })
    }

    fn act(&mut self, act: &Act) {
        let all: Vec<u8> = (1..=self.nodes.len() as u8).collect();
        let message = |text: &str| {
            let envelope = envelope(HeaderType::EndorserTransaction, text.into());
            Bytes::from(envelope.encode_to_vec())
        };
        match act {
            Act::Ticks(count) => {
                for _ in 0..*count {
                    all.iter().for_each(|id| self.step(*id, Step::Ticks(1)));
                    self.deliver();
                }
            }
            Act::Order(ids, text) => {
                ids.iter()
                    .for_each(|id| self.step(*id, Step::Order(message(text), false)));
            }
            Act::Configure(id, nodes) => {
                let consensus = self.nodes[0].consensus;
                let config = config(consensus, 1, nodes).encode_to_vec().into();
                self.step(*id, Step::Order(config, true));
            }
            Act::Timers => all.iter().for_each(|id| self.step(*id, Step::Timer)),
            Act::Cut(id) => self.cut = Some(*id),
            Act::Heal => self.cut = None,
            Act::Restart(id) => self.step(*id, Step::Restart),
        }
        self.deliver();
    }

    fn step(&mut self, id: u8, step: Step) {
        let at = usize::from(id) - 1;
        if let (Some(node), Some(steps)) = (self.nodes.get_mut(at), self.steps.get_mut(at)) {
            node.act(step.clone());
            match (steps.last_mut(), &step) {
                (Some(Step::Ticks(before)), Step::Ticks(more)) if *before < 30 => *before += more,
                _ => steps.push(step),
            }
        }
    }

    /// Brings everybody what is said to them, and the blocks that they want, until all is quiet.
    fn deliver(&mut self) {
        loop {
            let mut said = Vec::new();
            for node in &mut self.nodes {
                let from = node.id;
                let sent = std::mem::take(&mut node.sent).into_iter();
                said.extend(sent.map(|(to, said)| (from, to as u8, said)));
            }
            said.retain(|(from, to, _)| self.cut != Some(*from) && self.cut != Some(*to));
            let fetched = self.fetched();
            if said.is_empty() && fetched.is_empty() {
                return;
            }
            for (from, to, said) in said {
                self.step(to, Step::Hears(from, said));
            }
            for (id, block) in fetched {
                self.step(id, Step::Fetched(block));
            }
        }
    }

    fn fetched(&self) -> Vec<(u8, Bytes)> {
        let reachable = self.nodes.iter().filter(|node| self.cut != Some(node.id));
        let wanting = reachable.filter_map(|node| Some((node.id, node.wanted?)));
        let chains = || self.nodes.iter().flat_map(|node| &node.chain);
        let block = |number| chains().find(|block| block.number() == number);
        wanting
            .filter_map(|(id, number)| Some((id, block(number)?.encode_to_vec().into())))
            .collect()
    }
}
