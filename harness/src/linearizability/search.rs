//! The search for an order of the operations of one object, or for the operation that makes one impossible.
//!
//! Wing and Gong's depth-first search in Lowe's just-in-time form ("Testing for linearizability", 2017): the
//! returns are walked in time, and an operation is placed only when a return needs it. A configuration is (the
//! next return, the state, which of the open operations are placed); what returned earlier is placed in all of
//! them, so it is small, and no configuration is left twice. Three things keep few of them:
//! - a read whose answer the state gives is placed at once: that takes nothing from any other order;
//! - of two configurations that differ only in the operations of unknown outcome that were placed, the one with
//!   fewer can do all that the other can;
//! - equal commands of unknown outcome are placed in the order of their invocations: either does for the other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::bits::Bits;
use super::verdict::{Exhausted, Purse, STATES_SHOWN_MAX};
use super::{Model, Operation, Returned};

/// What the search for one object came to. Operations are named by their place in the history.
pub(super) enum Found<S> {
    Order(Vec<usize>),
    Nothing(DeadEnd<S>),
}

/// The first return that no order passes.
pub(super) struct DeadEnd<S> {
    pub(super) culprit: usize,
    /// The states in which the object can be before that return.
    pub(super) states: Vec<S>,
    pub(super) more_states: bool,
}

/// The moment of a return: its time, and its operation's place where times are equal.
pub(super) type Moment = (u64, usize);

/// Later than every return.
pub(super) const END: Moment = (u64::MAX, usize::MAX);

/// An operation whose outcome is known.
struct Known {
    at: usize,
    /// Which of the open operations it is: its bit in `Configuration::open`.
    lane: u32,
    read: bool,
}

/// An operation whose outcome is not known, and that changes something if it ran.
struct Doubtful {
    at: usize,
    /// The doubtful one with an equal command that was invoked last before this one.
    twin: Option<u32>,
}

/// The end of a known operation.
struct Return {
    known: u32,
    /// Everything that was open at that time, itself included, by rising time of invocation.
    open: Vec<u32>,
    /// How many of the doubtful ones were invoked by then.
    doubtful: u32,
}

/// The operations of one object, in time.
struct Timeline {
    known: Vec<Known>,
    doubtful: Vec<Doubtful>,
    returns: Vec<Return>,
}

#[derive(Clone)]
struct Configuration {
    next: u32,
    state: u32,
    open: Bits,
    doubtful: Bits,
}

#[derive(Clone, Copy)]
enum Choice {
    Known(u32),
    Doubtful(u32),
}

/// An operation that can be placed next, and the state behind it.
struct Successor {
    choice: Choice,
    state: u32,
}

/// A configuration and what is still to be tried in it, the first at the end.
struct Frame {
    configuration: Configuration,
    successors: Vec<Successor>,
    /// Whether more than the returning operation itself has been thought of.
    expanded: bool,
    placed: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Command, M::Answer>],
    until: Moment,
    timeline: Timeline,
    purse: &'a mut Purse,
    numbers: HashMap<M::State, u32>,
    states: Vec<M::State>,
    /// For each configuration that was entered, the smallest sets of doubtful operations it was entered with.
    entered: HashMap<(u32, u32, Bits), Vec<Bits>>,
    /// The order that led to the configuration being looked at.
    placed: Vec<usize>,
    deepest: Deepest,
}

/// The configurations before the last return that was reached.
#[derive(Default)]
struct Deepest {
    next: u32,
    states: Vec<u32>,
    more_states: bool,
}

/// Looks for an order of the operations `members` of a history, which are all about one object, as they were
/// known at the moment `until`: what was invoked later is not looked at, what returned later has no answer yet.
pub(super) fn search<M: Model>(
    model: &M,
    history: &[Operation<M::Command, M::Answer>],
    members: &[usize],
    until: Moment,
    purse: &mut Purse,
) -> Result<Found<M::State>, Exhausted> {
    let mut search = Search {
        model,
        history,
        until,
        timeline: Timeline::new(model, history, members, until, purse)?,
        purse,
        numbers: HashMap::new(),
        states: Vec::new(),
        entered: HashMap::new(),
        placed: Vec::new(),
        deepest: Deepest::default(),
    };
    let found = search.run()?;
    Ok(if found { Found::Order(search.placed) } else { Found::Nothing(search.dead_end()) })
}

/// What came back up to a moment.
pub(super) fn returned_by<C, A>(history: &[Operation<C, A>], at: usize, until: Moment) -> Option<&Returned<A>> {
    history[at].returned.as_ref().filter(|returned| (returned.at, at) <= until)
}

