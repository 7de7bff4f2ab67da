//! The space-time page of a run: one HTML file that needs nothing else.
//!
//! A lane for each client and node, time to the right. The axis keeps the order of events and only hints at their
//! distance: a pause of seconds takes little more room than one of microseconds, so that both stay readable.

mod bands;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use paxos_core::{Ballot, Body, NodeId};
use transport_sim::{START, Violation, Way};

use super::{Chart, Seen, What, clock, words};

/// Events but heartbeats that are drawn unless a window is asked for: a few screens.
const EVENTS_DEFAULT: usize = 240;
/// Events that are drawn at the most; of a longer window the end.
const EVENTS_MAX: usize = 6_000;

/// Sizes in pixels.
const MARGIN: i64 = 16;
const FAULTS_Y: i64 = 30;
const CLIENT_LANE: i64 = 44;
const NODE_LANE: i64 = 92;
const TOP: i64 = 60;
const AXIS: i64 = 34;
const LABEL: i64 = 64;
const CHAR: i64 = 7;

/// The part of a run that is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// Its begin, in microseconds of the world.
    pub from_us: Option<u64>,
    /// Its end.
    pub to_us: Option<u64>,
}

/// Draws a run. `about` stands above the picture.
pub fn page(chart: &Chart, about: &str, violation: Option<&Violation>, window: Window) -> String {
    let (seen, hidden) = shown(&chart.seen, window);
    let mut picture = Picture::new(chart, seen);
    picture.frame(violation.is_some() && window.to_us.is_none());
    picture.roles(chart);
    picture.disks();
    picture.messages(chart);
    picture.marks();
    let note =
        if hidden > 0 { format!("<p>{hidden} earlier or later events are not drawn.</p>") } else { String::new() };
    let verdict = match violation {
        Some(broken) => format!(r#"<p class="broken"><b>{}</b> {}</p>"#, broken.invariant, escaped(&broken.detail)),
        None => "<p>No invariant broke.</p>".to_owned(),
    };
    let size = format!(r#"width="{}" height="{}""#, picture.width, picture.height);
    include_str!("page.html")
        .replace("{about}", &escaped(about))
        .replace("{verdict}", &verdict)
        .replace("{note}", &note)
        .replace(
            "{labels}",
            &format!(r#"<svg class="labels" width="{LABEL}" height="{}">{}</svg>"#, picture.height, picture.labels),
        )
        .replace("{svg}", &format!(r#"<svg {size} role="img">{}{}</svg>"#, picture.below, picture.above))
}

/// The events of the window, and how many others there are.
fn shown(all: &[Seen], window: Window) -> (&[Seen], usize) {
    let end = window.to_us.map_or(all.len(), |to| all.partition_point(|seen| seen.at_us <= to));
    let begin = match window.from_us {
        Some(from) => all.partition_point(|seen| seen.at_us < from).min(end),
        None => {
            let counts = |seen: &Seen| match &seen.what {
                What::Posted { body, .. } => !matches!(**body, Body::Heartbeat(_)),
                What::Received { .. } => false,
                _ => true,
            };
            let last = all[..end].iter().enumerate().rev().filter(|(_, seen)| counts(seen)).nth(EVENTS_DEFAULT);
            last.map_or(0, |(at, _)| at)
        }
    };
    let begin = begin.max(end.saturating_sub(EVENTS_MAX));
    (&all[begin..end], all.len() - (end - begin))
}

/// A picture in the making.
struct Picture<'a> {
    seen: &'a [Seen],
    /// Every moment at which something happens, with its place.
    columns: BTreeMap<u64, i64>,
    nodes: BTreeMap<NodeId, i64>,
    clients: BTreeMap<u32, i64>,
    width: i64,
    height: i64,
    labels: String,
    /// Bands and lanes, and what lies over them.
    below: String,
    above: String,
    /// Where the last text of a row ends.
    taken: BTreeMap<i64, i64>,
    ballots: BTreeMap<Ballot, usize>,
}

impl<'a> Picture<'a> {
    fn new(chart: &Chart, seen: &'a [Seen]) -> Picture<'a> {
        let last_us = seen.last().map_or(0, |seen| seen.at_us);
        let mut times = BTreeSet::new();
        for seen in seen {
            times.insert(seen.at_us);
            match &seen.what {
                What::Posted { arrivals, .. } => {
                    let arrivals = [arrivals.first, arrivals.second].into_iter().flatten();
                    times.extend(arrivals.map(|arrival| arrival.at.since_us(START)).filter(|at| *at <= last_us));
                }
                What::Carried { arrives_us, .. } if *arrives_us <= last_us => _ = times.insert(*arrives_us),
                _ => {}
            }
        }
        let (mut columns, mut x, mut before) = (BTreeMap::new(), MARGIN, None);
        for at in times {
            // Six pixels for each doubling of the pause: 5 for 1 µs, 65 for 1 ms, 125 for 1 s.
            let gap = before.map_or(0, |before: u64| at - before);
            x += 6 * i64::from(u64::BITS - gap.leading_zeros()) - i64::from(gap > 0);
            columns.insert(at, x);
            before = Some(at);
        }
        let mut y = TOP;
        let mut clients = BTreeMap::new();
        let names: BTreeSet<u32> = seen.iter().filter_map(|seen| client_of(&seen.what)).collect();
        for client in names {
            clients.insert(client, y + CLIENT_LANE / 2);
            y += CLIENT_LANE;
        }
        let mut nodes = BTreeMap::new();
        let names: BTreeSet<NodeId> = chart.seen.iter().map(|seen| seen.node).filter(|node| node.0 != 0).collect();
        for node in names {
            nodes.insert(node, y + NODE_LANE / 2);
            y += NODE_LANE;
        }
        let (labels, below, above) = (String::new(), String::new(), String::new());
        let (taken, ballots) = (BTreeMap::new(), BTreeMap::new());
        let (width, height) = (x + 5 * MARGIN, y + AXIS);
        Picture { seen, columns, nodes, clients, width, height, labels, below, above, taken, ballots }
    }

    /// Where a moment is: behind the end for what is still to come.
    fn x(&self, at_us: u64) -> i64 {
        self.columns.range(at_us..).next().map_or(self.width - MARGIN, |(_, x)| *x)
    }

    fn y(&self, node: NodeId) -> i64 {
        self.nodes.get(&node).copied().unwrap_or(FAULTS_Y)
    }

    /// Lanes with their names, the axis, and where the run broke.
    fn frame(&mut self, broke: bool) {
        let (width, bottom) = (self.width, self.height - AXIS);
        let lanes = self.clients.iter().map(|(client, y)| (format!("c{client}"), *y));
        let lanes: Vec<(String, i64)> =
            lanes.chain(self.nodes.iter().map(|(node, y)| (format!("n{node}"), *y))).collect();
        for (name, y) in lanes {
            let _ = write!(self.labels, r#"<text class="lane" x="12" y="{}">{name}</text>"#, y + 4);
            let _ = write!(self.below, r#"<line class="lane" x1="0" x2="{width}" y1="{y}" y2="{y}"/>"#);
        }
        let _ = write!(self.labels, r#"<text x="12" y="{}">faults</text>"#, FAULTS_Y + 4);
        let mut free = 0;
        for (at, x) in self.columns.clone() {
            if x < free {
                continue;
            }
            free = x + 84;
            let _ = write!(self.below, r#"<line class="rule" x1="{x}" x2="{x}" y1="0" y2="{bottom}"/>"#);
            let _ = write!(
                self.below,
                r#"<text class="time" x="{x}" y="{}">{}</text>"#,
                bottom + 16,
                clock(at).trim_start()
            );
        }
        if broke {
            let x = self.columns.values().last().copied().unwrap_or(MARGIN);
            let _ = write!(self.above, r#"<line class="broken" x1="{x}" x2="{x}" y1="0" y2="{bottom}"/>"#);
        }
    }

    /// Every message of the window, to where it was handled, or to where it got lost.
    fn messages(&mut self, chart: &Chart) {
        let mut handled: BTreeMap<u64, Vec<(u64, NodeId)>> = BTreeMap::new();
        for seen in &chart.seen {
            if let What::Received { letter } = seen.what {
                handled.entry(letter).or_default().push((seen.at_us, seen.node));
            }
        }
        let last_us = self.seen.last().map_or(0, |seen| seen.at_us);
        for seen in self.seen {
            match &seen.what {
                What::Posted { letter, to, body, arrivals, cut } => {
                    let (short, kind) = (words::short(body), words::kind(body));
                    let title =
                        format!("n{} to n{to} at {}\n{}", seen.node, clock(seen.at_us).trim_start(), words::body(body));
                    let from = (self.x(seen.at_us), self.y(seen.node));
                    let mut handled = handled.get(letter).into_iter().flatten();
                    let arrivals: Vec<_> = [arrivals.first, arrivals.second].into_iter().flatten().collect();
                    if arrivals.is_empty() {
                        let why = if *cut { "met a cut link" } else { "was lost" };
                        let half = (from.0 + 14, from.1 + (self.y(*to) - from.1) / 2);
                        self.arrow(from, half, kind, &format!("{title}\n{why}"), End::Lost);
                    }
                    for arrival in arrivals {
                        let due = arrival.at.since_us(START);
                        let (end, at, node, what) = match handled.next() {
                            Some((at, node)) if *at <= last_us => (End::Handled, *at, *node, "handled"),
                            _ if due <= last_us => (End::Nobody, due, *to, "nobody was there, or it waits,"),
                            _ => (End::Flying, due, *to, "still under way, arrives"),
                        };
                        let to = (self.x(at), self.y(node));
                        self.arrow(from, to, kind, &format!("{title}\n{what} at {}", clock(at).trim_start()), end);
                    }
                    if kind != "heartbeat" {
                        let below = self.y(*to) > from.1;
                        self.text(from.0 + 4, from.1 + if below { 34 } else { -30 }, &short, kind);
                    }
                }
                What::Carried { client, way, arrives_us, text } => {
                    let node = (self.x(if *way == Way::ToNode { *arrives_us } else { seen.at_us }), self.y(seen.node));
                    let y = self.clients.get(client).copied().unwrap_or(TOP);
                    let line = (self.x(if *way == Way::ToNode { seen.at_us } else { *arrives_us }), y);
                    let (from, to) = if *way == Way::ToNode { (line, node) } else { (node, line) };
                    let title = format!("c{client} and n{} at {}\n{text}", seen.node, clock(seen.at_us).trim_start());
                    let end = if *arrives_us <= last_us { End::Handled } else { End::Flying };
                    self.arrow(from, to, "client", &title, end);
                }
                _ => {}
            }
        }
    }

    fn arrow(&mut self, from: (i64, i64), to: (i64, i64), kind: &str, title: &str, end: End) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let (class, tip) = match end {
            End::Handled => ("", arrow_head(from, to)),
            End::Nobody => (" nobody", format!(r#"<circle cx="{x2}" cy="{y2}" r="4"/>"#)),
            End::Flying => (" flying", String::new()),
            End::Lost => (" lost", format!(r#"<path class="cross" d="M{} {}l8 8m0 -8l-8 8"/>"#, x2 - 4, y2 - 4)),
        };
        let line = format!(r#"x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}""#);
        let _ = write!(
            self.above,
            r#"<g class="message {kind}{class}"><title>{}</title><line class="reach" {line}/><line {line}/>{tip}</g>"#,
            escaped(title)
        );
    }

    /// Deaths, starts, faults, what clients began and got, and what nodes came to know.
    fn marks(&mut self) {
        for seen in self.seen {
            let (x, y) = (self.x(seen.at_us), self.y(seen.node));
            let at = clock(seen.at_us);
            match &seen.what {
                What::Crashed => self.mark(x, y, "death", "✕", &format!("n{} dies at {at}", seen.node)),
                What::Starting { written, kept, torn_tail } => {
                    let torn = if *torn_tail { "; a torn tail was dropped" } else { "" };
                    let title =
                        format!("n{} starts at {at}\n{kept} of {written} unsynced records survived{torn}", seen.node);
                    self.mark(x, y, "start", "▲", &title);
                }
                What::Fenced(reason) => {
                    self.mark(x, y, "death", "■", &format!("n{} fences itself: {reason}", seen.node))
                }
                What::Fault(text) => {
                    let rows = [FAULTS_Y, FAULTS_Y + 16, FAULTS_Y - 16];
                    let free = |y: &i64| self.taken.get(&(y + 4)).is_none_or(|end| *end <= x);
                    let y = rows.into_iter().find(free).unwrap_or(FAULTS_Y);
                    self.mark(x, y, "fault", "◆", &format!("{text}\nat {at}"));
                    self.text(x + 8, y + 4, text, "fault");
                }
                What::Asked { client, text } | What::Ended { client, text } => {
                    let y = self.clients.get(client).copied().unwrap_or(TOP);
                    let up = matches!(seen.what, What::Asked { .. });
                    self.mark(x, y, "client", "●", &format!("c{client} {text}\nat {at}"));
                    self.text(x, y + if up { -9 } else { 18 }, text, "client");
                }
                What::Knows(below) => {
                    let title = format!("n{} knows all below {below} chosen, at {at}", seen.node);
                    self.mark(x, y, "knows", "•", &title);
                    self.text(x - 3, y - 4, &format!("<{below}"), "knows");
                }
                _ => {}
            }
        }
    }

    fn mark(&mut self, x: i64, y: i64, kind: &str, sign: &str, title: &str) {
        let _ = write!(
            self.above,
            r#"<g class="mark {kind}"><title>{}</title><text x="{x}" y="{}">{sign}</text></g>"#,
            escaped(title),
            y + 5
        );
    }

    /// A text, unless another one is in its way: then the tooltip must do.
    fn text(&mut self, x: i64, y: i64, text: &str, kind: &str) {
        let end = x + CHAR * text.chars().count() as i64 + 6;
        let free = self.taken.entry(y).or_insert(0);
        if *free > x {
            return;
        }
        *free = end;
        self.width = self.width.max(end + MARGIN);
        let _ = write!(self.above, r#"<text class="word {kind}" x="{x}" y="{y}">{}</text>"#, escaped(text));
    }
}

/// How a message ends.
#[derive(Clone, Copy)]
enum End {
    Handled,
    Nobody,
    Flying,
    Lost,
}

fn client_of(what: &What) -> Option<u32> {
    match what {
        What::Carried { client, .. } | What::Asked { client, .. } | What::Ended { client, .. } => Some(*client),
        _ => None,
    }
}

/// A triangle at the end of a line; pictures may be drawn with floats.
fn arrow_head((x1, y1): (i64, i64), (x2, y2): (i64, i64)) -> String {
    let (dx, dy) = ((x2 - x1) as f64, (y2 - y1) as f64);
    let length = dx.hypot(dy).max(1.0);
    let (ux, uy) = (dx / length, dy / length);
    let (bx, by) = (x2 as f64 - 8.0 * ux, y2 as f64 - 8.0 * uy);
    let (sx, sy) = (-3.5 * uy, 3.5 * ux);
    format!(r#"<path class="head" d="M{x2} {y2}L{:.1} {:.1}L{:.1} {:.1}Z"/>"#, bx + sx, by + sy, bx - sx, by - sy)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use paxos_core::ElectionPolicy;

    use super::*;
    use crate::sim::cluster::{self, Wanted};

    fn chart(seed: u64) -> Chart {
        let wanted = Wanted { chart: true, ..Wanted::nothing() };
        cluster::run(seed, ElectionPolicy::Stable, wanted).chart.expect("it was wanted")
    }

    #[test]
    fn a_page_needs_nothing_else_and_shows_its_window() {
        let chart = chart(5);
        let violation = Violation::new("agreement", "slot 1 <both> ways");
        let window = Window { from_us: Some(3_000_000), to_us: Some(3_500_000) };
        let (last, middle) =
            (page(&chart, "seed 5", Some(&violation), Window::default()), page(&chart, "seed 5", None, window));
        for page in [&last, &middle] {
            for foreign in ["http:", "https:", "src=", "@import", "url(", "<link"] {
                assert!(!page.contains(foreign), "{foreign}");
            }
            assert!(page.contains("prefers-color-scheme: dark"));
            assert_eq!(page.matches("<g ").count(), page.matches("</g>").count());
            assert!(page.len() < 4 << 20, "{} bytes", page.len());
        }
        assert!(last.contains("<b>agreement</b> slot 1 &lt;both&gt; ways") && last.contains(r#"class="broken" x1"#));
        assert!(middle.contains("No invariant broke.") && !middle.contains(r#"class="broken" x1"#));
        let times: Vec<&str> =
            middle.split(r#"class="time""#).skip(1).filter_map(|rest| rest.split(['>', '<']).nth(1)).collect();
        assert!(times.len() > 4 && times.iter().all(|time| ("3.000000"..="3.500000").contains(time)), "{times:?}");
    }

    #[test]
    fn a_page_of_many_seeds_shows_every_kind_of_event() {
        let whole = Window { from_us: Some(0), to_us: Some(u64::MAX) };
        let pages: String = (1..=6).map(|seed| page(&chart(seed), "", None, whole)).collect();
        for mark in [
            "message accept",
            "message prepare",
            "message heartbeat",
            "message teach",
            "message client",
            " lost\"",
            " nobody\"",
            "band leading",
            "band preparing",
            "away down",
            "mark death",
            "mark start",
            "mark fault",
            "sync disk",
            "mark knows",
        ] {
            assert!(pages.contains(mark), "{mark} is nowhere");
        }
    }
}
