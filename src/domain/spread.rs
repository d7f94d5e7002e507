//! Spreading work over time without chance: every node and every restart finds the same place.
//!
//! A hash of what a thing is (a schedule's key and a field, a schedule's id and an instant) picks
//! its place. The hash is written out here, since its values are for ever: another one would move
//! every spread schedule. Tests pin some of them.
//!
//! Guarantee of [`jitter`]: two planned instants of a schedule never swap order, since a start is
//! moved by less than the distance to the next instant.
//!
//! Not here: `H` in a cron field ([`crate::domain::cadence`]), which asks this hash.

use chrono::TimeDelta;

use crate::domain::Timestamp;

/// How far `jitterMs` may move a start, in milliseconds: an hour.
pub const JITTER_MAX_MS: i64 = 3_600_000;

/// FNV-1a over the parts, each ended by a byte that text does not have, and mixed once more, since
/// FNV alone hardly moves the low bits for keys that differ in their last letter.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// By how much the start of the instant `at` of a schedule is moved: 0 to `jitter_ms`, and less
/// than the distance to `next`, the planned instant after it.
#[must_use]
pub fn jitter(
    schedule_id: i64,
    at: Timestamp,
    next: Option<Timestamp>,
    jitter_ms: i64,
) -> TimeDelta {
    let most = next.map_or(i64::MAX, |next| (next - at).num_milliseconds() - 1);
    let most = jitter_ms.min(JITTER_MAX_MS).min(most);
    let Ok(places) = u64::try_from(most) else { return TimeDelta::zero() };
    let hash = stable_hash(&[&schedule_id.to_be_bytes(), &at.timestamp_micros().to_be_bytes()]);
    let moved = hash % places.saturating_add(1);
    TimeDelta::milliseconds(i64::try_from(moved).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(stable_hash(&[b"backup", b"minute"]), 10_518_787_972_982_329_225);
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
    }

    #[test]
    fn places_are_spread_evenly() {
        let mut counts = [0_u32; 10];
        for id in 0..10_000 {
            let moved = jitter(id, at(0), None, 9).num_milliseconds();
            counts[usize::try_from(moved).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn cases_of_jitter() {
        for (jitter_ms, next, most) in
            [(0, None, 0), (500, None, 500), (5_000, Some(at(100)), 99), (1, Some(at(1)), 0)]
        {
            for id in 0..200 {
                let moved = jitter(id, at(0), next, jitter_ms).num_milliseconds();
                assert!((0..=most).contains(&moved), "{moved} of {most}");
            }
        }
        assert_eq!(jitter(7, at(5), None, 60_000), jitter(7, at(5), None, 60_000));
    }

    proptest! {
        #[test]
        fn starts_keep_the_order_of_their_instants(
            id in 1_i64..1_000_000,
            steps in prop::collection::vec(1_i64..7_200_000, 2..50),
            jitter_ms in 0_i64..=JITTER_MAX_MS,
        ) {
            let mut now = 0;
            let instants: Vec<Timestamp> = steps.iter().map(|step| { now += step; at(now) }).collect();
            let mut last = None;
            for (place, instant) in instants.iter().enumerate() {
                let next = instants.get(place + 1).copied();
                let moved = jitter(id, *instant, next, jitter_ms);
                prop_assert!(moved.num_milliseconds() <= jitter_ms);
                let start = *instant + moved;
                prop_assert!(start >= *instant && last.is_none_or(|last| last < start));
                last = Some(start);
            }
        }
    }
}