impl Timeline {
    fn new<M: Model>(
        model: &M,
        history: &[Operation<M::Command, M::Answer>],
        members: &[usize],
        until: Moment,
        purse: &mut Purse,
    ) -> Result<Timeline, Exhausted> {
        // At equal times invocations come first, so that operations that touch are concurrent.
        let mut events = Vec::with_capacity(members.len() * 2);
        for at in members.iter().filter(|at| history[**at].invoked <= until.0) {
            let operation = &history[*at];
            events.push((operation.invoked, false, *at));
            if let Some(returned) = returned_by(history, *at, until) {
                events.push((returned.at.max(operation.invoked), true, *at));
            }
        }
        events.sort_unstable();
        let mut timeline = Timeline { known: Vec::new(), doubtful: Vec::new(), returns: Vec::new() };
        let mut twins = HashMap::new();
        let mut open: Vec<u32> = Vec::new();
        let mut free: Vec<u32> = Vec::new();
        let mut lanes = 0;
        for (_, returns, at) in events {
            let operation = &history[at];
            let answer = returned_by(history, at, until).map(|returned| &returned.answer);
            let read = model.is_read(&operation.command, answer);
            if returns {
                let Some(place) = open.iter().position(|known| timeline.known[*known as usize].at == at) else {
                    continue;
                };
                let doubtful = timeline.doubtful.len() as u32;
                purse.remember(size_of::<Return>() + open.len() * size_of::<u32>())?;
                timeline.returns.push(Return { known: open[place], open: open.clone(), doubtful });
                free.push(timeline.known[open.remove(place) as usize].lane);
            } else if answer.is_some() {
                let lane = free.pop().unwrap_or_else(|| {
                    lanes += 1;
                    lanes - 1
                });
                open.push(timeline.known.len() as u32);
                timeline.known.push(Known { at, lane, read });
            } else if !read {
                // A read of unknown outcome tells nothing.
                let twin = twins.insert(&operation.command, timeline.doubtful.len() as u32);
                timeline.doubtful.push(Doubtful { at, twin });
            }
        }
        Ok(timeline)
    }
}

impl Timeline {
    /// Which operation of the history it is.
    fn place_of(&self, choice: Choice) -> usize {
        match choice {
            Choice::Known(known) => self.known[known as usize].at,
            Choice::Doubtful(doubtful) => self.doubtful[doubtful as usize].at,
        }
    }

    fn returning(&self, configuration: &Configuration) -> u32 {
        self.returns[configuration.next as usize].known
    }

    /// The open operations but the returning one that are not placed and are no reads, the first to try at the end.
    fn choices(&self, configuration: &Configuration) -> Vec<Choice> {
        let place = &self.returns[configuration.next as usize];
        let mut choices = Vec::new();
        for number in (0..place.doubtful).rev() {
            let missing = |number| !configuration.doubtful.contains(number);
            if missing(number) && !self.doubtful[number as usize].twin.is_some_and(missing) {
                choices.push(Choice::Doubtful(number));
            }
        }
        for number in place.open.iter().rev().filter(|number| **number != place.known) {
            let Known { lane, read, .. } = self.known[*number as usize];
            if !read && !configuration.open.contains(lane) {
                choices.push(Choice::Known(*number));
            }
        }
        choices
    }
}

