//! A second opinion: the exhaustive tester of stateright, which shares nothing with this crate.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::linearizability::{Answer, Command, Model, Operation, Store};

/// The store, one key of it, as stateright wants it.
#[derive(Clone)]
struct Key(<Store as Model>::State);

impl SequentialSpec for Key {
    type Op = Command;
    type Ret = Answer;

    fn invoke(&mut self, command: &Command) -> Answer {
        let (after, answer) = Store.run(&self.0, command);
        self.0 = after;
        answer
    }

    fn is_valid_step(&mut self, command: &Command, answer: &Answer) -> bool {
        Store.agrees(&self.invoke(command), answer)
    }
}

/// Whether stateright finds an order of the operations, all about one key.
pub fn has_order(history: &[Operation<Command, Answer>]) -> bool {
    let mut events = Vec::new();
    for (at, operation) in history.iter().enumerate() {
        events.push((operation.invoked, false, at));
        events.extend(operation.returned.as_ref().map(|returned| (returned.at, true, at)));
    }
    events.sort_unstable();
    // A thread for each operation: ours may overlap within a client.
    let mut tester = LinearizabilityTester::new(Key(None));
    for (_, returns, at) in events {
        match &history[at].returned {
            Some(returned) if returns => tester.on_return(at, returned.answer.clone()).expect("it is open"),
            _ => tester.on_invoke(at, history[at].command.clone()).expect("it is new"),
        };
    }
    tester.is_consistent()
}
