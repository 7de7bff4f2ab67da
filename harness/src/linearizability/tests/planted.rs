//! Histories made by hand, one per kind of fault that a replicated store can have, and the same without the fault.

use crate::linearizability::{
    Answer, Budget, Command, Exhausted, Operation, Returned, SlotTally, SlotViolation, Store, Verdict, check,
    check_slots,
};

/// A line per operation: `client invoked..returned slot command = answer`; `-` for what is not there or not known.
pub fn history(lines: &str) -> Vec<Operation<Command, Answer>> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (asked, answer) = line.split_once(" = ").unwrap_or((line, ""));
            let words: Vec<&str> = asked.split_whitespace().collect();
            let (invoked, at) = words[1].split_once("..").expect("a time");
            let answer = match answer.trim() {
                "nil" => Answer::Nil,
                text => text.parse().map_or(Answer::Text(text.trim_matches('"').into()), Answer::Integer),
            };
            Operation {
                client: words[0].parse().expect("a client"),
                invoked: invoked.parse().expect("a time"),
                command: Command::parse(&words[3..]).expect("a command"),
                returned: at.parse().ok().map(|at| Returned { at, answer }),
                slot: words[2].parse().ok(),
            }
        })
        .collect()
}

/// What a case must come to: the culprit of the search, the violation of the oracle; for good ones neither.
struct Case {
    fault: &'static str,
    lines: &'static str,
    culprit: usize,
    violation: SlotViolation,
    /// The line that is exchanged, and what for, to make it good.
    cure: (usize, &'static str),
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            fault: "a stale read: an acknowledged write is not seen",
            lines: "1 0..10 1 SET k a = OK
                    1 20..30 2 SET k b = OK
                    2 40..50 - GET k = \"a\"",
            culprit: 2,
            violation: SlotViolation::Read { operation: 2, from: 2, to: 2 },
            cure: (2, "2 25..50 - GET k = \"a\""),
        },
        Case {
            fault: "a stale read served behind an old slot",
            lines: "1 0..10 1 SET k a = OK
                    1 20..30 2 SET k b = OK
                    2 40..50 1 GET k = \"a\"",
            culprit: 2,
            violation: SlotViolation::Order { operation: 2, slot: 1, earlier: 1, at: 2 },
            cure: (2, "2 40..50 2 GET k = \"b\""),
        },
        Case {
            fault: "a lost write: acknowledged, and gone",
            lines: "1 0..10 1 INCR k = 1
                    1 20..30 - INCR k = 2
                    2 40..50 2 INCR k = 2",
            culprit: 2,
            violation: SlotViolation::Absent(1),
            cure: (1, "1 20..- - INCR k"),
        },
        Case {
            fault: "a duplicate apply: asked once, ran twice",
            lines: "1 0..10 1 INCR k = 1
                    1 20..- 2 INCR k
                    2 40..50 4 INCR k = 4",
            culprit: 2,
            violation: SlotViolation::Answer { operation: 2, slot: 4 },
            cure: (2, "2 40..50 4 INCR k = 3"),
        },
        Case {
            fault: "a value out of nothing",
            lines: "1 0..10 1 SET k a = OK
                    2 0..20 - GET k = \"x\"",
            culprit: 1,
            violation: SlotViolation::Read { operation: 1, from: 0, to: 1 },
            cure: (1, "2 0..20 - GET k = \"a\""),
        },
        Case {
            fault: "a read of the future",
            lines: "1 0..10 - GET k = \"a\"
                    2 20..30 1 SET k a = OK",
            culprit: 0,
            violation: SlotViolation::Order { operation: 1, slot: 1, earlier: 0, at: 1 },
            cure: (0, "1 0..20 - GET k = \"a\""),
        },
        Case {
            fault: "reads that go backwards while a write is open",
            lines: "1 0..100 1 SET k a = OK
                    2 10..20 - GET k = \"a\"
                    3 30..40 - GET k = nil",
            culprit: 2,
            violation: SlotViolation::Read { operation: 2, from: 1, to: 1 },
            cure: (2, "3 15..40 - GET k = nil"),
        },
        Case {
            fault: "split brain: two leaders take the same lock",
            lines: "1 0..10 1 SET k free = OK
                    1 20..40 2 SET k one IFEQ free = OK
                    2 20..40 3 SET k two IFEQ free = OK",
            culprit: 2,
            violation: SlotViolation::Answer { operation: 2, slot: 3 },
            cure: (2, "2 20..40 3 SET k two IFEQ free = nil"),
        },
        Case {
            fault: "split brain: each side counts for itself",
            lines: "1 0..10 1 INCR k = 1
                    2 0..10 2 INCR k = 2
                    1 20..30 3 INCR k = 3
                    2 20..30 4 INCR k = 3",
            culprit: 3,
            violation: SlotViolation::Answer { operation: 3, slot: 4 },
            cure: (3, "2 20..30 4 INCR k = 4"),
        },
        Case {
            fault: "a write that is undone: a value comes back after another was read",
            lines: "1 0..10 1 SET k a = OK
                    2 20..- 2 SET k b
                    3 30..40 - GET k = \"b\"
                    3 50..60 - GET k = \"a\"",
            culprit: 3,
            violation: SlotViolation::Read { operation: 3, from: 2, to: 2 },
            cure: (3, "3 50..60 - GET k = \"b\""),
        },
        Case {
            fault: "an acknowledged append that a later one does not have before it",
            lines: "1 0..10 1 APPEND k ab = 2
                    1 20..30 2 APPEND k cd = 4
                    2 40..50 3 APPEND k ef = 4",
            culprit: 2,
            violation: SlotViolation::Answer { operation: 2, slot: 3 },
            cure: (2, "2 40..50 3 APPEND k ef = 6"),
        },
        Case {
            fault: "a wrong answer that an earlier read depends on: the write was seen, and answered nothing",
            lines: "1 0..30 1 SET k a = nil
                    2 10..20 - GET k = \"a\"",
            culprit: 0,
            violation: SlotViolation::Answer { operation: 0, slot: 1 },
            cure: (0, "1 0..30 1 SET k a = OK"),
        },
    ]
}

