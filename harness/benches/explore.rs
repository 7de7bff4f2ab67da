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
    use std::time::{Duration, Instant};

    use stateright::{Checker, Model};

    /// States wait in memory for their turn, some kilobytes each.
    const VISITS_MAX: usize = 2_000_000_000;

    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(600);
    let wanted = words.iter().find(|word| word.parse::<u64>().is_err());
    println!("| configuration | states | visits | depth | seconds | |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    let mut broken = false;
    for (name, exploration) in harness::explore::configurations() {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let begun = Instant::now();
        let checker = exploration
            .checker()
            .timeout(Duration::from_secs(seconds))
            .target_state_count(VISITS_MAX)
            .threads(2)
            .spawn_dfs()
            .join();
        let ended = begun.elapsed() < Duration::from_secs(seconds) && checker.state_count() < VISITS_MAX;
        let found = checker.discovery("no rule is broken");
        let verdict = match (&found, ended) {
            (Some(_), _) => "BROKEN",
            (None, true) => "exhausted",
            (None, false) => "capped",
        };
        let chose = if checker.discovery("the last slot is chosen").is_some() { "" } else { ", chose nothing" };
        println!(
            "| {name} | {} | {} | {} | {:.0} | {verdict}{chose} |",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            begun.elapsed().as_secs_f64()
        );
        if let Some(path) = found {
            broken = true;
            let broken = path.last_state().broken.clone();
            println!("{broken:?}\n{path}\n{:?}", path.last_state());
        }
    }
    std::process::exit(i32::from(broken));
}
