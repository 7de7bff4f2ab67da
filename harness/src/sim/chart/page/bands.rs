//! What lasts: who leads or prepares, who is down or stands still, and what disks are at.

use std::collections::BTreeMap;
use std::fmt::Write;

use paxos_core::{Ballot, NodeId, Role};

use super::super::{Chart, What, clock, words};
use super::{Picture, escaped};

/// Between two names of one band, in pixels.
const ROLE_EVERY: usize = 700;

impl Picture<'_> {
    /// Who leads or prepares, under which ballot, and who is down or stands still. States from before the window count.
    pub(super) fn roles(&mut self, chart: &Chart) {
        let Some(first) = self.seen.first() else { return };
        let begin = chart.seen.partition_point(|seen| seen.at_us < first.at_us);
        let last_us = self.seen.last().map_or(0, |seen| seen.at_us);
        let end = chart.seen.partition_point(|seen| seen.at_us <= last_us);
        for (node, y) in self.nodes.clone() {
            let (mut role, mut away) = (None, Some((0, "down")));
            for (at, seen) in chart.seen[..end].iter().enumerate().filter(|(_, seen)| seen.node == node) {
                let (now, inside) = (seen.at_us, at >= begin);
                let (next_role, next_away) = match &seen.what {
                    What::Role { role: Role::Following, .. } | What::Fenced(_) => (None, away),
                    What::Role { role, ballot } => (ballot.map(|ballot| (now, *role, ballot)), away),
                    What::Crashed => (None, Some((now, "down"))),
                    What::Up | What::Resumed => (role, None),
                    What::Paused => (role, Some((now, "paused"))),
                    _ => continue,
                };
                if inside {
                    self.band(y, role, now);
                    self.away(y, away, now);
                }
                (role, away) = (next_role, next_away);
            }
            self.band(y, role, last_us);
            self.away(y, away, last_us);
        }
    }

    fn band(&mut self, y: i64, role: Option<(u64, Role, Ballot)>, until: u64) {
        let Some((since, role, ballot)) = role else { return };
        let known = self.ballots.len();
        let colour = *self.ballots.entry(ballot).or_insert(known) % 6;
        let (x, end) = (self.x(since), self.x(until));
        let kind = if matches!(role, Role::Preparing) { "preparing" } else { "leading" };
        let text = words::role(role, Some(ballot));
        let _ = write!(
            self.below,
            r#"<g class="band {kind} ballot{colour}"><title>{text}, {} to {}</title><rect x="{x}" y="{}" width="{}" height="28" rx="3"/></g>"#,
            clock(since).trim_start(),
            clock(until).trim_start(),
            y - 14,
            (end - x).max(3)
        );
        // Again and again, so that it can be read wherever one is.
        for x in (x + 3..end.max(x + 4)).step_by(ROLE_EVERY) {
            self.text(x, y - 18, &text, "role");
        }
    }

    fn away(&mut self, y: i64, away: Option<(u64, &str)>, until: u64) {
        let Some((since, kind)) = away else { return };
        let (x, end) = (self.x(since), self.x(until));
        let _ = write!(
            self.below,
            r#"<g class="away {kind}"><title>{kind}, {} to {}</title><rect x="{x}" y="{}" width="{}" height="36"/></g>"#,
            clock(since).trim_start(),
            clock(until).trim_start(),
            y - 18,
            (end - x).max(3)
        );
    }

    /// Syncs, each with what it made durable.
    pub(super) fn disks(&mut self) {
        let mut open: BTreeMap<NodeId, (u64, Vec<String>)> = BTreeMap::new();
        let mut bars = Vec::new();
        for seen in self.seen {
            match &seen.what {
                What::Syncing { .. } => _ = open.insert(seen.node, (seen.at_us, Vec::new())),
                What::Durable(text) => open.entry(seen.node).or_insert((seen.at_us, Vec::new())).1.push(text.clone()),
                What::Synced | What::Up => {
                    bars.extend(open.remove(&seen.node).map(|(since, texts)| (seen.node, since, seen.at_us, texts)));
                }
                What::Crashed => {
                    let lost = |(since, _)| (seen.node, since, seen.at_us, vec!["the process died first".to_owned()]);
                    bars.extend(open.remove(&seen.node).map(lost));
                }
                _ => {}
            }
        }
        let last_us = self.seen.last().map_or(0, |seen| seen.at_us);
        let left =
            open.into_iter().map(|(node, (since, _))| (node, since, last_us, vec!["not done at the end".to_owned()]));
        for (node, since, until, texts) in bars.into_iter().chain(left) {
            let (x, end, y) = (self.x(since), self.x(until), self.y(node) + 18);
            let title = format!(
                "sync of n{node}, {} to {}\n{}",
                clock(since).trim_start(),
                clock(until).trim_start(),
                texts.join("\n")
            );
            let _ = write!(
                self.above,
                r#"<g class="sync disk"><title>{}</title><rect x="{x}" y="{y}" width="{}" height="6" rx="2"/></g>"#,
                escaped(&title),
                (end - x).max(3)
            );
        }
    }
}
