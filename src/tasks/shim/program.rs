//! The program that is started as shim: a small one, part of this binary, run from memory.
//!
//! It is written into a sealed file without a name, so that nothing can change it, an upgrade in
//! place of the binary included, and nothing is left behind. Where a machine allows no program
//! that lies in no file (`vm.memfd_noexec=2`, some security modules), this binary itself is the
//! shim, which is slower to start.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// The shim's program, built for this binary by its build script.
static EMBEDDED: &[u8] = include_bytes!(env!("CARILLON_SHIM"));
/// This binary, whatever lies under its name by now.
const OWN: &str = "/proc/self/exe";

/// Where shims are started from.
pub(crate) struct Program {
    /// The path of [`Program::file`] or of a file on the disk.
    path: PathBuf,
    /// Keeps the file without a name.
    file: Option<OwnedFd>,
    /// That file was refused once; this binary is used from then on.
    is_refused: AtomicBool,
}

impl Program {
    /// The program within this binary; this binary itself where that cannot be kept in memory.
    pub(crate) fn embedded() -> Self {
        match in_memory(EMBEDDED) {
            Ok(file) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
                Self { path, file: Some(file), is_refused: AtomicBool::new(false) }
            }
            Err(error) => {
                tell(&error);
                Self::at(PathBuf::from(OWN))
            }
        }
    }

    /// The file at `path`.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, file: None, is_refused: AtomicBool::new(false) }
    }

    /// Has `start` start the program; once more with this binary when the machine refuses the one
    /// in memory.
    ///
    /// # Errors
    /// Those of `start`.
    pub(super) fn start_with<T>(
        &self,
        mut start: impl FnMut(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_refused.load(Ordering::Relaxed) {
            return start(Path::new(OWN));
        }
        match start(&self.path) {
            Err(error) if self.file.is_some() && is_refusal(&error) => {
                if !self.is_refused.swap(true, Ordering::Relaxed) {
                    tell(&error);
                }
                start(Path::new(OWN))
            }
            other => other,
        }
    }
}

/// Not a lack of processes or memory, which the next one may not meet.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

fn tell(error: &io::Error) {
    tracing::info!(
        %error,
        "this machine runs no program from memory: shims start from this binary, which is slower"
    );
}

/// A file without a name that holds `program` and can be changed by nobody.
fn in_memory(program: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(c"carillon-shim", flags | MemfdFlags::EXEC) {
        // Kernels before 6.3 do not know the flag, and need none.
        Err(Errno::INVAL) => memfd_create(c"carillon-shim", flags)?,
        other => other?,
    };
    let mut file = File::from(file);
    file.write_all(program)?;
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, all)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_in_memory_starts_and_cannot_be_changed() {
        let program = Program::embedded();
        let file = program.file.as_ref().unwrap();
        assert!(File::from(file.try_clone().unwrap()).write_all(b"x").is_err());
        // Without an argument that it knows it does nothing.
        let start = |path: &Path| std::process::Command::new(path).output();
        let output = program.start_with(start).unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(1), Vec::new()));
        assert!(!program.is_refused.load(Ordering::Relaxed));
    }

    #[test]
    fn a_machine_that_refuses_it_gets_this_binary_once_and_for_all() {
        let program = Program::embedded();
        let mut asked = Vec::new();
        for _ in 0..2 {
            let started = program.start_with(|path| {
                asked.push(path.to_owned());
                match path.to_str() {
                    Some(OWN) => Ok(()),
                    _ => Err(io::ErrorKind::PermissionDenied.into()),
                }
            });
            started.unwrap();
        }
        assert_eq!(asked, [program.path.as_path(), Path::new(OWN), Path::new(OWN)]);
    }

    #[test]
    fn a_lack_of_processes_is_not_taken_for_a_refusal() {
        let program = Program::embedded();
        let lacking = |_: &Path| Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
        assert!(program.start_with(lacking).is_err());
        assert!(program.start_with(|path| Ok(path == program.path)).unwrap());
    }
}
