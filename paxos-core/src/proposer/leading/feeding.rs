//! What a leader sends to each peer: fresh runs, what is not acknowledged again, and repairs (rules 8, 11 and 12).

use super::*;

impl Leading {
    /// Takes note of who is silent and who is not.
    pub(crate) fn note_heard(&mut self, is_heard: impl Fn(NodeId) -> bool) {
        for peer in &mut self.peers {
            peer.set_heard(is_heard(peer.node));
        }
    }

    pub(crate) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// Where this peer is among those that it feeds.
    pub(crate) fn place_of(&self, node: NodeId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.node == node)
    }

    /// Counts a peer's votes, if they are of this ballot (rule 5). How many slots were chosen.
    pub(crate) fn on_peer_votes(
        &mut self,
        place: usize,
        accepted: &Accepted,
        membership: &Membership,
        log: &mut Log,
    ) -> u64 {
        let learner = mutant(Mutant::LearnerVoteCounted).then(|| VoterSet::single(VOTERS_MAX));
        let counts = accepted.ballot == self.ballot || mutant(Mutant::ForeignVoteCounted);
        match self.peers.get(place).and_then(|peer| peer.voter.or(learner)) {
            Some(voter) if counts => self.on_votes(voter, accepted.slots, membership, log),
            Some(_) | None => 0,
        }
    }

    /// Joins the run that a peer accepted to what it is known to hold, and takes what it says of itself.
    pub(crate) fn on_peer_progress(
        &mut self,
        place: usize,
        accepted: &Accepted,
        report: Report,
        now: Instant,
        config: &Config,
    ) {
        if accepted.ballot == self.ballot {
            self.on_acknowledged(place, accepted.slots, now, config);
        }
        if let Some(peer) = self.peers.get_mut(place)
            && report == Report::Current
        {
            peer.on_report(accepted.first_unchosen, accepted.room, now, config);
        }
    }

    fn on_acknowledged(&mut self, place: usize, slots: SlotRange, now: Instant, config: &Config) {
        let written_end = self.written_end();
        let Some(peer) = self.peers.get_mut(place) else { return };
        if slots.first > peer.matched() || slots.end <= peer.matched() {
            return;
        }
        let mut matched = slots.end.min(written_end);
        // Votes that came before the one that closes the gap.
        while let Some(voter) = peer.voter
            && matched < written_end
            && self.tally.has(voter, matched)
        {
            matched = matched.next();
        }
        peer.on_match(matched, now, config);
    }

    /// Sends a fresh run to everyone whose stream ends where it begins.
    pub(crate) fn broadcast(&mut self, first: Slot, entries: Entries, log: &Log, out: &mut Outbox) {
        let slots = SlotRange::of(first, entries.len());
        let mut to = Recipients::NONE;
        for peer in &mut self.peers {
            if peer.streams(slots) && to.push(peer.node) {
                peer.on_sent(slots.end, out.now);
            }
        }
        out.send_all(to, Body::Accept(Accept { ballot: self.ballot, first, prefix: log.first_unchosen(), entries }));
    }

    /// Goes back where an answer is overdue. How many entries will leave again.
    pub(crate) fn on_time(&mut self, now: Instant, config: &Config) -> u64 {
        let mut lost = 0u64;
        for peer in &mut self.peers {
            if peer.resend_at().is_some_and(|at| now >= at) {
                lost = lost.saturating_add(peer.on_timeout(now, config));
            }
        }
        lost
    }

    /// Goes back to every peer's first unacknowledged slot, due or not.
    #[cfg(paxos_model)]
    pub(crate) fn go_back(&mut self, now: Instant, config: &Config) {
        self.peers.iter_mut().for_each(|peer| {
            peer.on_timeout(now, config);
        });
    }

    /// Whether a peer that is heard lacks anything that did not leave for it.
    #[inline]
    pub(crate) fn somebody_lags(&self, log: &Log) -> bool {
        let wanted = self.written_end().max(log.first_unchosen());
        self.peers.iter().any(|peer| peer.lags(wanted))
    }

    /// Sends every peer that is heard what it lacks, as far as its room and the runs under way admit.
    pub(crate) fn pump(
        &mut self,
        log: &Log,
        config: &Config,
        promised: Option<Ballot>,
        stats: &mut Stats,
        out: &mut Outbox,
    ) {
        let end = self.written_end();
        let ballot = self.ballot;
        let wanted = end.max(log.first_unchosen());
        for peer in self.peers.iter_mut().filter(|peer| peer.lags(wanted)) {
            loop {
                let run = match peer.next_run(ballot, end, log, config) {
                    Next::Nothing => break,
                    Next::Accept(run) => {
                        let body = Accept {
                            ballot,
                            first: run.first,
                            prefix: log.first_unchosen(),
                            entries: log.entries(run),
                        };
                        out.send(peer.node, Body::Accept(body));
                        run
                    }
                    Next::Success(run) => {
                        stats.entries_repaired = stats.entries_repaired.saturating_add(run.count());
                        let body = Success { ballot: promised, first: run.first, entries: log.entries(run) };
                        out.send(peer.node, Body::Success(body));
                        run
                    }
                    Next::Fetch(slots) => {
                        peer.set_fetching(Some(out.fetch(slots, config.run_bytes_max)));
                        break;
                    }
                };
                if run.is_empty() {
                    break;
                }
                peer.on_sent(run.end, out.now);
            }
        }
    }

    /// Chosen entries that were read back for a peer; false if no peer waits for them.
    pub(crate) fn on_fetched(
        &mut self,
        id: FetchId,
        first: Slot,
        entries: &Entries,
        promised: Option<Ballot>,
        stats: &mut Stats,
        out: &mut Outbox,
    ) -> bool {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.fetching() == Some(id)) else { return false };
        peer.set_fetching(None);
        if entries.is_empty() {
            peer.on_unreadable(out.now);
        } else if first == peer.sent() {
            stats.entries_repaired = stats.entries_repaired.saturating_add(entries.len() as u64);
            let body = Success { ballot: promised, first, entries: entries.clone() };
            out.send(peer.node, Body::Success(body));
            peer.on_sent(SlotRange::of(first, entries.len()).end, out.now);
        }
        true
    }
}
