//! Why a configuration is refused: always one line that names the key, where it came from and the
//! cure.

use std::fmt;
use std::path::PathBuf;

/// Where the value of a setting came from. Later variants win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The defaults that are compiled in.
    Default,
    /// A file named by `--config`.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, by name.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Place and reason, on one line.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown setting {key} (from {source_of}){cure}")]
    UnknownKey {
        /// The key as it was written, dotted.
        key: String,
        /// Where it was written.
        source_of: Source,
        /// `; did you mean ...?`, or where to look.
        cure: String,
    },
    /// A value that its key does not take.
    #[error("{key} (from {source_of}): {message}")]
    Value {
        /// The key, dotted.
        key: String,
        /// Where the value came from.
        source_of: Source,
        /// What is wrong and what would be right.
        message: String,
    },
}
