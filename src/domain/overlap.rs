//! What becomes of the instants of one firing when earlier runs are not over.
//!
//! Under `skip` and `queue` the oldest instants take what room there is, and the rest goes to the
//! ledger; while there is something to catch up on, the rest stays planned instead and waits its
//! turn. Under `cancel_running` the newest instants run and what is in their way is cancelled.
//! Every instant is in exactly one of the three places.
//!
//! Not here: the order in which what waits starts ([`crate::domain::admission`]).

use std::ops::Range;

/// How many rows of a schedule there may be, and who gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlapRules {
    /// Rows that may wait or run at once; `None` is no limit.
    pub limit: Option<i32>,
    /// Older runs give way to newer ones.
    pub makes_room: bool,
}

/// Places of a firing's instants, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// These run.
    pub run: Range<usize>,
    /// These go to the ledger.
    pub over: Range<usize>,
    /// From this one on they stay planned.
    pub held: Option<usize>,
    /// So many of the rows that wait or run are cancelled, the oldest first.
    pub to_cancel: i64,
}

/// Splits `count` instants, of which the first `catch_up` are caught up on, while `active` rows
/// wait or run.
#[must_use]
pub fn split(rules: OverlapRules, count: usize, catch_up: usize, active: i64) -> Split {
    let Some(limit) = rules.limit else {
        return Split { run: 0..count, over: count..count, held: None, to_cancel: 0 };
    };
    let limit = i64::from(limit);
    if rules.makes_room {
        let first = count.saturating_sub(usize::try_from(limit).unwrap_or(0));
        let wanted = i64::try_from(count - first).unwrap_or(i64::MAX);
        let to_cancel = active.saturating_add(wanted).saturating_sub(limit);
        let to_cancel = if wanted == 0 { 0 } else { to_cancel.clamp(0, active.max(0)) };
        return Split { run: first..count, over: 0..first, held: None, to_cancel };
    }
    let free = usize::try_from(limit.saturating_sub(active)).unwrap_or(0).min(count);
    if free < count && free < catch_up {
        return Split { run: 0..free, over: count..count, held: Some(free), to_cancel: 0 };
    }
    Split { run: 0..free, over: free..count, held: None, to_cancel: 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(limit: Option<i32>, makes_room: bool) -> OverlapRules {
        OverlapRules { limit, makes_room }
    }

    #[test]
    fn cases_of_overlap() {
        // Limit, makes room, instants, caught up, active: runs, ledger, held from, cancelled.
        let cases = [
            (None, false, 3, 0, 9, 0..3, 3..3, None, 0),
            (Some(1), false, 1, 0, 0, 0..1, 1..1, None, 0),
            (Some(1), false, 1, 0, 1, 0..0, 0..1, None, 0),
            (Some(2), false, 3, 0, 1, 0..1, 1..3, None, 0),
            (Some(2), false, 3, 2, 1, 0..1, 3..3, Some(1), 0),
            (Some(2), false, 3, 1, 1, 0..1, 1..3, None, 0),
            (Some(1), false, 0, 0, 4, 0..0, 0..0, None, 0),
            (Some(1), true, 1, 0, 1, 0..1, 0..0, None, 1),
            (Some(1), true, 3, 3, 0, 2..3, 0..2, None, 0),
            (Some(2), true, 1, 0, 1, 0..1, 0..0, None, 0),
            (Some(2), true, 1, 0, 5, 0..1, 0..0, None, 4),
            (Some(2), true, 0, 0, 5, 0..0, 0..0, None, 0),
        ];
        for (limit, makes_room, count, catch_up, active, run, over, held, to_cancel) in cases {
            let found = split(rules(limit, makes_room), count, catch_up, active);
            let wanted = Split { run, over, held, to_cancel };
            assert_eq!(found, wanted, "{limit:?} {makes_room} {count} {catch_up} {active}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_has_one_place_and_no_limit_is_passed(
            limit in prop::option::of(1_i32..6),
            makes_room in any::<bool>(),
            count in 0_usize..10,
            catch_up in 0_usize..10,
            active in 0_i64..10,
        ) {
            let catch_up = catch_up.min(count);
            let found = split(rules(limit, makes_room), count, catch_up, active);
            let held = found.held.map_or(count..count, |first| first..count);
            for place in 0..count {
                let places = [&found.run, &found.over, &held];
                let places = places.iter().filter(|range| range.contains(&place)).count();
                prop_assert_eq!(places, 1, "{} of {:?}", place, found);
            }
            let run = i64::try_from(found.run.len()).unwrap();
            prop_assert!(found.to_cancel <= active);
            if let Some(limit) = limit {
                let left = active - found.to_cancel;
                prop_assert!(run == 0 || left + run <= i64::from(limit));
                // Room is used: what does not run found none.
                let waits = found.held.is_some() || !found.over.is_empty();
                prop_assert!(!waits || makes_room || left + run >= i64::from(limit));
            } else {
                prop_assert_eq!(found.run, 0..count);
            }
        }

        /// Firing after firing, with rows that end in between: never more rows than the limit, and
        /// what is caught up on runs in the end, in order, unless newer instants push it out.
        #[test]
        fn what_waits_to_be_caught_up_on_runs_in_order(
            limit in 1_i32..4,
            ends in prop::collection::vec(0_i64..4, 60),
        ) {
            let (mut active, mut next, count) = (0_i64, 0_usize, 20_usize);
            for end in ends {
                active = (active - end).max(0);
                let left = count - next;
                let found = split(rules(Some(limit), false), left, left, active);
                prop_assert!(found.over.is_empty());
                prop_assert_eq!(found.run.start, 0);
                active += i64::try_from(found.run.len()).unwrap();
                prop_assert!(active <= i64::from(limit));
                prop_assert_eq!(found.held, (found.run.end < left).then_some(found.run.end));
                next += found.run.len();
            }
            prop_assert!(next <= count);
        }
    }
}
