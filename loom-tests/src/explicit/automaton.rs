//! The processes as automata: which access, with which result, leads where. Filled in as the search needs it.

use std::collections::HashMap;

use super::config::Config;
use super::replay::Op;
use super::script::{Event, Local, Pc};

/// An automaton state: a process in front of one access.
pub type At = u32;

/// The states of one search's processes.
pub struct Automaton {
    nodes: Vec<Node>,
    /// States in front of an operation's first access.
    starts: HashMap<Local, At>,
}

/// A process in front of an access.
pub struct Node {
    /// What it knew at the start of the operation.
    pub local: Local,
    /// What its accesses gave since.
    log: Box<[u64]>,
    /// The next one; none at the end of its program.
    pub op: Option<Op>,
    /// The index of that word.
    pub index: u16,
    edges: Vec<Edge>,
}

struct Edge {
    result: u64,
    now: u64,
    next: Box<[Next]>,
}

/// What follows an access.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    /// The process's next state.
    pub at: At,
    /// What it was told, if its operation is over.
    pub event: Event,
    /// It costs a refusal.
    pub refusal: bool,
}

impl Automaton {
    /// No states yet.
    pub fn new() -> Automaton {
        Automaton { nodes: Vec::new(), starts: HashMap::new() }
    }

    /// How many states there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The state.
    pub fn node(&self, at: At) -> &Node {
        &self.nodes[at as usize]
    }

    /// Whether it is in front of an operation's first access.
    pub fn is_start(&self, at: At) -> bool {
        self.node(at).log.is_empty()
    }

    /// Whether it stands between two rounds of its program: a consumer that looks for something, a producer
    /// that claims.
    pub fn is_idle(&self, at: At) -> bool {
        let node = self.node(at);
        node.log.is_empty()
            && matches!(node.local.pc, Pc::Attend | Pc::Claim | Pc::End | Pc::Sweep(0) | Pc::Revive(0))
    }

    /// The state of a process that is about to start an operation.
    pub fn start(&mut self, config: &Config, local: Local) -> At {
        if let Some(&at) = self.starts.get(&local) {
            return at;
        }
        let at = match local.pc {
            Pc::End => self.push(config, local.clone(), Box::new([]), None),
            _ => match run(config, &local, &[], 0) {
                Err(op) => self.push(config, local.clone(), Box::new([]), Some(op)),
                Ok(_) => unreachable!("each operation makes an access"),
            },
        };
        self.starts.insert(local, at);
        at
    }

    /// Where a result of the access that `at` stands in front of leads.
    pub fn next(&mut self, config: &Config, at: At, result: u64, now: u64) -> &[Next] {
        let edges = &self.nodes[at as usize].edges;
        let edge = match edges.iter().position(|edge| edge.result == result && edge.now == now) {
            Some(edge) => edge,
            None => self.grow(config, at, result, now),
        };
        &self.nodes[at as usize].edges[edge].next
    }

    fn grow(&mut self, config: &Config, at: At, result: u64, now: u64) -> usize {
        let node = self.node(at);
        let log: Box<[u64]> = node.log.iter().copied().chain([result]).collect();
        let local = node.local.clone();
        let next = match run(config, &local, &log, now) {
            Err(op) => {
                // Within an operation the clock is not read again.
                let same = self.node(at).edges.iter().find(|edge| edge.result == result);
                let at = match same {
                    Some(edge) => edge.next[0].at,
                    None => self.push(config, local, log, Some(op)),
                };
                vec![Next { at, event: Event::None, refusal: false }]
            }
            Ok(all) => all
                .into_iter()
                .map(|(local, event, refusal)| Next { at: self.start(config, local), event, refusal })
                .collect(),
        };
        let edges = &mut self.nodes[at as usize].edges;
        edges.push(Edge { result, now, next: next.into() });
        edges.len() - 1
    }

    fn push(&mut self, config: &Config, local: Local, log: Box<[u64]>, op: Option<Op>) -> At {
        let index = op.map_or(0, |op| config.index(op.spot) as u16);
        self.nodes.push(Node { local, log, op, index, edges: Vec::new() });
        self.nodes.len() as At - 1
    }
}

impl Default for Automaton {
    fn default() -> Automaton {
        Automaton::new()
    }
}

fn run(config: &Config, local: &Local, log: &[u64], now: u64) -> Result<Vec<super::script::Next>, Op> {
    match config.skips {
        2 => local.run::<2>(config, log, now),
        3 => local.run::<3>(config, log, now),
        other => panic!("the model has no ring that counts {other} skips"),
    }
}
