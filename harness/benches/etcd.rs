//! Writes per second of three nodes on this machine's disk, ours and etcd's, in interleaved rounds.
//!
//! `cargo bench -p harness --features etcd --bench etcd -- [DIR]`; DIR should lie on a real disk, and etcd must be
//! installed (Debian: etcd-server). Both clusters run all the time; one is idle while the other is measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::client::Client;
use harness::cluster::{Cluster, Wanted};
use harness::etcd::{Etcd, Measured};
use harness::load::{self, Check, Limit, LoadOptions};

const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(3);
const VALUE_BYTES: usize = 100;
const KEYS: u64 = 100_000;
const BASE_PORT: u16 = 17_000;
const ETCD_BASE_PORT: u16 = 17_300;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = given.map_or_else(std::env::temp_dir, PathBuf::from).join(format!("paxos-etcd-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let done = run(&dir);
    std::fs::remove_dir_all(&dir)?;
    done
}

fn run(dir: &Path) -> Result<(), Error> {
    let version = Command::new("etcd").arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or("etcd").to_string();
    let etcd = Etcd::start(dir, ETCD_BASE_PORT)?;
    let wanted =
        Wanted { dir: dir.join("paxos"), servers: Some(3), base_port: Some(BASE_PORT), settings: Default::default() };
    let (mut cluster, _) = Cluster::prepare(Path::new(env!("CARGO_BIN_EXE_paxos")), &wanted)?;
    cluster.start_all()?;
    Client::new(cluster.addresses()).once(&["SET", "ready", "1"])?;

    println!(
        "Writes of {VALUE_BYTES} bytes, three nodes on one machine; median of {ROUNDS} interleaved rounds of {ROUND_TIME:?}"
    );
    println!("| clients | store | writes/s | min | max | p50 ms | ÷ etcd |");
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for clients in [1, 16, 64] {
        let ours = || measure(&cluster, clients);
        let theirs = || etcd.measure(clients, VALUE_BYTES, KEYS, ROUND_TIME);
        theirs()?; // both warm up
        ours()?;
        let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            their_rounds.push(theirs()?);
            our_rounds.push(ours()?);
        }
        let base = median(&mut their_rounds).per_second;
        for (store, rounds) in [(version.as_str(), &mut their_rounds), ("paxos", &mut our_rounds)] {
            let middle = median(rounds);
            let (min, max) = (rounds[0].per_second, rounds[ROUNDS - 1].per_second);
            let Measured { per_second, p50_ms } = middle;
            println!(
                "| {clients} | {store} | {per_second:.0} | {min:.0} | {max:.0} | {p50_ms:.3} | {:.2} |",
                per_second / base
            );
        }
    }
    cluster.stop_all();
    Ok(())
}

fn median(rounds: &mut [Measured]) -> Measured {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds[rounds.len() / 2]
}

fn measure(cluster: &Cluster, clients: usize) -> Result<Measured, Error> {
    let options = LoadOptions {
        addresses: cluster.addresses(),
        clients,
        pipeline: 1,
        value_bytes: VALUE_BYTES,
        reads_percent: 0,
        keys: KEYS,
        limit: Limit::Time(ROUND_TIME),
        check: Check::None,
        prefix: "key".into(),
    };
    let (report, _) = load::run(&options, &|| false)?;
    if report.errors + report.in_doubt + report.unanswered > 0 {
        return Err(report.to_string().into());
    }
    Ok(Measured { per_second: report.per_second, p50_ms: report.p50_ms })
}