#[test]
fn planted_violations_are_found_and_their_cures_pass() {
    for Case { fault, lines, culprit, violation, cure: (line, cure) } in cases() {
        let bad = history(lines);
        let Verdict::NotLinearizable(offence) = check(&Store, &bad, &Budget::default()) else {
            panic!("not found: {fault}");
        };
        assert_eq!(offence.culprit, culprit, "{fault}");
        assert!(offence.window.contains(&culprit), "{fault}");
        assert_eq!(check_slots(&Store, &bad), Err(violation), "{fault}");

        let lines: Vec<&str> = lines.lines().enumerate().map(|(at, old)| if at == line { cure } else { old }).collect();
        let good = history(&lines.join("\n"));
        assert!(check(&Store, &good, &Budget::default()).is_linearizable(), "the cure of {fault}");
        assert!(check_slots(&Store, &good).is_ok(), "the cure of {fault}: {:?}", check_slots(&Store, &good));
    }
}

/// The search finds any order; the oracle insists on the log's.
#[test]
fn the_oracle_rejects_a_log_that_another_order_would_excuse() {
    let cases = [
        // Concurrent writes, and the log says that the read one came first.
        ("1 0..10 1 SET k a = OK\n2 0..10 2 SET k b = OK\n3 20..30 - GET k = \"a\"", false),
        // The log has the later one of two writes first; nobody read in between.
        ("1 0..10 2 SET k a = OK\n2 20..30 1 SET k b = OK", false),
        // Two keys, each well ordered by itself.
        ("1 0..10 2 SET k a = OK\n2 20..30 1 SET l b = OK", false),
        // One slot for two writes.
        ("1 0..10 1 SET k a = OK\n2 0..10 1 SET l b = OK", false),
        ("1 0..10 1 SET k a = OK\n2 20..30 2 SET l b = OK", true),
    ];
    for (lines, right) in cases {
        let history = history(lines);
        assert!(check(&Store, &history, &Budget::default()).is_linearizable(), "{lines}");
        assert_eq!(check_slots(&Store, &history).is_ok(), right, "{lines}");
    }
}

