//! What the machine can do, so that figures of two machines, or of one on a bad day, can be
//! compared.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::load::float;
use super::{Plan, Report};

/// How long each of the two is measured.
const TIME: Duration = Duration::from_millis(500);
/// What is hashed, and written before each sync.
const BLOCK: [u8; 4_096] = [7; 4_096];

/// One processor's speed (SHA-256), and how often a second a block reaches the disk.
pub(super) fn run(plan: &Plan, report: &mut Report) -> std::io::Result<()> {
    let hashed = repeated(|| {
        std::hint::black_box(Sha256::digest(std::hint::black_box(BLOCK)));
        Ok(())
    })?;
    std::fs::create_dir_all(&plan.scratch)?;
    let path = plan.scratch.join("sync");
    let mut file = File::create(&path)?;
    let synced = repeated(|| {
        file.write_all(&BLOCK)?;
        file.sync_data()
    })?;
    std::fs::remove_file(&path)?;
    let mebibytes = hashed * float(BLOCK.len()) / 1_048_576.0;
    report.add("machine", "SHA-256 of one processor", mebibytes, "MiB/s");
    report.add("machine", "4 KiB written and synced", synced, "writes/s");
    Ok(())
}

/// How often a second it is done, over [`TIME`].
fn repeated(mut work: impl FnMut() -> std::io::Result<()>) -> std::io::Result<f64> {
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        work()?;
        count += 1;
    }
    Ok(float(count) / started.elapsed().as_secs_f64())
}
