//! Builds the shim, a small program within the binary (`src/tasks/shim/program.rs`).
//!
//! Cargo cannot yet make one package's program a part of another (artifact dependencies), so it is
//! asked once more, with a target directory of its own: the outer build holds the usual one.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    for changed in ["build.rs", "shim", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={changed}");
    }
    let triple = variable("TARGET")?;
    let directory = PathBuf::from(variable("OUT_DIR")?).join("shim");
    let status = Command::new(variable("CARGO")?)
        .args(["build", "--quiet", "--locked", "--package", "carillon-shim", "--profile", "shim"])
        .arg("--target")
        .arg(&triple)
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(variable("CARGO_MANIFEST_DIR")?)
        // Those of the outer build are not meant for it: clippy's, and flags that are given here
        // in another form already.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()?;
    if !status.success() {
        return Err(format!("the shim could not be built: {status}").into());
    }
    let program = directory.join(triple).join("shim").join("carillon-shim");
    println!("cargo::rustc-env=CARILLON_SHIM={}", program.display());
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo has not set {name}"))
}
