//! Pressure: whether a machine short of memory or disk takes new work.
//!
//! Two steps for each: below the reserve only urgent work starts, below two fifths of it nothing
//! does. What runs is left alone.

/// What is left of something, and how much of it is kept in reserve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// What it is, for people.
    pub what: &'static str,
    /// What is free, in any unit.
    pub free: f64,
    /// All of it in the same unit; 0 when it is not known.
    pub total: f64,
    /// Percent of it that is kept in reserve; 0 for none.
    pub reserve_percent: f64,
}

/// What a machine takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// All work.
    #[default]
    None,
    /// Only work of high priority; why.
    HighOnly(String),
    /// Nothing; why.
    Stop(String),
}

impl Pressure {
    /// Why work is turned away, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::HighOnly(reason) | Self::Stop(reason) => Some(reason),
        }
    }
}

/// Part of a reserve below which nothing starts.
const LAST_PART: f64 = 0.4;

/// The worst that any share asks for.
#[must_use]
pub fn plan_pressure(shares: &[Share]) -> Pressure {
    let mut worst = Pressure::None;
    for share in shares.iter().filter(|share| share.total > 0.0 && share.reserve_percent > 0.0) {
        let percent = share.free / share.total * 100.0;
        let reason = || format!("{percent:.1} % of the {} is free", share.what);
        if percent < share.reserve_percent * LAST_PART {
            return Pressure::Stop(reason());
        }
        if percent < share.reserve_percent && worst == Pressure::None {
            worst = Pressure::HighOnly(reason());
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(what: &'static str, free: f64, reserve_percent: f64) -> Share {
        Share { what, free, total: 200.0, reserve_percent }
    }

    #[test]
    fn work_is_turned_away_in_two_steps() {
        let cases = [
            (vec![share("memory", 10.0, 5.0)], Pressure::None),
            (
                vec![share("memory", 9.8, 5.0)],
                Pressure::HighOnly("4.9 % of the memory is free".into()),
            ),
            (
                vec![share("memory", 4.0, 5.0)],
                Pressure::HighOnly("2.0 % of the memory is free".into()),
            ),
            (vec![share("memory", 3.8, 5.0)], Pressure::Stop("1.9 % of the memory is free".into())),
            (
                vec![share("memory", 9.0, 5.0), share("disk", 0.2, 2.0)],
                Pressure::Stop("0.1 % of the disk is free".into()),
            ),
            (vec![share("disk", 0.0, 0.0)], Pressure::None),
            (vec![Share { total: 0.0, ..share("disk", 0.0, 2.0) }], Pressure::None),
        ];
        for (shares, expected) in cases {
            assert_eq!(plan_pressure(&shares), expected, "{shares:?}");
        }
    }
}
