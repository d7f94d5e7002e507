//! The control group that was delegated to this server (`limits.cgroup = "auto"`).
//!
//! A service whose unit says `Delegate=yes`, and the first process of a container that may write to
//! its cgroup v2, own the group that they run in. A group that has processes cannot hand its
//! controllers to groups below it, so the server moves into a leaf, [`LEAF`], beside the groups of
//! its commands. When any of it fails the server goes back to where it was, with the reason.
//!
//! Not here: groups that somebody else manages. Root may write to any group; only one that bears
//! the mark of a delegation, or is the top of a container's own tree, is taken.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, getxattr};
use rustix::process::geteuid;

/// The group of the server itself, below the one that was delegated.
const LEAF: &str = "carillon-server";
/// The controllers without which groups would add nothing to the shim.
const WANTED: [&str; 2] = ["memory", "pids"];
/// The marks that systemd puts on what it delegates.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// Finds the delegated group of this process and changes nothing.
///
/// # Errors
/// Why there is none, as a clause.
pub(super) fn find() -> Result<PathBuf, String> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))
    };
    let (membership, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
    let own = own_group(&membership, &mounts)
        .ok_or("this process is in no cgroup v2 that is mounted here")?;
    check(&own)?;
    Ok(own)
}

/// Moves the server into its leaf and lets the groups of commands have the controllers.
///
/// # Errors
/// Why that cannot be, as a clause; the server is back in `group` then.
pub(super) fn settle(group: &Path) -> Result<(), String> {
    settle_process(group, std::process::id(), &WANTED)
}

fn settle_process(group: &Path, process: u32, controllers: &[&str]) -> Result<(), String> {
    let leaf = group.join(LEAF);
    let refused = |error: io::Error| format!("{} cannot be used: {error}", group.display());
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(error)),
        _ => {}
    }
    let inside = fs::read_to_string(leaf.join("cgroup.procs")).map_err(refused)?;
    if inside.lines().any(|line| line != process.to_string()) {
        return Err(format!("another server uses {}", group.display()));
    }
    let enter = |folder: &Path| fs::write(folder.join("cgroup.procs"), process.to_string());
    let offered = enter(&leaf).and_then(|()| offer(group, controllers));
    offered.map_err(|error| {
        drop(enter(group));
        drop(fs::remove_dir(&leaf));
        format!("{}; perhaps other processes are in it", refused(error))
    })
}

/// Hands controllers of `group` to the groups below it.
pub(super) fn offer(group: &Path, controllers: &[&str]) -> io::Result<()> {
    for controller in controllers {
        fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}

/// Where the group of a process is, by its `/proc/PID/cgroup` and `/proc/PID/mountinfo`.
fn own_group(membership: &str, mounts: &str) -> Option<PathBuf> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside of this process's view, or removed.
    if path.contains("/..") || path.ends_with(" (deleted)") {
        return None;
    }
    let (root, place) = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then_some((root, place))
    })?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    let group = Path::new(place).join(below);
    Some(if below.ends_with(LEAF) { group.parent()?.to_owned() } else { group })
}

fn check(group: &Path) -> Result<(), String> {
    let shown = group.display();
    let read = |file: &str| fs::read_to_string(group.join(file));
    let offered = read("cgroup.controllers").map_err(|error| format!("{shown}: {error}"))?;
    let missing: Vec<_> = WANTED
        .into_iter()
        .filter(|name| !offered.split_ascii_whitespace().any(|offered| offered == *name))
        .collect();
    if !missing.is_empty() {
        return Err(format!("{shown} has no controller {}", missing.join(", ")));
    }
    // Every group but the machine's own root has a type.
    if read("cgroup.type").is_err() {
        return Err(format!("{shown} is the machine's root group, which is nobody's to use"));
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        access(group.join(file), Access::WRITE_OK)
            .map_err(|error| format!("{shown} is not delegated to this user: {error}"))?;
    }
    if geteuid().is_root() && !is_marked(group) && !is_top(group) {
        return Err(format!(
            "{shown} is not marked as delegated; put `Delegate=yes` into the unit of the service"
        ));
    }
    Ok(())
}

fn is_marked(group: &Path) -> bool {
    MARKS.into_iter().any(|mark| {
        let mut value = [0_u8; 4];
        getxattr(group, mark, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Whether nothing of the tree can be seen above it: it is a container's own.
fn is_top(group: &Path) -> bool {
    !group.join("../cgroup.procs").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:20 / /proc rw - proc proc rw
25 22 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let group =
            |membership: &str| own_group(membership, MOUNTS).map(|path| path.display().to_string());
        let service = "0::/system.slice/carillon.service\n";
        let expected = Some("/sys/fs/cgroup/system.slice/carillon.service".to_owned());
        assert_eq!(group(service), expected);
        assert_eq!(group("0::/system.slice/carillon.service/carillon-server\n"), expected);
        assert_eq!(group("9:memory:/x\n0::/\n"), Some("/sys/fs/cgroup/".to_owned()));
        for none in ["9:memory:/x\n", "0::/../other\n", "0::/gone (deleted)\n", ""] {
            assert_eq!(group(none), None, "{none}");
        }
        assert_eq!(own_group(service, "22 1 0:20 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_is_understood() {
        let mounts = "30 22 0:22 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = own_group("0::/docker/7/app\n", mounts);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/app")));
        assert_eq!(own_group("0::/elsewhere\n", mounts), None);
    }

    #[test]
    fn a_group_that_is_none_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let reason = check(folder.path()).unwrap_err();
        assert!(reason.ends_with("has no controller memory"), "{reason}");
        fs::write(folder.path().join("cgroup.controllers"), "memory pids\n").unwrap();
        let reason = check(folder.path()).unwrap_err();
        assert!(reason.contains("the machine's root group"), "{reason}");
    }

    /// Needs a cgroup v2 that may be written to, and passes over itself elsewhere.
    #[test]
    fn a_server_settles_in_a_leaf_or_stays_where_it_was() {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let Some(root) = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())
        else {
            return;
        };
        let group = root.join(format!("carillon-test-{}", std::process::id()));
        if fs::create_dir(&group).is_err() {
            return;
        }
        let mut sleep = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(group.join("cgroup.procs"), sleep.id().to_string()).unwrap();
        let inside = |folder: &Path| fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        let own = format!("{}\n", sleep.id());
        let leaf = group.join(LEAF);

        settle_process(&group, sleep.id(), &["no-such-controller"]).unwrap_err();
        assert_eq!(inside(&group), own);
        assert!(!leaf.exists());
        settle_process(&group, sleep.id(), &[]).unwrap();
        settle_process(&group, sleep.id(), &[]).unwrap();
        assert_eq!((inside(&group), inside(&leaf)), (String::new(), own));
        let reason = settle_process(&group, std::process::id(), &[]).unwrap_err();
        assert!(reason.starts_with("another server uses"), "{reason}");

        sleep.kill().unwrap();
        sleep.wait().unwrap();
        fs::remove_dir(&leaf).unwrap();
        fs::remove_dir(&group).unwrap();
    }
}
