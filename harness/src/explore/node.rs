//! One node that is explored: the core itself on its disk, and what comes of one thing that happens to it.
//!
//! Nodes share nothing but messages. What comes of an event is a function of the node alone, and so `catalogue` asks
//! for it once.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use paxos_core::{
    Action, Ahead, Ballot, Body, Boot, Config, Entry, Event, Instant, Message, Reason, Receipt, Recipients, Record,
    Replica, Role, Slot, Tag, Ticket, applied,
};

use super::disk::{Disk, id, place};
use super::model::Exploration;
use super::verdict::Broken;

/// The clock stands still.
pub(super) const NOW: Instant = Instant::from_us(1);

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) disk: Disk,
    /// Records that a crash loses.
    pub(super) pending: VecDeque<(Ticket, Record)>,
    /// The next slot to be applied by this boot.
    next_to_apply: Slot,
    pub(super) ballots: u8,
    pub(super) commands: u8,
    pub(super) reads: u8,
    /// Reads that were asked for, with the end of what was acknowledged to anybody by then.
    asked: Vec<(Tag, Slot)>,
    /// Whether no process starts any more, and so no heartbeat is heard.
    last_boot: bool,
}

/// As it is, to the last bit. Tickets count for what they stand in front of, not by their numbers.
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.replica, &self.disk, self.next_to_apply, self.ballots, self.commands, self.reads).hash(state);
        self.pending.iter().for_each(|(_, record)| record.hash(state));
        (&self.asked, self.last_boot).hash(state);
    }
}

/// What a node did in one step, as far as others see it.
#[derive(Default)]
pub(super) struct Outcome {
    /// Messages, and to whom.
    pub(super) sent: Vec<(usize, Message)>,
    pub(super) applied: Vec<Applied>,
    /// Every slot below was acknowledged to a caller: applied with its tag.
    pub(super) acknowledged: Option<Slot>,
    /// Reads that were granted.
    pub(super) served: u8,
    /// What is wrong, whatever the others do.
    pub(super) broken: Option<Broken>,
}

/// What a node took for chosen, and which of its own votes for it were durable by then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Applied {
    pub(super) slot: Slot,
    pub(super) entry: Entry,
    pub(super) own_votes: Vec<Ballot>,
}

impl Node {
    /// A process that starts on this disk for the first time.
    pub(super) fn new(model: &Exploration, at: usize) -> Result<Node, Broken> {
        let mut disk = Disk::formatted(model.voters, at);
        let replica = start(model, &mut disk).map_err(|error| Broken::NoRecovery(id(at), error))?;
        Ok(Node {
            replica,
            disk,
            pending: VecDeque::new(),
            next_to_apply: Slot::FIRST,
            ballots: 0,
            commands: 0,
            reads: 0,
            asked: Vec::new(),
            last_boot: false,
        })
    }

    /// What of it has consequences: nodes that agree in this have the same future. `Catalogue::check_twins` tries all that
    /// were taken for one.
    pub(super) fn hash_at_rest(&self, model: &Exploration, state: &mut impl Hasher) {
        let may_propose = self.may_lead(model) && self.commands < model.commands;
        let reads = model.reads > 0;
        let ahead = Ahead { heartbeats: reads || !self.last_boot, commands: may_propose, reads };
        self.replica.hash_at_rest(ahead, state);
        (self.reads, &self.asked).hash(state);
        self.disk.hash_at_rest(!self.last_boot, state);
        (self.next_to_apply, self.ballots, may_propose.then_some(self.commands), self.last_boot).hash(state);
        self.pending.iter().for_each(|(_, record)| record.hash(state));
    }

    /// No process starts any more.
    pub(super) fn settle_down(&mut self) {
        self.last_boot = true;
    }

    /// The process dies, what was not durable is lost, and another one starts from the disk.
    pub(super) fn restart(&mut self, model: &Exploration) -> Outcome {
        let mut outcome = Outcome::default();
        match start(model, &mut self.disk) {
            Ok(replica) => self.replica = replica,
            Err(error) => outcome.broken = Some(Broken::NoRecovery(self.replica.header().from, error)),
        }
        self.pending.clear();
        self.asked.clear();
        self.next_to_apply = Slot::FIRST;
        outcome
    }

    /// What it would say to each other one now; saying it changes nothing.
    pub(super) fn heartbeats(&self) -> Vec<(usize, Message)> {
        let (mut replica, mut actions) = (self.replica.clone(), Vec::new());
        replica.fire(NOW, Reason::Heartbeat, &mut actions);
        let mut said = Vec::new();
        for action in actions {
            if let Action::Send { to, body } = action
                && matches!(body, Body::Heartbeat(_))
            {
                let message = Message { header: replica.header(), body };
                said.extend(to.into_iter().map(|to| (place(to), message.clone())));
            }
        }
        said
    }

