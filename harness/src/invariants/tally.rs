//! The room for counts of what the judge looked at.

/// How much was looked at, so that a silent judge can be told from an absent one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Slots chosen.
    pub chosen: u64,
    /// No-ops among them.
    pub noops: u64,
    /// Slots chosen under a ballot although a lower one had bids there.
    pub adopted: u64,
    /// Votes that became durable.
    pub votes: u64,
    /// Messages that left.
    pub messages: u64,
    /// Slots applied, all nodes together.
    pub applied: u64,
    /// Ballots that a replica led with.
    pub ballots_led: u64,
    /// Those of them that were first led with when nothing went wrong any more; of many worlds, the most.
    pub ballots_led_calm: u64,
    /// Proposals applied with their tag.
    pub outcomes_applied: u64,
    /// Proposals in doubt.
    pub outcomes_in_doubt: u64,
    /// Proposals refused.
    pub outcomes_refused: u64,
    /// Reads granted.
    pub reads: u64,
}

impl Tally {
    /// Adds another one's counts.
    pub fn add(&mut self, other: &Tally) {
        self.chosen += other.chosen;
        self.noops += other.noops;
        self.adopted += other.adopted;
        self.votes += other.votes;
        self.messages += other.messages;
        self.applied += other.applied;
        self.ballots_led += other.ballots_led;
        self.ballots_led_calm = self.ballots_led_calm.max(other.ballots_led_calm);
        self.outcomes_applied += other.outcomes_applied;
        self.outcomes_in_doubt += other.outcomes_in_doubt;
        self.outcomes_refused += other.outcomes_refused;
        self.reads += other.reads;
    }
}
