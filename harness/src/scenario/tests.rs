//! Every script has the transcript that its file holds; what is wrong with one is told; broken rules fail theirs.

use std::path::PathBuf;

use super::*;

/// Every script in `harness/scenarios`, by name.
fn scripts() -> Vec<(String, PathBuf, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut scripts: Vec<(String, PathBuf, String)> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|file| {
            let path = file.expect("a file of it").path();
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::fs::read_to_string(&path).expect("a script");
            (name, path, text)
        })
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn every_script_has_the_transcript_that_its_file_says() {
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let scripts = scripts();
    assert!(scripts.len() >= 15 || update, "{}", scripts.len());
    let mut wrong = Vec::new();
    for (name, path, text) in scripts {
        let told = match run(&text) {
            Ok(written) if update => std::fs::write(path, written).map_err(|error| error.to_string()),
            Ok(_) => check(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        wrong.extend(told.err().map(|error| format!("{name}.txt {error}")));
    }
    assert!(wrong.is_empty(), "UPDATE_TRANSCRIPTS=1 rewrites them; see what changed. {wrong:#?}");
}

#[test]
fn what_is_wrong_with_a_script_is_told_with_its_line() {
    let cases = [
        ("propose 1 x", "line 1: a script begins with `cluster`"),
        ("cluster 3\n\n# nothing\nshout 1", "line 4: `shout` is no command; there are cluster, campaign, propose,"),
        ("cluster 3\ncrash", "line 2: it should be `crash NODE`"),
        ("cluster 3\ncrash one", "line 2: a node is a number, not `one`"),
        ("cluster 3\ncrash 4", "line 2: there is no node 4"),
        ("cluster 3\ncrash 1\ntick 1", "line 3: node 1 is down"),
        ("cluster 3\nrestart 1", "line 2: node 1 runs"),
        ("cluster 3 doors 4", "line 1: `doors` is nothing that a cluster has; learners, window, run"),
        ("cluster 3\ncluster 3", "line 2: there is a cluster already"),
        ("cluster 3\ndeliver 1>2 letter", "line 2: `letter` is no kind of message; there are prepare, promise,"),
        ("cluster 3\ndeliver 1>2", "line 2: no such message is in flight"),
        ("cluster 3\ndeliver late", "line 2: nothing is held as `late`"),
        ("cluster 3\nforge 1>2 prepare 7 from 1", "line 2: a ballot is ROUND.NODE, not `7`"),
        ("cluster 3\nexpect 1 slot 0 empty", "line 2: slots count from 1"),
        ("cluster 3\nexpect 1 role leading", "line 2: expected `leading`, found `following`"),
        ("cluster 3\nexpect x open", "line 2: nothing is called `x`"),
        ("cluster 3\npropose 1 x\npropose 1 x", "line 3: `x` names something already"),
        ("cluster 3\npersist 1", "line 2: nothing waits for the disk of node 1"),
        ("cluster 3\n| 1 applies 1=x\nexpect 1 promised 1.1", "line 3: expected `1.1`, found `none`"),
    ];
    for (script, expected) in cases {
        let told = run(script).expect_err(script).to_string();
        assert!(told.starts_with(expected), "{script:?}: {told}");
    }
}

#[cfg(paxos_mutants)]
#[test]
fn mutants_fail_the_scripts_about_their_rules() {
    use paxos_core::mutants::{self, Mutant};
    let pairs = [
        ("absurd-rounds", Mutant::AbsurdRoundBelieved),
        ("ballot-reuse", Mutant::BallotNotWritten),
        ("ballot-reuse", Mutant::PromiseForgottenAtStart),
        ("deposed-leader-read", Mutant::ReadWithoutRound),
        ("duelling-leaders", Mutant::CampaignAtOnce),
        ("duplicate-votes", Mutant::VoteCountedTwice),
        ("idle-tail", Mutant::NothingSentAgain),
        ("learner-votes", Mutant::LearnerVoteCounted),
        ("prefix-over-a-hole", Mutant::HoleSkipped),
        ("promise-chunk-lost", Mutant::PromiseGapIgnored),
        ("rule-10-gap-becomes-noop", Mutant::GapNotFilled),
        ("rule-17-whose-proposal", Mutant::DoubtReportedRefused),
        ("rule-18-chunks-of-two-boots", Mutant::StaleBootChunkCounted),
        ("rule-2-value-rule", Mutant::FirstValueWins),
        ("rule-2-value-rule", Mutant::OneBallotVariable),
        ("rule-3-accept-raises-promise", Mutant::AcceptRaisesNothing),
        ("rule-3-accept-raises-promise", Mutant::AcceptBelowPromise),
        ("rule-4-late-promise", Mutant::LatePromiseRebinds),
        ("rule-6-vote-waits-for-disk", Mutant::PromiseBeforeSync),
        ("rule-6-vote-waits-for-disk", Mutant::VoteBeforeSync),
        ("rule-7-lecture", Mutant::PlainFirstUnchosenIndex),
        ("rule-7-unbound-slot", Mutant::PrefixPassesUnbound),
        ("rule-9-delayed-accept", Mutant::ChosenOverwritten),
        ("stale-acknowledgements", Mutant::ForeignVoteCounted),
    ];
    let scripts = scripts();
    let told: Vec<(&str, Mutant, Option<String>)> = pairs
        .into_iter()
        .map(|(name, mutant)| {
            let text = scripts.iter().find(|(found, _, _)| found == name).map(|(_, _, text)| text);
            mutants::set(Some(mutant));
            let told = check(text.expect(name)).err().map(|error| error.to_string());
            mutants::set(None);
            println!("{name} under {mutant:?}: {}", told.as_deref().unwrap_or("passes"));
            (name, mutant, told)
        })
        .collect();
    let passed: Vec<_> = told.iter().filter(|(_, _, told)| told.is_none()).collect();
    assert!(passed.is_empty(), "{passed:?}");
}
