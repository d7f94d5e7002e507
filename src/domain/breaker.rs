//! Circuit breakers: what a target lets through.

/// What a target lets through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetGate {
    /// Nothing: its breaker is open, or a probe is on its way.
    Closed,
    /// One execution, to see whether it works again.
    OneProbe,
}
