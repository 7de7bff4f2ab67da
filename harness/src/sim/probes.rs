//! "Sometimes" assertions: rare things that a campaign must have met, each with a name that stays.
//!
//! A campaign in which nothing breaks says little if nothing happened. Everything here is observed from outside: from
//! messages, records, counters and the judge's ghost state; the code under test knows nothing of it.
//! `watch.rs` observes; docs/verification.md has the same table.

mod watch;

pub use watch::Watcher;

macro_rules! probes {
    ($($probe:ident $name:literal $meaning:literal;)*) => {
        /// Something that happens sometimes.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Probe {
            $(#[doc = $meaning] $probe,)*
        }

        impl Probe {
            /// Every probe: name and meaning, in the order of the variants.
            pub const ALL: &[(&str, &str)] = &[$(($name, $meaning),)*];
        }
    };
}

probes! {
    NoopChosen "noop-fills-gap" "a no-op was chosen in a slot below others";
    Adopted "value-adopted" "a new leader proposed what a lower ballot had proposed";
    AdoptedTwoBehind "value-adopted-two-behind" "the same, with a ballot in between that did not";
    PromiseWithVotes "promise-with-votes" "a promise told of accepted entries";
    PromiseInChunks "promise-in-chunks" "a promise needed more than one message";
    InheritedFetched "inherited-fetched" "a new leader fetched what a promise showed chosen, and did not propose it";
    PrefixStops "prefix-stops-at-unbound" "a leader's prefix stopped at a slot that it had not bound, below slots that it had (rule 7)";
    MarkWithheld "mark-withheld" "a prefix covered a slot that was accepted under another ballot, and did not mark it";
    LearnedByPrefix "learned-by-heartbeat" "a replica learned a choice from a heartbeat's prefix";
    ChosenKept "accept-answered-by-success" "an Accept with another entry for a chosen slot was answered with Success (rule 9)";
    LedgerTwice "retry-applied-once" "a session's command was chosen twice and ran once";
    RetryAcross "retry-across-fail-over" "the second time under another node's ballot";
    SessionExpired "session-expired" "a session made room for others, and its client was told";
    StepDownRefused "step-down-refused" "a leader stepped down because it was refused";
    StepDownChosen "step-down-by-choice" "a leader stepped down because of a choice by a higher ballot (rule 8)";
    StepDownOutbid "step-down-outbid" "a leader stepped down because it heard of a higher ballot";
    StepDownAlone "step-down-alone" "a leader stepped down because it lost contact";
    StepDownHangs "step-down-disks-hang" "a leader stepped down because no quorum that it saw could vote";
    InDoubt "in-doubt" "a client heard that the outcome of its command is unknown";
    CampaignRefused "campaign-refused" "a candidate was refused";
    Duel "two-candidates" "two replicas prepared at the same time";
    FailOver "fail-over" "another node leads after the leader died or stood still";
    HandOver "hand-over" "a node leads because it was asked to";
    PausedDeposed "paused-leader-deposed" "a leader stood still, and found another one when it went on";
    ReadsShare "reads-share-a-round" "a leader's read round was for more than one read";
    WindowFull "window-full" "a leader had no room to propose";
    Resent "accept-resent" "entries were sent again because no acknowledgement came";
    Repaired "repaired-by-success" "a leader sent chosen entries to a replica that lacked them";
    ServedFromDisk "served-from-disk" "entries below the window were read back from the log for a peer";
    BeyondRoom "accept-beyond-room" "an Accept was for slots beyond its receiver's room";
    StaleEvidence "stale-evidence-dropped" "evidence of an older boot was dropped (rule 18)";
    OldBoot "message-of-old-boot" "a message arrived after its sender had restarted";
    LostRecord "unsynced-record-lost" "a crash dropped a record that was written and not synced";
    KeptRecord "unsynced-record-survived" "a crash kept a record that was written and not synced";
    TornTail "torn-tail-dropped" "recovery dropped a torn tail";
    VotesRecovered "votes-recovered" "a process started with undecided votes from its disk";
    MarksLost "marks-lost-in-crash" "a process started knowing less to be chosen than the one before it knew";
    DiskFailed "disk-failed" "a write failed and the node fenced itself";
    EmptyDisk "empty-disk-refused" "a process found its disk wiped, and refused to start";
    AnewRefused "new-incarnation-refused" "a node that was wiped and formatted anew was refused by a peer";
    OlderRefused "older-disk-refused" "a process on an older image of its disk was refused by a peer that knew better";
    FrameDropped "garbled-frame-dropped" "a frame came cut short, twice in one, or from another cluster";
    LargeChosen "large-value-chosen" "a command of a kibibyte or more was chosen and answered";
    LargeRefused "large-value-refused" "a command was refused because it is too large";
    HalfWindow "entry-of-half-a-window" "a leader bound an entry that takes half of its window's bytes or more";
    Stalled "replies-unread" "a node heard that a client does not read its replies";
    Drained "replies-read-late" "a client that had let replies wait read them after all";
    ReaderCut "slow-reader-cut" "a connection was closed because too many replies waited unread";
    NoRoom "connection-refused" "a node had no room for one more connection";
    LeftOpen "crowd-left-mid-command" "one of a crowd left in the midst of a command";
    AllDown "all-down" "every node was down at once";
    LearnerLearned "learner-learned" "a learner learned a choice";
    SmallQuorum "chosen-by-a-minority" "a flexible quorum smaller than a majority chose";
}