#[test]
fn the_oracle_counts_what_it_went_over() {
    let history = history(
        "1 0..10 1 SET k a = OK
         2 0..- 2 SET k b
         3 0..- - SET k c
         1 20..30 - GET k = \"b\"
         2 20..30 5 GET l = nil",
    );
    let tally = SlotTally { writes: 1, applied_unknown: 1, absent_unknown: 1, reads: 2 };
    assert_eq!(check_slots(&Store, &history), Ok(tally));
}

#[test]
fn operations_that_touch_are_concurrent() {
    let touching = "1 0..10 1 SET k a = OK\n2 10..20 - GET k = nil";
    let apart = "1 0..10 1 SET k a = OK\n2 11..20 - GET k = nil";
    for (lines, right) in [(touching, true), (apart, false)] {
        assert_eq!(check(&Store, &history(lines), &Budget::default()).is_linearizable(), right, "{lines}");
        assert_eq!(check_slots(&Store, &history(lines)).is_ok(), right, "{lines}");
    }
}

#[test]
fn the_first_culprit_of_several_keys_is_reported() {
    let two = history(
        "1 0..10 - SET b 1 = OK
         2 0..10 - SET a 1 = OK
         1 20..40 - GET a = nil
         2 20..30 - GET b = nil",
    );
    let Verdict::NotLinearizable(offence) = check(&Store, &two, &Budget::default()) else { panic!("two culprits") };
    assert_eq!((offence.culprit, &offence.key[..]), (3, &b"b"[..]));
    assert_eq!((offence.placed, offence.window, offence.before), (vec![0], vec![3], vec![0]));
}

/// Sixteen open appends whose order only the last read tells, wrongly: too many orders to try them all.
pub fn hard() -> Vec<Operation<Command, Answer>> {
    let append = |at: u64| format!("{at} 0..1000 - APPEND k {at:02} = {}", 2 * at + 2);
    let maybe = |at: u64| format!("{at} 0..- - APPEND k {at:02}");
    let lines: Vec<String> = (0..8).map(append).chain((20..40).map(maybe)).collect();
    history(&format!("{}\n99 2000..2010 - GET k = \"nothing\"", lines.join("\n")))
}

#[test]
fn a_budget_that_is_used_up_is_said_and_never_a_verdict() {
    let key = b"k".to_vec();
    for (budget, exhausted) in [
        (Budget { steps_max: 10_000, ..Budget::default() }, Exhausted::Steps),
        (Budget { time_max: std::time::Duration::from_millis(50), ..Budget::default() }, Exhausted::Time),
        (Budget { memory_bytes_max: 1 << 20, ..Budget::default() }, Exhausted::Memory),
    ] {
        assert_eq!(check(&Store, &hard(), &budget), Verdict::Unknown { key: key.clone(), exhausted });
    }
    // Thousands of operations that are all open together need memory by the square, before any step.
    let lines: Vec<String> = (0..3_000).map(|at| format!("{at} 0..9 - GET k = nil")).collect();
    let budget = Budget { memory_bytes_max: 1 << 20, ..Budget::default() };
    let crowd = history(&lines.join("\n"));
    assert_eq!(check(&Store, &crowd, &budget), Verdict::Unknown { key, exhausted: Exhausted::Memory });
    assert!(check(&Store, &crowd, &Budget::default()).is_linearizable());
    // A key with an offence is worth more than one that is unknown.
    let mut both = hard();
    both.extend(history("1 0..10 - GET l = \"x\""));
    let budget = Budget { steps_max: 10_000, ..Budget::default() };
    assert!(matches!(check(&Store, &both, &budget), Verdict::Unknown { .. }), "the steps are gone by then");
    let budget = Budget { memory_bytes_max: 1 << 20, ..Budget::default() };
    assert!(matches!(check(&Store, &both, &budget), Verdict::NotLinearizable(_)));
}