impl<M: Model> Search<'_, M> {
    /// True if there is an order, which is then in `placed`.
    fn run(&mut self) -> Result<bool, Exhausted> {
        let initial = self.number(self.model.initial())?;
        let configuration = Configuration { next: 0, state: initial, open: Bits::default(), doubtful: Bits::default() };
        let mut stack = Vec::new();
        if self.enter(configuration, &mut stack)? {
            return Ok(true);
        }
        while let Some(frame) = stack.last_mut() {
            self.placed.truncate(frame.placed);
            match frame.successors.pop() {
                Some(successor) => {
                    let configuration = self.place(&frame.configuration, &successor);
                    if self.enter(configuration, &mut stack)? {
                        return Ok(true);
                    }
                }
                None if frame.expanded => {
                    self.purse.forget(frame.successors.capacity() * size_of::<Successor>());
                    stack.pop();
                }
                None => {
                    frame.expanded = true;
                    frame.successors = self.detours(&frame.configuration)?;
                    self.purse.remember(frame.successors.capacity() * size_of::<Successor>())?;
                }
            }
        }
        Ok(false)
    }

    /// The configuration after one more operation is placed.
    fn place(&mut self, from: &Configuration, successor: &Successor) -> Configuration {
        let mut configuration = Configuration { state: successor.state, ..from.clone() };
        match successor.choice {
            Choice::Known(known) => configuration.open.insert(self.timeline.known[known as usize].lane),
            Choice::Doubtful(doubtful) => configuration.doubtful.insert(doubtful),
        }
        self.placed.push(self.timeline.place_of(successor.choice));
        configuration
    }

    /// The state after an operation, if its answer, where known, is right.
    fn outcome(&mut self, state: u32, at: usize) -> Result<Option<M::State>, Exhausted> {
        self.purse.step()?;
        let operation = &self.history[at];
        let (after, answer) = self.model.run(&self.states[state as usize], &operation.command);
        let returned = returned_by(self.history, at, self.until);
        let right = returned.is_none_or(|returned| self.model.agrees(&answer, &returned.answer));
        Ok(right.then_some(after))
    }

    /// Goes on to the first return whose operation is not placed, and puts what can be tried there on the stack,
    /// unless that was tried before. True if there is no such return: an order is found.
    fn enter(&mut self, mut configuration: Configuration, stack: &mut Vec<Frame>) -> Result<bool, Exhausted> {
        loop {
            let Some(place) = self.timeline.returns.get(configuration.next as usize) else { return Ok(true) };
            let known = place.known;
            for at in 0..place.open.len() {
                let Known { at, lane, read } =
                    self.timeline.known[self.timeline.returns[configuration.next as usize].open[at] as usize];
                if read && !configuration.open.contains(lane) && self.outcome(configuration.state, at)?.is_some() {
                    configuration.open.insert(lane);
                    self.placed.push(at);
                }
            }
            let lane = self.timeline.known[known as usize].lane;
            if !configuration.open.contains(lane) {
                break;
            }
            configuration.open.remove(lane);
            configuration.next += 1;
        }
        if !self.is_new(&configuration)? {
            return Ok(false);
        }
        self.deepest.reach(configuration.next, configuration.state);
        let returning = self.timeline.returning(&configuration);
        let mut successors = Vec::new();
        if !self.timeline.known[returning as usize].read {
            successors.extend(self.successor(&configuration, Choice::Known(returning))?);
        }
        stack.push(Frame { configuration, successors, expanded: false, placed: self.placed.len() });
        Ok(false)
    }

    /// What else can be placed before the returning operation: first what makes that one right at once, then known
    /// operations, then doubtful ones.
    fn detours(&mut self, configuration: &Configuration) -> Result<Vec<Successor>, Exhausted> {
        let returning = self.timeline.place_of(Choice::Known(self.timeline.returning(configuration)));
        let (mut helpful, mut others) = (Vec::new(), Vec::new());
        for choice in self.timeline.choices(configuration) {
            let Some(successor) = self.successor(configuration, choice)? else { continue };
            let helps = self.outcome(successor.state, returning)?.is_some();
            if helps { &mut helpful } else { &mut others }.push(successor);
        }
        others.append(&mut helpful);
        Ok(others)
    }

    /// What placing an operation leads to, if it can be placed and is of use.
    fn successor(&mut self, from: &Configuration, choice: Choice) -> Result<Option<Successor>, Exhausted> {
        let Some(state) = self.outcome(from.state, self.timeline.place_of(choice))? else { return Ok(None) };
        let state = self.number(state)?;
        // A doubtful operation without an effect can as well not have run.
        let useless = matches!(choice, Choice::Doubtful(_)) && state == from.state;
        Ok((!useless).then_some(Successor { choice, state }))
    }

    fn is_new(&mut self, configuration: &Configuration) -> Result<bool, Exhausted> {
        let Configuration { next, state, open, doubtful } = configuration;
        let entry = self.entered.entry((*next, *state, open.clone()));
        let fresh = matches!(entry, Entry::Vacant(_));
        let sets = entry.or_default();
        if sets.iter().any(|set| set.is_subset_of(doubtful)) {
            return Ok(false);
        }
        sets.retain(|set| !doubtful.is_subset_of(set));
        sets.push(doubtful.clone());
        // What the maps and vectors need besides is rounded up.
        let key_bytes = if fresh { 128 + open.bytes() } else { 0 };
        self.purse.remember(key_bytes + 48 + doubtful.bytes())?;
        Ok(true)
    }

    fn number(&mut self, state: M::State) -> Result<u32, Exhausted> {
        if let Some(number) = self.numbers.get(&state) {
            return Ok(*number);
        }
        self.purse.remember(64 + 2 * size_of::<M::State>() + self.model.state_bytes(&state))?;
        let number = u32::try_from(self.states.len()).map_err(|_| Exhausted::Memory)?;
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        Ok(number)
    }

    fn dead_end(self) -> DeadEnd<M::State> {
        let Deepest { next, states, more_states } = self.deepest;
        let culprit = self.timeline.known[self.timeline.returns[next as usize].known as usize].at;
        let states = states.iter().map(|state| self.states[*state as usize].clone()).collect();
        DeadEnd { culprit, states, more_states }
    }
}

impl Deepest {
    /// A configuration before this return was reached.
    fn reach(&mut self, next: u32, state: u32) {
        if next > self.next {
            *self = Deepest { next, ..Deepest::default() };
        }
        if next < self.next || self.states.contains(&state) {
            return;
        }
        if self.states.len() < STATES_SHOWN_MAX {
            self.states.push(state);
        } else {
            self.more_states = true;
        }
    }
}
