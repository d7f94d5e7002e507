//! The command line: one file a command.
//!
//! `serve`, `migrate` and `doctor` work on this machine with the settings; every other command is
//! a client that speaks the HTTP API of a running server. People get tables, `--json` gives the
//! server's answer as it is. Nothing here decides what the server may do: the server does.
//!
//! Exit status: 0 done; 1 refused or failed; 2 wrong usage or configuration; 3 no server reached.

mod admin;
mod attention;
mod bench;
mod carry;
mod client;
mod definitions;
mod doctor;
mod error;
mod execution;
mod hooks;
mod migrate;
mod output;
mod schedule;
mod serve;
mod tail;
mod task;
mod token;
mod values;

#[cfg(test)]
mod cli_tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{FlagValue, Loaded, load_from_process};
use client::{Client, ClientError};
use output::{Answer, complain, say};

/// Something was refused or failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const MISUSED: u8 = 2;
/// No server was reached.
const UNREACHABLE: u8 = 3;

const EXIT_CODES: &str =
    "Exit status: 0 done; 1 refused or failed; 2 wrong usage or configuration; 3 no server reached";

/// A task runtime in one binary: schedules that fire on time, tasks that run, failures that
/// recover. Without a command it serves.
#[derive(Debug, Parser)]
#[command(
    name = "carillon",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXIT_CODES,
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServerFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(after_help = serve::EXAMPLE)]
    /// Runs the server (the default).
    Serve(ServerFlags),
    #[command(after_help = migrate::EXAMPLE)]
    /// Brings the database to this version, and ends.
    Migrate(ServerFlags),
    #[command(after_help = doctor::EXAMPLE)]
    /// Shows the settings in force and where they come from, and checks this machine.
    Doctor(doctor::Doctor),
    #[command(after_help = bench::EXAMPLE)]
    /// Measures this binary on this machine.
    Bench(bench::Bench),
    /// API keys.
    Token(token::Token),
    /// Schedules: when and what.
    Schedule(schedule::Schedule),
    /// Executions: what ran, runs and will run.
    Execution(execution::Execution),
    /// Errors and their recovery.
    Error(error::Error),
    /// The server's own parts.
    Admin(admin::Admin),
    /// Shows what needs a person now, the worst first, each with the command that cures it.
    #[command(after_help = attention::EXAMPLE)]
    Attention(attention::Attention),
    /// Writes every definition as files, so that they can live in git.
    #[command(after_help = definitions::EXPORT_EXAMPLES)]
    Export(definitions::Export),
    /// Makes the server's definitions what files say.
    #[command(after_help = definitions::IMPORT_EXAMPLES)]
    Import(definitions::Import),
}

/// Flags of the commands that work with the settings.
#[derive(Clone, Debug, Default, Args)]
struct ServerFlags {
    /// A TOML file with settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Directory of the server's own files.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// PostgreSQL URL; without one, SQLite in the data directory.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl ServerFlags {
    /// Loads the settings; a refusal is told and ends the command.
    fn load(self) -> Result<Loaded, ExitCode> {
        let flags = [
            ("--listen", "server.listen", self.listen),
            ("--data-dir", "server.data_dir", self.data_dir),
            ("--database-url", "database.url", self.database_url),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, key, text)| Some(FlagValue { flag, key, text: text? }))
            .collect();
        load_from_process(self.config, given).map_err(|error| {
            complain(&error.to_string());
            ExitCode::from(MISUSED)
        })
    }
}

/// How to reach a server, and how to show its answers.
#[derive(Clone, Debug, Args)]
struct Connection {
    /// The server's address.
    #[arg(
        long,
        global = true,
        help_heading = "Connection",
        env = "CARILLON_URL",
        default_value = "http://127.0.0.1:7411"
    )]
    url: String,
    /// API key; without one, `admin.token` in the data directory is used if it can be read.
    #[arg(
        long,
        global = true,
        help_heading = "Connection",
        env = "CARILLON_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// The server's data directory, where `admin.token` lies.
    #[arg(
        id = "token_dir",
        long = "data-dir",
        global = true,
        help_heading = "Connection",
        default_value = "./data",
        value_name = "DIRECTORY"
    )]
    data_dir: PathBuf,
    /// Prints the server's answer as JSON.
    #[arg(long, global = true, help_heading = "Connection")]
    json: bool,
}

/// Runs the command line of this process, its name included.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to fail.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { MISUSED } else { 0 });
        }
    };
    match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(flags)) => serve::run(flags),
        Some(Command::Migrate(flags)) => migrate::run(flags),
        Some(Command::Doctor(command)) => doctor::run(command),
        Some(Command::Bench(command)) => bench::run(command),
        Some(Command::Token(command)) => {
            call(command.connection, async |client| command.verb.run(client).await)
        }
        Some(Command::Schedule(command)) => {
            call(command.connection, async |client| command.verb.run(client).await)
        }
        Some(Command::Execution(command)) => {
            call(command.connection, async |client| command.verb.run(client).await)
        }
        Some(Command::Error(command)) => {
            call(command.connection, async |client| command.verb.run(client).await)
        }
        Some(Command::Admin(command)) => {
            call(command.connection, async |client| command.verb.run(client).await)
        }
        Some(Command::Attention(command)) => {
            call(command.connection.clone(), async |client| command.run(client).await)
        }
        Some(Command::Export(command)) => {
            call(command.connection.clone(), async |client| command.run(client).await)
        }
        Some(Command::Import(command)) => {
            call(command.connection.clone(), async |client| command.run(client).await)
        }
    }
}

/// Runs a client command and shows its answer or why there is none.
fn call(
    connection: Connection,
    command: impl AsyncFnOnce(&Client) -> Result<Answer, ClientError>,
) -> ExitCode {
    let json = connection.json;
    let outcome = actix_rt::System::new().block_on(async {
        let client = Client::new(connection)?;
        command(&client).await
    });
    match outcome {
        Ok(answer) => {
            say(&answer.render(json));
            ExitCode::from(answer.status)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.status())
        }
    }
}
