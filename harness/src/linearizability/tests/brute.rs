//! The exhaustive tester: every order of a small history, by the definition and nothing else.

use crate::linearizability::{Model, Operation};

/// Whether some order of the operations, all about one object, agrees with the model, the answers and real time.
pub fn has_order<M: Model>(model: &M, history: &[Operation<M::Command, M::Answer>]) -> bool {
    let all: Vec<usize> = (0..history.len()).collect();
    continues(model, history, &all, &model.initial())
}

fn continues<M: Model>(
    model: &M,
    history: &[Operation<M::Command, M::Answer>],
    remaining: &[usize],
    state: &M::State,
) -> bool {
    if remaining.iter().all(|at| history[*at].returned.is_none()) {
        return true; // those that are left never ran
    }
    remaining.iter().any(|next| {
        let operation = &history[*next];
        let first = remaining.iter().all(|other| !history[*other].is_before(operation));
        let (after, answer) = model.run(state, &operation.command);
        let right = operation.returned.as_ref().is_none_or(|returned| model.agrees(&answer, &returned.answer));
        let others: Vec<usize> = remaining.iter().copied().filter(|at| at != next).collect();
        first && right && continues(model, history, &others, &after)
    })
}

/// Whether these operations in this order agree with the model, their answers and real time, and nothing with a
/// known outcome is left out.
pub fn is_order<M: Model>(model: &M, history: &[Operation<M::Command, M::Answer>], order: &[usize]) -> bool {
    let complete = (0..history.len()).all(|at| history[at].returned.is_none() || order.contains(&at));
    complete && is_order_of_members(model, history, order)
}

/// The same, for some of the operations.
pub fn is_order_of_members<M: Model>(model: &M, history: &[Operation<M::Command, M::Answer>], order: &[usize]) -> bool {
    let mut state = model.initial();
    for (place, at) in order.iter().enumerate() {
        let operation = &history[*at];
        let (after, answer) = model.run(&state, &operation.command);
        let right = operation.returned.as_ref().is_none_or(|returned| model.agrees(&answer, &returned.answer));
        let late = order[place + 1..].iter().any(|later| later == at || history[*later].is_before(operation));
        if !right || late {
            return false;
        }
        state = after;
    }
    true
}
