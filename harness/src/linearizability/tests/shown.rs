//! What people see: words and a page, for good, bad and hopeless histories.

use super::planted::{hard, history};
use crate::linearizability::{Budget, Store, Verdict, check, check_slots, describe, describe_slots, picture};

const STALE: &str = "1 0..10 1 SET k <a> = OK
    1 20..30 2 SET k b = OK
    3 22..- - APPEND k c
    2 40..50 - GET k = \"<a>\"";

#[test]
fn a_violation_is_told_in_plain_words() {
    let bad = history(STALE);
    let told = describe(&bad, &check(&Store, &bad, &Budget::default()));
    let expected = "NOT linearizable: key \"k\"
  client 2: GET k = \"<a>\", from 40 to 50 (operation 4)
  fits into no order of what was known when it returned.
  Whatever the order, the key then holds \"b\" or \"bc\".
  What returned earlier has an order: SET k <a>, SET k b
  The last 2 operations before it, and 2 that were open while it was (*):
    client 1: SET k <a> = \"OK\", from 0 to 10
    client 1: SET k b = \"OK\", from 20 to 30
    client 3: APPEND k c, from 22, outcome unknown
  * client 2: GET k = \"<a>\", from 40 to 50";
    let lines = |text: &str| text.lines().map(|line| line.trim_start().to_string()).collect::<Vec<_>>();
    assert_eq!(lines(&told), lines(expected));

    let violation = check_slots(&Store, &bad).expect_err("a stale read");
    assert_eq!(
        describe_slots(&bad, &violation),
        "NOT in slot order: operation 4 read what its key holds at no slot from 2 to 2
    operation 4: client 2: GET k = \"<a>\", from 40 to 50"
    );
}

#[test]
fn the_other_verdicts_are_told_too() {
    let good = history("1 0..10 1 SET k a = OK\n2 5..- - SET l b");
    let told = describe(&good, &check(&Store, &good, &Budget::default()));
    assert_eq!(told, "linearizable: 2 operations of 2 clients on 2 keys, 1 of them of unknown outcome");
    let budget = Budget { steps_max: 100, ..Budget::default() };
    let told = describe(&hard(), &check(&Store, &hard(), &budget));
    assert_eq!(told, "unknown: the budget of steps ended before the operations on \"k\" were in order");
}

#[test]
fn the_picture_has_a_lane_per_client_and_marks_the_culprit() {
    let bad = history(STALE);
    let Verdict::NotLinearizable(offence) = check(&Store, &bad, &Budget::default()) else { panic!("a stale read") };
    let page = picture(&bad, &offence, "because & so");
    assert_eq!(page.matches("<g class=").count(), 4);
    assert_eq!(page.matches(r#"<g class="culprit">"#).count(), 1);
    assert_eq!(page.matches(r#"<g class="open doubt">"#).count(), 1);
    for client in 1..=3 {
        assert_eq!(page.matches(&format!(">client {client}<")).count(), 1);
    }
    assert!(page.contains("GET k → &quot;&lt;a&gt;&quot;") && page.contains("because &amp; so"));
    assert!(!page.contains("<a>") && !page.contains("{svg}"), "everything is filled in and escaped");
    let culprit = page.split(r#"<g class="culprit">"#).nth(1).and_then(|rest| rest.split("</g>").next());
    assert!(culprit.is_some_and(|bar| bar.contains("GET k")), "{culprit:?}");
}

/// Long windows and long values are cut, not left out and not drawn for megabytes.
#[test]
fn the_picture_of_a_long_window_stays_small() {
    let key = "k".repeat(5_000);
    let lines: Vec<String> = (0..500).map(|at| format!("{at} {at}..605 - GET {key} = nil")).collect();
    let bad = history(&format!("{}\n7 600..610 - GET {key} = \"x\"", lines.join("\n")));
    let Verdict::NotLinearizable(offence) = check(&Store, &bad, &Budget::default()) else { panic!("a wrong read") };
    let told = describe(&bad, &check(&Store, &bad, &Budget::default()));
    assert!(told.len() < 20_000, "{} bytes", told.len());
    let page = picture(&bad, &offence, &told);
    assert!(page.len() < 800_000, "{} bytes", page.len());
    assert_eq!(page.matches(r#"<g class="culprit">"#).count(), 1);
}
