//! A history: what clients asked, when, and what they were answered.

/// One operation of a history.
///
/// Times are numbers of one clock, in any unit. One operation is before another if it returned at an earlier
/// time than the other was invoked; operations that touch at equal times count as concurrent, so a coarse clock
/// may hide a violation but never invents one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<C, A> {
    /// Who asked. For pictures only: a client may have several operations open.
    pub client: u64,
    /// When it was asked.
    pub invoked: u64,
    /// What was asked.
    pub command: C,
    /// What came back, and when; `None` if the outcome is unknown: it ran at any time after it was invoked, or
    /// not at all. What certainly did not run is left out of a history.
    pub returned: Option<Returned<A>>,
    /// The slot of the log at which a write was applied, or behind which a read was served, if that is known.
    /// Only the slot-order oracle looks at it.
    pub slot: Option<u64>,
}

/// The end of an operation whose outcome is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returned<A> {
    /// When the answer came.
    pub at: u64,
    /// The answer.
    pub answer: A,
}

impl<C, A> Operation<C, A> {
    /// When it returned; the end of time if its outcome is unknown.
    pub fn end(&self) -> u64 {
        self.returned.as_ref().map_or(u64::MAX, |returned| returned.at)
    }

    /// Whether it returned before the other was invoked.
    pub fn is_before<D, B>(&self, other: &Operation<D, B>) -> bool {
        self.returned.is_some() && self.end() < other.invoked
    }
}
