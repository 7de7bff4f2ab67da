//! From a dead end of the search to an explanation: which return makes an order impossible, and where to look.

use super::search::{DeadEnd, Found, Moment, returned_by, search};
use super::verdict::{BEFORE_SHOWN_MAX, Purse};
use super::{Model, Offence, Operation};

/// Finds the first return up to which there is no order, and cuts out the part of the history that shows it.
///
/// The search may give up before a return because of an operation that returns later with an answer that never
/// fits. So the moment is looked for with answers hidden that were not there yet; histories that have an order
/// have one up to every moment, so it is found by doubling and halving. Where the budget ends first, the
/// explanation is the search's own: true, but perhaps of a later operation than the one it names.
pub(super) fn explain<M: Model>(
    model: &M,
    history: &[Operation<M::Command, M::Answer>],
    key: M::Key,
    members: &[usize],
    end: DeadEnd<M::State>,
    purse: &mut Purse,
) -> Offence<M::Key, M::State> {
    let mut returns: Vec<Moment> =
        members.iter().filter_map(|at| Some((history[*at].returned.as_ref()?.at, *at))).collect();
    returns.sort_unstable();
    let mut up_to = |until: Moment| {
        purse.refill_memory();
        search(model, history, members, until, purse)
    };
    let moment = (history[end.culprit].end(), end.culprit);
    // Up to the return `low` there may be an order, up to `high` there is none.
    let first = returns.partition_point(|earlier| *earlier < moment);
    let (mut low, mut high, mut stride) = (first, first, 1);
    let mut last = end;
    loop {
        match returns.get(high).map(|moment| up_to(*moment)) {
            Some(Ok(Found::Nothing(end))) => last = end,
            Some(Ok(Found::Order(_))) => {
                low = high + 1;
                high = (high + stride).min(returns.len().saturating_sub(1)).max(low);
                stride *= 2;
                continue;
            }
            Some(Err(_)) | None => high = first,
        }
        break;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        match up_to(returns[middle]) {
            Ok(Found::Nothing(end)) => (high, last) = (middle, end),
            Ok(Found::Order(_)) => low = middle + 1,
            Err(_) => break,
        }
    }
    let culprit = returns.get(high).map_or(last.culprit, |(_, at)| *at);
    let placed = match high.checked_sub(1).map(|before| up_to(returns[before])) {
        Some(Ok(Found::Order(order))) => order,
        Some(Ok(Found::Nothing(_)) | Err(_)) | None => Vec::new(),
    };
    let (states, more_states) = if last.culprit == culprit {
        (last.states, last.more_states)
    } else {
        // It must have run before an earlier return, with another answer.
        let run = |state: M::State, at: &usize| model.run(&state, &history[*at].command).0;
        (vec![placed.iter().fold(model.initial(), run)], true)
    };
    // Of the operations of unknown outcome, reads never tell anything, and those that have a place before what
    // returned earlier need no other.
    let settled = placed.iter().rposition(|at| history[*at].is_before(&history[culprit])).unwrap_or(0);
    let matters = |at: &usize| {
        history[*at].returned.is_some()
            || !model.is_read(&history[*at].command, None) && !placed[..settled].contains(at)
    };
    let members: Vec<usize> = members.iter().copied().filter(matters).collect();
    let (window, before) = window(history, &members, culprit);
    let until = (history[culprit].end(), culprit);
    let is_open = |at: &usize| *at != culprit && !placed.contains(at) && returned_by(history, *at, until).is_none();
    let open = window.iter().copied().filter(is_open).collect();
    Offence { key, culprit, placed, open, states, more_states, window, before }
}

/// The operations that were open while the culprit was, and the last ones that returned before.
fn window<C, A>(history: &[Operation<C, A>], members: &[usize], culprit: usize) -> (Vec<usize>, Vec<usize>) {
    let begun = members.iter().copied().filter(|at| history[*at].invoked <= history[culprit].end());
    let (mut before, mut window): (Vec<usize>, Vec<usize>) =
        begun.partition(|at| history[*at].is_before(&history[culprit]));
    before.sort_by_key(|at| (history[*at].end(), *at));
    let mut before = before.split_off(before.len().saturating_sub(BEFORE_SHOWN_MAX));
    for operations in [&mut before, &mut window] {
        operations.sort_by_key(|at| (history[*at].invoked, *at));
    }
    (window, before)
}
