//! What can be taken out of a run, and the search for what cannot.

use node::limits::Limits;
use paxos_core::{Genesis, Instant, Membership, NodeId};
use transport_sim::{Ask, Asks, Decision, Departure, DiskQuality, Quality, START, Scenario, Stream};

/// What makes a scenario simpler without making it smaller.
pub(super) const SIMPLER: [fn(&mut Scenario); 14] = [
    |scenario| scenario.slow_disks.clear(),
    |scenario| scenario.late.clear(),
    |scenario| scenario.drift = 0,
    |scenario| scenario.quality.loss = 0,
    |scenario| scenario.quality.duplication = 0,
    |scenario| scenario.quality.misrouted = 0,
    |scenario| scenario.quality.garbled = 0,
    |scenario| scenario.quality.reorders = false,
    |scenario| scenario.quality.jitter_us = scenario.quality.jitter_us.min(Quality::CALM.jitter_us),
    |scenario| scenario.quality.delay_us_min = Quality::CALM.delay_us_min,
    |scenario| scenario.disk = DiskQuality { sync_us_min: DiskQuality::CALM.sync_us_min, ..scenario.disk },
    |scenario| scenario.clients.iter_mut().for_each(|manner| manner.once = false),
    |scenario| scenario.limits = Limits::default(),
    |scenario| {
        scenario.clients.iter_mut().for_each(|manner| {
            if let Asks::Drawn { large, .. } = &mut manner.asks {
                *large = None;
            }
        });
    },
];

/// What sets decisions apart that are tried together.
pub(super) fn kind_of(decision: &Decision) -> (u8, u8) {
    let stream = match decision.stream {
        Stream::Link { .. } => 0,
        Stream::ToNode { .. } => 1,
        Stream::ToClient { .. } => 2,
        Stream::Sync { .. } => 3,
        Stream::Crash { .. } => 4,
    };
    let departure = match decision.departure {
        Departure::Late(_) => 0,
        Departure::Lost => 1,
        Departure::Again(_) => 2,
        Departure::Astray => 3,
        Departure::AgainAstray => 4,
        Departure::Torn(_) => 5,
        Departure::Kept => 6,
        Departure::Garbled(_) => 7,
    };
    (stream, departure)
}

pub(super) fn members(scenario: &Scenario) -> Vec<NodeId> {
    scenario.genesis.membership().members().map(|member| member.node).collect()
}

/// The same without one node, if that is a legal cluster.
pub(super) fn without_node(scenario: &Scenario, gone: NodeId) -> Option<Scenario> {
    let membership = scenario.genesis.membership();
    let stay = |members: &[paxos_core::Member]| members.iter().copied().filter(|member| member.node != gone).collect();
    let smaller = Membership::new(stay(membership.voters()), stay(membership.learners()), membership.quorum()).ok()?;
    let mut scenario = scenario.clone();
    scenario.genesis = Genesis::new(smaller, scenario.genesis.alpha()).ok()?;
    scenario.slow_disks.retain(|(node, _)| *node != gone);
    scenario.late.retain(|(node, _)| *node != gone);
    scenario.faults =
        scenario.faults.iter().filter_map(|(at, fault)| fault.without(gone).map(|fault| (*at, fault))).collect();
    Some(scenario)
}

/// Shows every moment that a scenario names: when clients begin and ask, faults strike, nodes come late, and all is well.
pub(super) fn every_time(scenario: &mut Scenario, look: &mut impl FnMut(&mut Instant)) {
    scenario.faults.iter_mut().for_each(|(at, _)| look(at));
    scenario.late.iter_mut().for_each(|(_, at)| look(at));
    if let Some(calm_us) = &mut scenario.calm_us {
        let mut calm = START.plus_us(*calm_us);
        look(&mut calm);
        *calm_us = calm.since_us(START);
    }
    for manner in &mut scenario.clients {
        let mut begins = START.plus_us(manner.begins_us);
        look(&mut begins);
        manner.begins_us = begins.since_us(START);
        if let Asks::Listed(asks) = &mut manner.asks {
            asks.iter_mut().for_each(|ask| look(&mut ask.due));
        }
    }
}

/// Every command of every client, by time.
pub(super) fn asks_of(scenario: &Scenario) -> Vec<(u32, Ask)> {
    let mut all: Vec<(u32, Ask)> = scenario
        .clients
        .iter()
        .flat_map(|manner| match &manner.asks {
            Asks::Listed(asks) => asks.iter().map(|ask| (manner.client, ask.clone())).collect(),
            Asks::Drawn { .. } => Vec::new(),
        })
        .collect();
    all.sort_by_key(|(_, ask)| ask.due);
    all
}

/// The same with these commands and no others.
pub(super) fn with_asks(scenario: &Scenario, asks: &[(u32, Ask)]) -> Scenario {
    let mut scenario = scenario.clone();
    for manner in &mut scenario.clients {
        let own = asks.iter().filter(|(client, _)| *client == manner.client).map(|(_, ask)| ask.clone());
        manner.asks = Asks::Listed(own.collect());
    }
    scenario
}

/// Takes parts out as long as `holds` of the rest: halves, then quarters, down to single items. `holds` keeps what it
/// was last asked of if it said yes; the parts that are tried are those of the list as it was given.
pub(super) fn ddmin<T: Clone>(mut items: Vec<T>, mut holds: impl FnMut(&[T]) -> bool) {
    if items.is_empty() || holds(&[]) {
        return;
    }
    let mut part = items.len().div_ceil(2);
    loop {
        let mut at = 0;
        let before = items.len();
        while at < items.len() {
            let mut rest = items.clone();
            rest.drain(at..(at + part).min(items.len()));
            if holds(&rest) {
                items = rest;
            } else {
                at += part;
            }
        }
        if part > 1 {
            part = part.div_ceil(2);
        } else if items.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ddmin_leaves_what_is_needed() {
        for needed in [vec![], vec![3], vec![0, 99], vec![17, 18, 64], (40..60).collect::<Vec<u32>>()] {
            let mut left: Vec<u32> = (0..100).collect();
            let mut asked = 0;
            ddmin(left.clone(), |items| {
                asked += 1;
                let holds = needed.iter().all(|item| items.contains(item));
                if holds {
                    left = items.to_vec();
                }
                holds
            });
            assert_eq!(left, needed);
            assert!(asked < 300, "{asked}");
        }
    }
}