/// Probes that a few thousand seeds may miss, but not twenty thousand.
const RARE: [Probe; 2] = [Probe::ChosenKept, Probe::StepDownChosen];

/// Seeds of whole nodes in which every probe but the rare ones is hit, most of them many times.
const SEEDS_ENOUGH: u64 = 2_000;
/// Seeds in which the rare ones are hit, too.
const SEEDS_ENOUGH_RARE: u64 = 20_000;

/// How many probes there are.
pub const PROBE_COUNT: usize = Probe::ALL.len();

/// How often each was hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probes {
    /// In the order of `Probe::ALL`.
    pub counts: [u64; PROBE_COUNT],
    /// In how many seeds.
    pub seeds: [u64; PROBE_COUNT],
}

impl Default for Probes {
    fn default() -> Probes {
        Probes { counts: [0; PROBE_COUNT], seeds: [0; PROBE_COUNT] }
    }
}

impl Probes {
    /// Adds another one's counts.
    pub fn add(&mut self, other: &Probes) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.seeds.iter_mut().zip(other.seeds).for_each(|(sum, count)| *sum += count);
    }

    fn hit(&mut self, probe: Probe, times: u64) {
        let at = probe as usize;
        self.counts[at] += times;
        self.seeds[at] |= u64::from(times > 0);
    }

    /// The names of those that were hit.
    pub fn hit_names(&self) -> Vec<&'static str> {
        let hit = Probe::ALL.iter().zip(self.counts).filter(|(_, count)| *count > 0);
        hit.map(|((name, _), _)| *name).collect()
    }

    /// Whether so many seeds should have hit more.
    pub fn are_too_few(&self, seeds: u64) -> bool {
        let never = |rare: bool| {
            let counts = self.counts.iter().enumerate();
            counts
                .filter(|(at, _)| RARE.iter().any(|probe| *probe as usize == *at) == rare)
                .any(|(_, count)| *count == 0)
        };
        (seeds >= SEEDS_ENOUGH && never(false)) || (seeds >= SEEDS_ENOUGH_RARE && never(true))
    }

    /// The names of those that were never hit.
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = Probe::ALL.iter().zip(self.counts).filter(|(_, count)| *count == 0);
        missing.map(|((name, _), _)| *name).collect()
    }

    /// A line for each probe.
    pub fn table(&self) -> String {
        let mut lines = String::new();
        for (at, (name, _)) in Probe::ALL.iter().enumerate() {
            lines += &format!("  {name:<28} {:>9} times in {:>6} seeds\n", self.counts[at], self.seeds[at]);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaigns_owe_probes_by_their_length() {
        let mut probes = Probes { counts: [1; PROBE_COUNT], ..Probes::default() };
        assert!(!probes.are_too_few(u64::MAX));
        probes.counts[Probe::StepDownChosen as usize] = 0;
        assert!(!probes.are_too_few(SEEDS_ENOUGH_RARE - 1) && probes.are_too_few(SEEDS_ENOUGH_RARE));
        probes.counts[Probe::NoopChosen as usize] = 0;
        assert!(!probes.are_too_few(SEEDS_ENOUGH - 1) && probes.are_too_few(SEEDS_ENOUGH));
        assert_eq!(probes.missing(), ["noop-fills-gap", "step-down-by-choice"]);
    }

    #[test]
    fn probes_have_names_of_their_own_and_are_documented() {
        let names: std::collections::BTreeSet<&str> = Probe::ALL.iter().map(|(name, _)| *name).collect();
        assert!(names.len() == PROBE_COUNT && PROBE_COUNT >= 25);
        let document = include_str!("../../../docs/verification.md");
        for (name, meaning) in Probe::ALL {
            let row = format!("| `{name}` | {meaning} |");
            assert!(document.contains(&row), "docs/verification.md lacks {row}");
        }
    }
}
