//! Random cron expressions, odd zones and starts near clock changes; the same for every run of a
//! seed.

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// Zones whose clocks do odd things between 2000 and 2037.
const ZONES: [&str; 24] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Asuncion",
    "America/Santiago",
    "America/Havana",
    "America/Caracas",
    "America/Scoresbysund",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Tehran",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Antarctica/Troll",
    "Australia/Lord_Howe",
    "Pacific/Apia",
];

/// One question: what is due after `start`?
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) expression: String,
    pub(crate) zone: Tz,
    pub(crate) start: DateTime<Utc>,
}

/// `SplitMix64`: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }
}

/// The offset of a zone in seconds.
fn offset(zone: Tz, instant: i64) -> i64 {
    let utc = DateTime::from_timestamp(instant, 0).unwrap().naive_utc();
    zone.offset_from_utc_datetime(&utc).fix().local_minus_utc().into()
}

/// A clock change: its instant, and the offsets around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) at: i64,
    pub(crate) before: i64,
    pub(crate) after: i64,
}

impl Change {
    /// By whole hours, on the hour of the wall clock, and no midnight jumped over.
    pub(crate) fn is_ordinary(&self) -> bool {
        let wall = self.at + self.before;
        let day = 86_400;
        let jumps_midnight = self.after > self.before
            && (wall.rem_euclid(day) == 0
                || wall.div_euclid(day) != (self.at + self.after).div_euclid(day));
        self.is_by_hours() && self.is_on_the_hour() && !jumps_midnight
    }

    /// By whole hours.
    pub(crate) fn is_by_hours(&self) -> bool {
        (self.after - self.before) % 3_600 == 0
    }

    /// The wall showed a full hour when it changed.
    pub(crate) fn is_on_the_hour(&self) -> bool {
        (self.at + self.before) % 3_600 == 0
    }

    /// A whole calendar day is missing.
    pub(crate) fn skips_a_day(&self) -> bool {
        self.after - self.before > 12 * 3_600
    }
}

/// Every clock change of a zone from 2000 to 2037.
fn changes(zone: Tz) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut from = 946_684_800;
    while from < 2_114_380_800 {
        let to = from + 86_400;
        let (before, after) = (offset(zone, from), offset(zone, to));
        if before != after {
            let (mut low, mut high) = (from, to);
            while high - low > 1 {
                let middle = (low + high) / 2;
                if offset(zone, middle) == before { low = middle } else { high = middle }
            }
            changes.push(Change { at: high, before, after });
        }
        from = to;
    }
    changes
}

/// [`ZONES`] with their changes.
pub(crate) fn zones() -> Vec<(Tz, Vec<Change>)> {
    let zones = ZONES.iter().map(|name| name.parse().unwrap());
    zones.map(|zone| (zone, changes(zone))).collect()
}

/// Whether the wall shows a time at `instant` that it has shown before.
pub(crate) fn is_second_pass(changes: &[Change], instant: i64) -> bool {
    changes.iter().any(|c| (c.at..c.at + (c.before - c.after).max(0)).contains(&instant))
}

/// A start: half of them anywhere in 2000 to 2037, half within two days of a clock change.
pub(crate) fn start(random: &mut Random, changes: &[Change]) -> i64 {
    if changes.is_empty() || random.below(2) == 0 {
        return i64::try_from(random.between(946_684_800, 2_114_380_800)).unwrap();
    }
    let change = random.pick(changes);
    change.at - 48 * 3_600 + i64::try_from(random.below(96 * 3_600)).unwrap()
}

/// One field in plain syntax (lists, ranges, steps), never starting with `*` if `fixed`.
pub(crate) fn field(random: &mut Random, min: u64, max: u64, fixed: bool) -> String {
    let kind = if fixed { 3 + random.below(7) } else { random.below(10) };
    let value = |random: &mut Random| random.between(min, max);
    match kind {
        0..=1 => "*".to_owned(),
        2 => format!("*/{}", random.between(1, max)),
        3..=5 => value(random).to_string(),
        6 => {
            let list: Vec<String> =
                (0..random.between(2, 4)).map(|_| value(random).to_string()).collect();
            list.join(",")
        }
        7 => {
            let first = value(random);
            format!("{first}-{}", random.between(first, max))
        }
        8 => {
            // Never `5-5/2`: cronsim takes a range of one value with a step for `5/2`.
            let first = random.between(min, max - 1);
            format!("{first}-{}/{}", random.between(first + 1, max), random.between(1, 9))
        }
        _ => format!("{}/{}", value(random), random.between(1, 20)),
    }
}

/// The day-of-month, month and day-of-week fields.
pub(crate) fn days(random: &mut Random) -> String {
    let month_day = match random.below(10) {
        0 => "L".to_owned(),
        1 => "LW".to_owned(),
        2..=5 => "*".to_owned(),
        _ => field(random, 1, 31, false),
    };
    let month = match random.below(10) {
        0..=5 => "*".to_owned(),
        6 => (*random.pick(&["JAN", "mar-OCT", "Apr,OCT", "nov-DEC"])).to_owned(),
        _ => field(random, 1, 12, false),
    };
    let week_day = match random.below(12) {
        0 => format!("{}L", random.below(8)),
        1 => format!("{}#{}", random.below(8), random.between(1, 5)),
        2 => (*random.pick(&["MON-FRI", "sun", "Tue,SAT", "SUN#2", "7"])).to_owned(),
        3..=7 => "*".to_owned(),
        _ => field(random, 0, 7, false),
    };
    format!("{month_day} {month} {week_day}")
}
