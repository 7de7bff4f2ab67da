//! The picture of an offence: one HTML page that needs nothing else.
//!
//! A lane per client, a bar per operation from its invocation to its return. The axis has the order of events,
//! not their distance: what matters is who was before whom, and bars of microseconds stay readable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};

use super::{Offence, Operation};

/// Most operations drawn; of a longer window the end, where the culprit is.
const DRAWN_MAX: usize = 80;

/// Characters of a command, and of an answer, that are drawn. The whole is in the tooltip.
const CHARS_MAX: usize = 34;

/// Sizes in pixels; the width of a character is that of the page's monospaced font at 12 pixels, rounded up.
const COLUMN: usize = 40;
const ROW: usize = 28;
const BAR: usize = 22;
const CHAR: usize = 8;
const LABEL: usize = 90;
const MARGIN: usize = 12;
const TOP: usize = 12;
const AXIS: usize = 64;

/// One bar.
struct Drawn {
    at: usize,
    /// Columns of its ends.
    from: usize,
    to: usize,
    row: usize,
    text: String,
}

/// Draws where a history stops having an order. `explanation` stands above the picture as it is.
pub fn picture<C: Display, A: Display, K, S>(
    history: &[Operation<C, A>],
    offence: &Offence<K, S>,
    explanation: &str,
) -> String {
    let shown = shown(offence);
    let columns: BTreeSet<u64> = shown
        .iter()
        .flat_map(|at| [Some(history[*at].invoked), history[*at].returned.as_ref().map(|returned| returned.at)])
        .flatten()
        .collect();
    let columns: Vec<u64> = columns.into_iter().collect();
    let (lanes, drawn) = lay_out(history, &shown, &columns);
    let rows: usize = lanes.iter().map(|(_, rows)| rows).sum();
    let right =
        drawn.iter().map(|bar| bar.from * COLUMN + bar.text.chars().count() * CHAR + 2 * MARGIN).max().unwrap_or(0);
    let plot = right.max((columns.len() + 1) * COLUMN);
    let (width, height) = (plot, TOP + rows * ROW + AXIS);

    let (mut labels, mut svg) = (String::new(), String::new());
    // Writing to a String cannot fail.
    let _ = write!(labels, r#"<svg class="labels" width="{LABEL}" height="{height}">"#);
    let _ = write!(svg, r#"<svg width="{width}" height="{height}" role="img">"#);
    let culprit = &history[offence.culprit];
    let ends =
        [culprit.invoked, culprit.end()].map(|time| MARGIN + columns.partition_point(|known| *known < time) * COLUMN);
    let _ = write!(
        svg,
        r#"<rect class="window" x="{}" y="0" width="{}" height="{}"/>"#,
        ends[0],
        ends[1] - ends[0],
        height - AXIS + 4
    );
    axis(&mut svg, &columns, TOP + rows * ROW);
    let mut top = TOP;
    for (client, rows) in &lanes {
        let middle = top + rows * ROW / 2;
        let _ = write!(labels, r#"<text class="lane" x="8" y="{}">client {client}</text>"#, middle + 2);
        top += rows * ROW;
        let y = top - 3;
        for (svg, width) in [(&mut labels, LABEL), (&mut svg, width)] {
            let _ = write!(svg, r#"<line class="rule" x1="0" x2="{width}" y1="{y}" y2="{y}"/>"#);
        }
    }
    for bar in &drawn {
        draw(&mut svg, history, offence, bar, plot);
    }
    labels.push_str("</svg>");
    svg.push_str("</svg>");

    let hidden = offence.window.len() + offence.before.len() - shown.len();
    let note = if hidden > 0 { format!("<p>{hidden} earlier operations are not drawn.</p>") } else { String::new() };
    PAGE.replace("{explanation}", &escaped(explanation))
        .replace("{note}", &note)
        .replace("{labels}", &labels)
        .replace("{svg}", &svg)
}

/// The operations that are drawn, by rising time of invocation.
fn shown<K, S>(offence: &Offence<K, S>) -> Vec<usize> {
    let all: Vec<usize> = offence.before.iter().chain(&offence.window).copied().collect();
    let last = all[all.len().saturating_sub(DRAWN_MAX)..].to_vec();
    if last.contains(&offence.culprit) {
        return last;
    }
    std::iter::once(offence.culprit).chain(last.into_iter().skip(1)).collect()
}

/// Gives every bar a row of its client's lane such that neither bars nor texts overlap; the lanes with their rows.
fn lay_out<C: Display, A: Display>(
    history: &[Operation<C, A>],
    shown: &[usize],
    columns: &[u64],
) -> (Vec<(u64, usize)>, Vec<Drawn>) {
    let column = |time: u64| columns.partition_point(|known| *known < time);
    // For each client the pixel from which on each of its rows is free.
    let mut lanes = BTreeMap::<u64, Vec<usize>>::new();
    let mut drawn = Vec::new();
    for at in shown {
        let operation = &history[*at];
        let command = cut(&operation.command.to_string());
        let text = match &operation.returned {
            Some(returned) => format!("{command} → {}", cut(&returned.answer.to_string())),
            None => format!("{command} → ?"),
        };
        let from = column(operation.invoked);
        let to = operation.returned.as_ref().map_or(columns.len(), |returned| column(returned.at));
        let end = (to * COLUMN + 8).max(from * COLUMN + text.chars().count() * CHAR + 12);
        let rows = lanes.entry(operation.client).or_default();
        let row = rows.iter().position(|free| *free <= from * COLUMN).unwrap_or(rows.len());
        if row == rows.len() {
            rows.push(end);
        } else {
            rows[row] = end;
        }
        drawn.push(Drawn { at: *at, from, to, row, text });
    }
    let lanes: Vec<(u64, usize)> = lanes.into_iter().map(|(client, rows)| (client, rows.len())).collect();
    for bar in &mut drawn {
        let client = history[bar.at].client;
        bar.row += lanes.iter().take_while(|(other, _)| *other < client).map(|(_, rows)| rows).sum::<usize>();
    }
    (lanes, drawn)
}

/// Times below the columns, as distances from the first one; the first one in full.
fn axis(svg: &mut String, columns: &[u64], y: usize) {
    let first = columns.first().copied().unwrap_or(0);
    for (number, time) in columns.iter().enumerate() {
        let x = MARGIN + number * COLUMN;
        let _ = write!(svg, r#"<line class="rule" x1="{x}" x2="{x}" y1="{TOP}" y2="{y}"/>"#);
        let label = if number == 0 { format!("{time}") } else { format!("+{}", time - first) };
        let y = y + 12;
        let _ = write!(svg, r#"<text class="time" transform="translate({x} {y}) rotate(40)">{label}</text>"#);
    }
}

fn draw<C: Display, A: Display, K, S>(
    svg: &mut String,
    history: &[Operation<C, A>],
    offence: &Offence<K, S>,
    bar: &Drawn,
    plot: usize,
) {
    let operation = &history[bar.at];
    let turn = offence.placed.iter().position(|at| *at == bar.at);
    let kind = match (bar.at == offence.culprit, offence.before.contains(&bar.at), turn) {
        (true, ..) => "culprit",
        (false, true, _) => "earlier",
        (false, false, Some(_)) => "placed",
        (false, false, None) => "open",
    };
    let (doubt, right, outcome) = match &operation.returned {
        Some(returned) => ("", bar.to * COLUMN, format!("{} at {}", returned.answer, returned.at)),
        None => (" doubt", plot - MARGIN - 4, "outcome unknown".into()),
    };
    let x = MARGIN + bar.from * COLUMN;
    let width = (right - bar.from * COLUMN).max(6);
    let y = TOP + bar.row * ROW;
    let order = turn.map_or("not placed".into(), |turn| format!("number {} of the order found", turn + 1));
    let title = format!(
        "client {}: {}\ninvoked at {}\n{outcome}\n{order}",
        operation.client, operation.command, operation.invoked
    );
    let _ = write!(
        svg,
        r#"<g class="{kind}{doubt}"><title>{}</title><rect x="{x}" y="{y}" width="{width}" height="{BAR}" rx="3"/><text x="{}" y="{}">{}</text></g>"#,
        escaped(&title),
        x + 5,
        y + 15,
        escaped(&bar.text)
    );
}

/// The text, or its two ends.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    if count <= CHARS_MAX {
        return text.into();
    }
    let half = CHARS_MAX / 2;
    text.chars().take(half).chain(['…']).chain(text.chars().skip(count - half)).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Not linearizable</title>
<style>
:root { color-scheme: light dark; --back: #fff; --fore: #1b1f24; --dim: #6a737d; --rule: #e3e6ea; --window: #fff6dd;
  --placed: #cfe3ff; --placed-edge: #3573c4; --bad: #ffd4d0; --bad-edge: #c62828; --open: #f2f3f5; --open-edge: #8a939c; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14181d; --fore: #e6e9ec; --dim: #98a2ad; --rule: #2b323a; --window: #262415;
    --placed: #1c3a61; --placed-edge: #6ea8f5; --bad: #5f1d1b; --bad-edge: #ff7b72; --open: #232931; --open-edge: #7d8893; } }
body { margin: 24px; background: var(--back); color: var(--fore); font: 14px/1.5 system-ui, sans-serif; }
h1 { font-size: 20px; margin: 0 0 8px; }
pre { font: 12px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.picture { display: flex; border: 1px solid var(--rule); border-radius: 6px; }
.scroll { overflow-x: auto; min-width: 0; }
svg { display: block; flex: none; }
svg.labels { border-right: 1px solid var(--rule); }
svg text { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: var(--fore); }
svg .lane { font-weight: 600; }
svg .time { fill: var(--dim); font-size: 10px; }
svg .rule { stroke: var(--rule); }
svg .window { fill: var(--window); }
g rect, .key { fill: var(--placed); stroke: var(--placed-edge); background: var(--placed); border: 1px solid var(--placed-edge); }
g.earlier { opacity: .6; }
g.open rect, .key.open { fill: var(--open); stroke: var(--open-edge); background: var(--open); border-color: var(--open-edge); }
g.culprit rect, .key.culprit { fill: var(--bad); stroke: var(--bad-edge); stroke-width: 2; background: var(--bad); border-color: var(--bad-edge); }
g.culprit text { font-weight: 700; }
g.doubt rect, .key.doubt { stroke-dasharray: 5 3; border-style: dashed; }
.key { display: inline-block; width: 26px; height: 12px; border-radius: 3px; margin: 0 6px 0 14px; vertical-align: -1px; }
.key:first-child { margin-left: 0; }
</style>
<h1>Not linearizable</h1>
<p><span class="key culprit"></span>fits into no order<span class="key"></span>has a place before it<span class="key open"></span>open, not needed yet<span class="key doubt"></span>outcome unknown</p>
{note}<div class="picture">{labels}<div class="scroll">{svg}</div></div>
<p>The axis has the order of invocations and returns, not their distance; hover over a bar for its times. The tinted
part is the time in which the marked operation must have taken effect, if it did; paler bars returned before that.</p>
<pre>{explanation}</pre>
<script>document.querySelector("g.culprit").scrollIntoView({ inline: "center", block: "nearest" });</script>
</html>
"#;
