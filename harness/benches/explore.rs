//! Visits every state of small clusters of the real core.
//!
//! `RUSTFLAGS="--cfg paxos_model" cargo bench -p harness --features explore --bench explore -- [SECONDS] [NAME]`; the
//! seconds are the cap for each configuration, 600 unless told, the name is of one of them. With `doubting` among the
//! words everything that is left out is tried nevertheless; with `stateright` its search is used instead of ours.

#[cfg(not(paxos_model))]
fn main() {
    eprintln!("needs RUSTFLAGS=\"--cfg paxos_model\": only then can a checker own replicas and tickets");
    std::process::exit(2);
}

#[cfg(paxos_model)]
fn main() {
    use std::time::Duration;

    use harness::explore::{configurations, explore, explore_by_stateright, explore_doubting};

    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut has = |wanted: &str| {
        let before = words.len();
        words.retain(|word| word != wanted);
        words.len() < before
    };
    let (doubting, stateright) = (has("doubting"), has("stateright"));
    let cap = Duration::from_secs(words.iter().find_map(|word| word.parse().ok()).unwrap_or(600));
    let wanted = words.iter().find(|word| word.parse::<u64>().is_err());
    println!("| configuration | states | visits | depth | seconds | |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    let mut broken = false;
    for (name, exploration) in configurations() {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let (explored, twins) = match (doubting, stateright) {
            (true, _) => explore_doubting(exploration, cap),
            (false, true) => (explore_by_stateright(exploration, cap), Ok(0)),
            (false, false) => (explore(exploration, cap), Ok(0)),
        };
        let verdict = match (&explored.broken, explored.exhausted) {
            (Some(_), _) => "BROKEN",
            (None, true) => "exhausted",
            (None, false) => "capped",
        };
        let chose = if explored.chose { "" } else { ", chose nothing" };
        let served =
            if explored.served > 0 { format!(", reads granted in {}", explored.served) } else { String::new() };
        println!(
            "| {name} | {} | {} | {} | {:.1} | {verdict}{chose}{served} |",
            explored.states,
            explored.visits,
            explored.depth,
            explored.took.as_secs_f64()
        );
        let (nodes, messages, steps) = explored.asked;
        eprintln!("{nodes} different nodes, {messages} messages, {steps} steps of a node");
        if let Some((rule, story)) = explored.broken {
            broken = true;
            println!("{rule:?}\n{story}");
        }
        match twins {
            Ok(tried) if doubting => println!("{tried} nodes that were taken for others do as those do"),
            Ok(_) => {}
            Err(error) => {
                broken = true;
                println!("taken for one and not the same: {error}");
            }
        }
    }
    std::process::exit(i32::from(broken));
}
