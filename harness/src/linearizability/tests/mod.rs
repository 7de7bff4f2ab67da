//! That the checker is right: planted violations, and thousands of small histories beside an exhaustive tester.

mod brute;
mod large;
mod planted;
mod random;
