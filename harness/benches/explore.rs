//! Visits every state of small clusters of the real core.
//!
//! `RUSTFLAGS="--cfg paxos_model" cargo bench -p harness --features explore --bench explore -- [SECONDS] [NAME]`; the
//! seconds are the cap for each configuration, 600 unless told, the name is of one of them.

#[cfg(not(paxos_model))]
fn main() {
    eprintln!("needs RUSTFLAGS=\"--cfg paxos_model\": only then can a checker own replicas and tickets");
    std::process::exit(2);
}

#[cfg(paxos_model)]
fn main() {
    use std::time::Duration;

    use harness::explore::{configurations, explore, explore_by_stateright};

    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(600);
    let wanted = words.iter().find(|word| word.parse::<u64>().is_err());
    println!("| configuration | states | visits | depth | seconds | |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    let mut broken = false;
    for (name, exploration) in configurations() {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let explored = if std::env::var_os("STATERIGHT").is_some() {
            explore_by_stateright(exploration, Duration::from_secs(seconds))
        } else {
            explore(exploration, Duration::from_secs(seconds))
        };
        let verdict = match (&explored.broken, explored.exhausted) {
            (Some(_), _) => "BROKEN",
            (None, true) => "exhausted",
            (None, false) => "capped",
        };
        let chose = if explored.chose { "" } else { ", chose nothing" };
        println!(
            "| {name} | {} | {} | {} | {:.0} | {verdict}{chose} |",
            explored.states,
            explored.visits,
            explored.depth,
            explored.took.as_secs_f64()
        );
        println!("{:?}", explored.asked);
        if let Some((rule, story)) = explored.broken {
            broken = true;
            println!("{rule:?}\n{story}");
        }
    }
    std::process::exit(i32::from(broken));
}
