//! What a command may use at most: `taskConfig.limits`, the server's defaults and its maxima.
//!
//! A limit holds for the whole tree of the command (memory, processor time, processes, output) or
//! for each process of it (open files). Not here: measuring and enforcing, which is the shim's.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::fault::Fault;
use crate::domain::fields::Fields;

const PATH: &str = "taskConfig.limits";
const NAMES: [&str; 5] = ["memoryMb", "cpuMs", "processes", "openFiles", "outputBytes"];
const MEMORY_MB_RANGE: (u64, u64) = (1, 1 << 24);
const CPU_MS_RANGE: (u64, u64) = (1, 30 * 24 * 60 * 60 * 1000);
const PROCESSES_RANGE: (u64, u64) = (1, 1_000_000);
const OPEN_FILES_RANGE: (u64, u64) = (8, 1_000_000);
const OUTPUT_BYTES_RANGE: (u64, u64) = (1, 1 << 50);

/// The limits of one command; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLimits {
    /// Memory of its processes together (anonymous and resident), in MiB.
    pub memory_mb: Option<u64>,
    /// Processor time of its processes together, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Processes at the same time.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Bytes of standard output and standard error together.
    pub output_bytes: Option<u64>,
}

impl TaskLimits {
    /// Reads the object `taskConfig.limits`.
    ///
    /// # Errors
    /// Every fault at once, under `taskConfig.limits`.
    pub(super) fn parse(value: &Value) -> Result<Self, Vec<Fault>> {
        let Value::Object(object) = value else {
            let message = "`limits` must be an object, such as {\"memoryMb\": 256}";
            return Err(vec![Fault::new(PATH, "invalid_type", message)]);
        };
        let mut fields = Fields::of(object, PATH, &NAMES);
        let mut read = |name: &str, (low, high): (u64, u64)| fields.integer(name, low, high);
        let limits = Self {
            memory_mb: read("memoryMb", MEMORY_MB_RANGE),
            cpu_ms: read("cpuMs", CPU_MS_RANGE),
            processes: read("processes", PROCESSES_RANGE),
            open_files: read("openFiles", OPEN_FILES_RANGE),
            output_bytes: read("outputBytes", OUTPUT_BYTES_RANGE),
        };
        fields.finish(Some(limits))
    }

    /// What is asked for above `maxima`: each limit's field, its maximum and the cure.
    #[must_use]
    pub fn above(&self, maxima: &Self) -> Vec<Fault> {
        let asked = [
            ("memoryMb", "memory_mb", self.memory_mb, maxima.memory_mb),
            ("cpuMs", "cpu_ms", self.cpu_ms, maxima.cpu_ms),
            ("processes", "processes", self.processes, maxima.processes),
            ("openFiles", "open_files", self.open_files, maxima.open_files),
            ("outputBytes", "output_bytes", self.output_bytes, maxima.output_bytes),
        ];
        asked
            .into_iter()
            .filter_map(|(name, setting, asked, most)| {
                let (asked, most) = asked.zip(most).filter(|(asked, most)| asked > most)?;
                let message = format!(
                    "`limits.{name}` is {asked}, and this server allows {most} at most; ask for \
                     less, or raise its setting `limits.{setting}_max`"
                );
                Some(Fault::new(format!("{PATH}.{name}"), "out_of_range", message))
            })
            .collect()
    }

    /// The limits that apply: what the task asks for, else the smaller of `defaults` and `maxima`.
    ///
    /// # Errors
    /// What [`TaskLimits::above`] finds: a maximum may be lowered after a task was stored.
    pub fn within(self, defaults: Self, maxima: Self) -> Result<Self, Vec<Fault>> {
        let faults = self.above(&maxima);
        if !faults.is_empty() {
            return Err(faults);
        }
        let choose = |pick: fn(&Self) -> Option<u64>| {
            pick(&self).or_else(|| pick(&defaults).into_iter().chain(pick(&maxima)).min())
        };
        Ok(Self {
            memory_mb: choose(|limits| limits.memory_mb),
            cpu_ms: choose(|limits| limits.cpu_ms),
            processes: choose(|limits| limits.processes),
            open_files: choose(|limits| limits.open_files),
            output_bytes: choose(|limits| limits.output_bytes),
        })
    }
}

/// As whom a command runs: a user, and the group if it is not the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// The user's name.
    pub user: String,
    /// The group's name.
    pub group: Option<String>,
}

impl RunAs {
    /// Reads `user` or `user:group`; `None` when it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| {
            let plain = |char: char| char.is_ascii_alphanumeric() || "_-.$".contains(char);
            !name.is_empty()
                && name.len() <= 64
                && !name.starts_with('-')
                && name.chars().all(plain)
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        (is_name(user) && group.is_none_or(is_name))
            .then(|| Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_wrong_limit_is_named_at_once() {
        let faults = TaskLimits::parse(&json!({"memoryMb": 0, "cpuMs": "1", "memory": 1}));
        let fields: Vec<_> = faults.unwrap_err().into_iter().map(|fault| fault.field).collect();
        let expected =
            ["taskConfig.limits.memory", "taskConfig.limits.memoryMb", "taskConfig.limits.cpuMs"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_task_gets_what_it_asks_for_up_to_the_maximum() {
        let of = |processes| TaskLimits { processes, ..TaskLimits::default() };
        for (asked, default, most, expected) in [
            (None, None, None, Ok(None)),
            (None, Some(5), None, Ok(Some(5))),
            (None, None, Some(9), Ok(Some(9))),
            (None, Some(50), Some(9), Ok(Some(9))),
            (Some(7), Some(5), Some(9), Ok(Some(7))),
            (Some(10), None, Some(9), Err(())),
        ] {
            let chosen = of(asked).within(of(default), of(most)).map(|limits| limits.processes);
            assert_eq!(chosen.map_err(|_| ()), expected, "{asked:?} {default:?} {most:?}");
        }
    }

    #[test]
    fn every_limit_above_its_maximum_is_named_with_it() {
        let asked = TaskLimits {
            memory_mb: Some(513),
            cpu_ms: Some(2_000),
            processes: Some(8),
            open_files: Some(64),
            output_bytes: None,
        };
        let maxima = TaskLimits {
            memory_mb: Some(512),
            cpu_ms: Some(1_000),
            processes: Some(8),
            open_files: None,
            output_bytes: Some(1),
        };
        let found = asked.above(&maxima);
        let fields: Vec<_> = found.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["taskConfig.limits.memoryMb", "taskConfig.limits.cpuMs"]);
        let message = &found[0].message;
        assert!(message.contains("allows 512") && message.contains("`limits.memory_mb_max`"));
    }

    #[test]
    fn a_user_may_come_with_a_group() {
        let group = |group: &str| Some(group.to_owned());
        let user = "backup".to_owned();
        assert_eq!(RunAs::parse("backup"), Some(RunAs { user: user.clone(), group: None }));
        assert_eq!(RunAs::parse("backup:adm"), Some(RunAs { user, group: group("adm") }));
        for wrong in ["", ":", "a:", ":b", "a b", "a:b:c", "-x", "a/b"] {
            assert_eq!(RunAs::parse(wrong), None, "{wrong}");
        }
    }
}