    /// A message arrives.
    pub(super) fn receive(&mut self, model: &Exploration, message: &Message) -> Outcome {
        let (mut actions, mut outcome) = (Vec::new(), Outcome::default());
        self.replica.receive(NOW, &message.header, &message.body, &mut actions);
        self.carry_out(model, actions, &mut outcome);
        outcome
    }

    /// The oldest record becomes durable.
    pub(super) fn sync(&mut self, model: &Exploration) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some((ticket, record)) = self.pending.pop_front() {
            self.disk.write(record);
            self.handle(model, Event::Persisted(ticket.redeem()), &mut outcome);
        }
        outcome
    }

    /// Campaigns, whatever it did before.
    pub(super) fn campaign(&mut self, model: &Exploration) -> Outcome {
        let mut outcome = Outcome::default();
        self.ballots += 1;
        if self.replica.role() != Role::Following {
            self.fire(model, Reason::Election, &mut outcome);
        }
        self.fire(model, Reason::Election, &mut outcome);
        outcome
    }

    /// A client asks for a command.
    pub(super) fn propose(&mut self, model: &Exploration) -> Outcome {
        let mut outcome = Outcome::default();
        self.commands += 1;
        let at = place(self.replica.header().from);
        let (tag, command) = (Tag(u64::from(self.commands)), Bytes::from(vec![at as u8, self.commands]));
        self.handle(model, Event::Propose { tag, command }, &mut outcome);
        self.fire(model, Reason::Flush, &mut outcome);
        outcome
    }

    /// A client asks for a read; its round leaves with heartbeats, which are said aloud from now on.
    pub(super) fn read(&mut self, model: &Exploration, acknowledged: Slot) -> Outcome {
        let mut outcome = Outcome::default();
        self.reads += 1;
        let tag = Tag(1_000 + u64::from(self.reads));
        self.asked.push((tag, acknowledged));
        self.handle(model, Event::Read { tag }, &mut outcome);
        self.handle(model, Event::Tick, &mut outcome);
        outcome
    }

    /// Whether it leads, ready to serve or not.
    pub(super) fn leads(&self) -> bool {
        matches!(self.replica.role(), Role::Leading { .. })
    }

    /// Whether it serves clients.
    pub(super) fn serves(&self) -> bool {
        self.replica.role() == Role::Leading { ready: true }
    }

    /// Whether it is, in this boot, a candidate with this ballot. A ballot that is over never comes back.
    pub(super) fn awaits_promises(&self, ballot: Ballot, boot: Boot) -> bool {
        let mine = self.replica.ballot() == Some(ballot) && self.replica.header().boot == boot;
        mine && self.replica.role() == Role::Preparing
    }

    /// Whether it leads, or still can.
    pub(super) fn may_lead(&self, model: &Exploration) -> bool {
        self.may_campaign(model) || self.replica.role() != Role::Following
    }

    /// Every slot below is known to be chosen for good: whatever restarts there may be.
    pub(super) fn knows_for_good(&self) -> Slot {
        if self.last_boot { self.replica.first_unchosen() } else { self.replica.durable_first_unchosen() }
    }

    /// Whether every slot of the log is durably known to be chosen.
    pub(super) fn knows_all(&self, model: &Exploration) -> bool {
        self.replica.durable_first_unchosen().get() > model.slots
    }

    /// Whether no process starts any more.
    pub(super) fn is_in_last_boot(&self) -> bool {
        self.last_boot
    }

    /// Whether a message would change nothing here now, whatever it is answered with.
    pub(super) fn ignores(&self, model: &Exploration, message: &Message) -> bool {
        self.reaction(model, message).is_some()
    }

    /// What a message would be answered with, if it would change nothing else here now.
    pub(super) fn reaction(&self, model: &Exploration, message: &Message) -> Option<Vec<(usize, Message)>> {
        let rest = |node: &Node| {
            let mut hasher = DefaultHasher::new();
            node.hash_at_rest(model, &mut hasher);
            hasher.finish()
        };
        let mut after = self.clone();
        let outcome = after.receive(model, message);
        let same = rest(&after) == rest(self) && outcome.applied.is_empty() && outcome.broken.is_none();
        same.then_some(outcome.sent)
    }

    /// Whether it has a campaign left.
    pub(super) fn may_campaign(&self, model: &Exploration) -> bool {
        place(self.replica.header().from) < model.proposers && self.ballots < model.ballots
    }

    fn fire(&mut self, model: &Exploration, timer: Reason, outcome: &mut Outcome) {
        let mut actions = Vec::new();
        self.replica.fire(NOW, timer, &mut actions);
        self.carry_out(model, actions, outcome);
    }

    fn handle(&mut self, model: &Exploration, event: Event, outcome: &mut Outcome) {
        let mut actions = Vec::new();
        self.replica.handle(NOW, event, &mut actions);
        self.carry_out(model, actions, outcome);
    }

    fn carry_out(&mut self, model: &Exploration, actions: Vec<Action>, outcome: &mut Outcome) {
        let mut todo = VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            let answer = match action {
                Action::Send { to, body } => {
                    self.send(&to, body, outcome);
                    None
                }
                Action::Persist { ticket, record } if model.slow_disks => {
                    self.pending.push_back((ticket, record));
                    None
                }
                Action::Persist { ticket, record } => {
                    self.disk.write(record);
                    let receipt: Receipt = ticket.redeem();
                    Some(Event::Persisted(receipt))
                }
                Action::Apply { first, entries, tag } => {
                    for (slot, entry, tag) in applied(first, &entries, tag) {
                        self.apply(slot, entry, tag, outcome);
                    }
                    None
                }
                Action::FetchLog { id, slots, .. } => {
                    let kept = self.disk.kept();
                    let entries = slots.iter().map_while(|slot| kept.get(&slot).copied().cloned()).collect();
                    Some(Event::Fetched { id, first: slots.first, entries })
                }
                Action::ReadReady { tag, slot } => {
                    self.serve(tag, slot, outcome);
                    None
                }
                Action::Fenced { .. } => {
                    outcome.broken.get_or_insert(Broken::Fenced(self.replica.header().from));
                    None
                }
                Action::ProposalRefused { .. }
                | Action::InDoubt { .. }
                | Action::ReadFailed { .. }
                | Action::RoleChanged { .. } => None,
            };
            if let Some(event) = answer {
                let mut more = Vec::new();
                self.replica.handle(NOW, event, &mut more);
                todo.extend(more);
            }
        }
    }

    /// Heartbeats are heard when a node starts; beyond that only those are sent that ask for the round of a read or answer
    /// one. A refusal does what a time-out can do at any moment, and is left out.
    fn send(&self, to: &Recipients, body: Body, outcome: &mut Outcome) {
        let silent = match &body {
            Body::Heartbeat(heartbeat) => {
                let asks = heartbeat.leading.is_some() && heartbeat.round > 0;
                let answers = heartbeat.echo.is_some_and(|echo| echo.leading.is_some() && echo.round > 0);
                !asks && !answers
            }
            Body::Refused(_) => true,
            _ => false,
        };
        if !silent {
            let message = Message { header: self.replica.header(), body };
            outcome.sent.extend(to.into_iter().map(|to| (place(to), message.clone())));
        }
    }

    fn apply(&mut self, slot: Slot, entry: &Entry, tag: Option<Tag>, outcome: &mut Outcome) {
        if self.next_to_apply != slot {
            outcome.broken.get_or_insert(Broken::AppliedWrongly(self.replica.header().from, slot));
        }
        let same = |vote: &(Slot, Ballot, &Entry)| vote.0 == slot && vote.2 == entry;
        let own_votes = self.disk.votes().filter(same).map(|(_, ballot, _)| ballot).collect();
        outcome.applied.push(Applied { slot, entry: entry.clone(), own_votes });
        self.next_to_apply = slot.next();
        if tag.is_some() {
            outcome.acknowledged = outcome.acknowledged.max(Some(slot.next()));
        }
    }

    fn serve(&mut self, tag: Tag, slot: Slot, outcome: &mut Outcome) {
        let Some(place) = self.asked.iter().position(|(asked, _)| *asked == tag) else { return };
        let (_, acknowledged) = self.asked.remove(place);
        outcome.served += 1;
        if slot < acknowledged || self.next_to_apply < slot {
            outcome.broken.get_or_insert(Broken::StaleRead(self.replica.header().from, slot));
        }
    }
}

fn start(model: &Exploration, disk: &mut Disk) -> Result<Replica, String> {
    let recovered = disk.recover()?;
    let config = Config { last_slot: Slot::new(model.slots), window_slots: 8, ..Config::default() };
    Replica::new(config, recovered, NOW, 1).map_err(|error| error.to_string())
}
