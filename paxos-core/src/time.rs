//! The room for `Instant`: the caller's monotonic clock, in microseconds. The core never reads a clock.

use core::fmt;

/// A moment on the caller's monotonic clock, in microseconds since an arbitrary start.
///
/// Sample it after the bytes of the event were read, never before. An instant earlier than one already
/// seen is treated as that later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant {
    us: u64,
}

impl Instant {
    /// The moment `us` microseconds after the clock's start.
    pub const fn from_us(us: u64) -> Instant {
        Instant { us }
    }

    /// Microseconds since the clock's start.
    pub const fn as_us(self) -> u64 {
        self.us
    }

    /// This moment and `us` microseconds more; saturates.
    #[must_use]
    pub const fn plus_us(self, us: u64) -> Instant {
        Instant { us: self.us.saturating_add(us) }
    }

    /// Microseconds from `earlier` to this moment; 0 if `earlier` is later.
    pub const fn since_us(self, earlier: Instant) -> u64 {
        self.us.saturating_sub(earlier.us)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.us)
    }
}
