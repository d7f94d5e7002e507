//! Which of a test's processes are alive, by a number of seconds that only it sleeps for.

/// How many processes have the marker somewhere on their command line.
pub(super) fn alive(marker: &str) -> usize {
    living(marker).len()
}

/// The processes that have the marker somewhere on their command line.
pub(super) fn living(marker: &str) -> Vec<i32> {
    let carries = |entry: &std::fs::DirEntry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(marker))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten().filter(carries);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A number of seconds that no other test sleeps for.
pub(super) fn marker() -> String {
    format!("7{:08}", std::process::id())
}
