//! The figures of one run, as a table for people and as JSON for programs.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The figures of one run of load.
#[derive(Clone, Default, Debug, Serialize)]
pub struct LoadReport {
    /// Commands answered.
    pub answered: u64,
    /// Of them, writes.
    pub writes: u64,
    /// Answered with an error that is no redirection.
    pub errors: u64,
    /// Plain writes whose outcome is unknown; they are not retried.
    pub in_doubt: u64,
    /// Session writes that were sent again after their outcome was unknown.
    pub retried: u64,
    /// Redirections followed.
    pub moved: u64,
    /// Commands refused for a while (no leader, window full) and sent again.
    pub deferred: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Commands still unanswered when the run ended.
    pub unanswered: u64,
    /// The first error that was answered, if any.
    pub first_error: Option<String>,
    /// How long the run took.
    pub seconds: f64,
    /// Answers per second.
    pub per_second: f64,
    /// Time from a command's first sending to its answer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were at most this long.
    pub p99_ms: f64,
    /// 999 of 1000 were at most this long.
    pub p999_ms: f64,
    /// The longest one.
    pub max_ms: f64,
    /// The longest time in which no write was answered, over all clients.
    pub longest_gap_ms: f64,
}

impl LoadReport {
    pub(super) fn fill(&mut self, histogram: &Histogram<u64>, seconds: f64) {
        let ms = |us: u64| us as f64 / 1_000.0;
        self.seconds = seconds;
        self.per_second = if seconds > 0.0 { self.answered as f64 / seconds } else { 0.0 };
        self.p50_ms = ms(histogram.value_at_quantile(0.5));
        self.p99_ms = ms(histogram.value_at_quantile(0.99));
        self.p999_ms = ms(histogram.value_at_quantile(0.999));
        self.max_ms = ms(histogram.max());
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} commands in {:.2} s: {:.0} per second", self.answered, self.seconds, self.per_second)?;
        writeln!(
            f,
            "latency p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
            self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        writeln!(f, "longest gap between writes {:.1} ms", self.longest_gap_ms)?;
        write!(
            f,
            "errors {}, in doubt {}, retried {}, moved {}, deferred {}, disconnects {}, unanswered {}",
            self.errors, self.in_doubt, self.retried, self.moved, self.deferred, self.disconnects, self.unanswered
        )?;
        if let Some(error) = &self.first_error {
            write!(f, "\nfirst error: {error}")?;
        }
        Ok(())
    }
}
