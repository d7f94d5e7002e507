//! Throw-away PostgreSQL for tests.
//!
//! [`database`] gives a fresh database on a cluster that all test processes of a run share: the
//! first to ask starts it, a watcher ends and removes it some seconds after the last test process
//! is gone, however that went (locks end with their holders, so a killed test leaks nothing).
//! [`Cluster::start`] gives a cluster of one's own, to be stopped and started at will;
//! [`Cluster::german`] and [`Cluster::encrypted`] give odd ones.
//!
//! Clusters listen on a Unix socket alone (the encrypted one on loopback too) and live in the
//! temporary directory, because a checkout may lie where the `postgres` user cannot go and socket
//! paths must be short. The locks live under `target/`. As root, PostgreSQL runs as its own user.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::proxy::Proxy;

const MISSING: &str = "PostgreSQL's server programs are missing; install them with: \
                       apt-get update && apt-get install -y postgresql-15";

/// Seconds without a test process after which the shared cluster is removed.
const SHARED_IDLE_SECONDS: u32 = 5;

/// Names the socket; nothing listens on it as a port.
const PORT: u16 = 5432;

/// What a test cluster trades for speed, unless it is to be durable.
const FAST: &str = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off";

/// Ends a cluster once nobody holds the users' lock: `$1` watcher's lock, `$2` start lock,
/// `$3` users' lock, `$4` quiet seconds, `$5` file that names the cluster, `$6` its directory,
/// then the command that stops it.
const WATCHER: &str = r#"
exec 9>>"$1"; flock -n 9 || exit 0
watcher=$1 start=$2 users=$3 idle=$4 pointer=$5 directory=$6; shift 6
quiet=0
while :; do
    sleep 1
    if flock -n -x "$users" true; then quiet=$((quiet + 1)); else quiet=0; fi
    [ "$quiet" -lt "$idle" ] && continue
    exec 8>>"$start"; flock -x 8
    if flock -n -x "$users" true; then "$@"; rm -rf "$directory" "$pointer"; break; fi
    exec 8>&-; quiet=0
done
# Locks that others may wait for must stay; those of one test's cluster are done with.
[ "$idle" -gt 1 ] || rm -f "$watcher" "$start" "$users"
"#;

/// A database of one test on the shared cluster; dropped with this value.
pub(crate) struct Database {
    /// `postgres://postgres@/name?host=/socket/directory`
    pub(crate) url: String,
    name: String,
}

/// A fresh, empty database.
pub(crate) fn database() -> Database {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cluster = shared();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{count}", std::process::id());
    cluster.query(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    cluster.query(&format!("CREATE DATABASE {name}"));
    Database { url: cluster.url(&name), name }
}

impl Database {
    /// Runs statements in it and gives what they print.
    pub(crate) fn query(&self, statements: &str) -> String {
        let mut command = Command::new(binaries().join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url, "-c", statements]);
        String::from_utf8(run(&mut command).stdout).expect("psql prints UTF-8").trim().to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The watcher removes the whole cluster anyway; this only saves memory in a long run.
        drop(
            shared().psql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).output(),
        );
    }
}

/// A PostgreSQL cluster.
pub(crate) struct Cluster {
    directory: PathBuf,
    options: String,
    port: u16,
    /// `LANGUAGE` of its messages.
    language: &'static str,
    /// Held while this process may use the cluster; the watcher waits for it.
    users: File,
    is_shared: bool,
}

impl Cluster {
    /// A cluster of this test's own, removed with this value. A durable one syncs as production
    /// does.
    pub(crate) fn start(durable: bool) -> Self {
        let options = if durable { String::new() } else { FAST.to_owned() };
        Self::of(options, "C", |_| {})
    }

    /// One that speaks German. Translations come with the server; a locale is not needed.
    pub(crate) fn german() -> Self {
        Self::of(format!("{FAST} -c lc_messages=C.utf8"), "de", |_| {})
    }

    /// One that listens on loopback too, with a certificate for `localhost`.
    pub(crate) fn encrypted() -> Self {
        let options = format!("{FAST} -c ssl=on -c listen_addresses=127.0.0.1");
        Self::of(options, "C", |cluster| {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            cluster.port = port.local_addr().unwrap().port();
            cluster.make_certificate();
        })
    }

    fn of(options: String, language: &'static str, prepare: impl FnOnce(&mut Self)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let locks = Locks::named(&format!("postgres-{}-{count}", std::process::id()));
        let users = lock(&locks.users, FlockOperation::LockShared);
        let directory = create_directory();
        let port = PORT;
        let mut cluster = Self { directory, options, port, language, users, is_shared: false };
        cluster.initialize();
        prepare(&mut cluster);
        watch(&cluster, &locks, 1);
        cluster.resume();
        cluster
    }

    /// The URL of one of its databases; `postgres` always exists.
    pub(crate) fn url(&self, database: &str) -> String {
        let directory = self.directory.display();
        format!("postgres://postgres@/{database}?host={directory}&port={}", self.port)
    }

    /// The URL of a database over loopback, on clusters that listen there.
    pub(crate) fn encrypted_url(&self, database: &str, mode: &str) -> String {
        format!("postgres://postgres@localhost:{}/{database}?sslmode={mode}", self.port)
    }

    /// The file with the root of an encrypted cluster's certificate.
    pub(crate) fn root_certificate(&self) -> PathBuf {
        self.data().join("root.crt")
    }

    /// A network to this cluster, and the URL of a database through it.
    pub(crate) fn through_proxy(&self, database: &str) -> (Proxy, String) {
        let proxy = Proxy::to(&self.directory.join(format!(".s.PGSQL.{}", self.port)));
        let url =
            format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", proxy.port());
        (proxy, url)
    }

    /// Stops the server as a crash would.
    pub(crate) fn crash(&self) {
        run(&mut self.pg_ctl(&["stop", "-m", "immediate", "-w"]));
    }

    /// Starts the stopped server again.
    pub(crate) fn resume(&self) {
        let directory = self.directory.display();
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{directory}' \
             -c max_connections=200 -c shared_buffers=64MB -c port={} {}",
            self.port, self.options
        );
        let log = self.directory.join("log");
        let mut start = self.pg_ctl(&["start", "-w", "-t", "60", "-o", &options, "-l"]);
        run(start.arg(log).env("LANGUAGE", self.language));
    }

    /// Runs a statement in the `postgres` database and gives what it prints.
    pub(crate) fn query(&self, statement: &str) -> String {
        let output = run(&mut self.psql(statement));
        String::from_utf8(output.stdout).expect("psql prints UTF-8").trim().to_owned()
    }

    /// Runs a statement that must fail and gives what the server says.
    pub(crate) fn failure(&self, statement: &str) -> String {
        let output = self.psql(statement).output().expect("psql is installed");
        assert!(!output.status.success(), "{statement} succeeds");
        String::from_utf8(output.stderr).expect("psql prints UTF-8")
    }

    /// Holds a lock on a table of the `postgres` database for a while; returns when it is held.
    pub(crate) fn lock_table(&self, table: &str, span: Duration) -> std::thread::JoinHandle<()> {
        let statement = format!("BEGIN; LOCK TABLE {table}; SELECT pg_sleep({})", span.as_secs());
        let mut locking = self.psql(&statement);
        let thread = std::thread::spawn(move || drop(run(&mut locking)));
        let held = format!(
            "SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass \
             AND mode = 'AccessExclusiveLock' AND granted"
        );
        while self.query(&held) == "0" {}
        thread
    }

    fn initialize(&self) {
        let options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(program("initdb").args(options).arg("-D").arg(self.data()));
    }

    /// A root of our own and a certificate for `localhost` that it vouches for.
    fn make_certificate(&self) {
        let openssl = |arguments: &str| {
            let mut command = as_server(Path::new("openssl"));
            run(command.current_dir(self.data()).args(arguments.split(' ')));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";
        openssl(&format!("req -x509 {key} root.key -out root.crt -days 2 -subj /CN=tests"));
        openssl(&format!("req {key} server.key -out server.csr -subj /CN=localhost"));
        let names = self.directory.join("names");
        fs::write(&names, "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
        openssl(&format!(
            "x509 -req -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 2 \
             -out server.crt -extfile {}",
            names.display()
        ));
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Command {
        let mut command = program("pg_ctl");
        command.arg("-D").arg(self.data()).args(arguments);
        command
    }

    fn psql(&self, statement: &str) -> Command {
        let mut command = Command::new(binaries().join("psql"));
        command.args(["-XAtq", "-U", "postgres", "-p", &self.port.to_string(), "-h"]);
        command.arg(&self.directory);
        command.args(["-d", "postgres", "-c", statement]);
        command
    }

    fn is_alive(&self) -> bool {
        let mut command = Command::new(binaries().join("pg_isready"));
        command.args(["-q", "-p", &self.port.to_string(), "-h"]).arg(&self.directory);
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.is_shared {
            drop(self.pg_ctl(&["stop", "-m", "immediate", "-w"]).output());
            drop(fs::remove_dir_all(&self.directory));
            // The watcher is free to go; a lock that cannot be let go ends with this process.
            let _freed = flock(&self.users, FlockOperation::Unlock);
        }
    }
}

/// The files by which processes agree about one cluster.
struct Locks {
    start: PathBuf,
    users: PathBuf,
    watcher: PathBuf,
    /// Holds the directory of the cluster while there is one.
    pointer: PathBuf,
}

impl Locks {
    fn named(name: &str) -> Self {
        let file = |end: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{end}"));
        Self {
            start: file("start"),
            users: file("users"),
            watcher: file("watcher"),
            pointer: file("cluster"),
        }
    }
}

/// The cluster that all test processes share, started if it does not run.
fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let locks = Locks::named("postgres");
        let starting = lock(&locks.start, FlockOperation::LockExclusive);
        let users = lock(&locks.users, FlockOperation::LockShared);
        let known = fs::read_to_string(&locks.pointer).ok().map(PathBuf::from);
        let adopt = |directory| Cluster {
            directory,
            options: FAST.to_owned(),
            port: PORT,
            language: "C",
            users: users.try_clone().expect("the lock's file can be shared"),
            is_shared: true,
        };
        let cluster = match known.map(adopt) {
            Some(cluster) if cluster.is_alive() => cluster,
            stale => {
                if let Some(dead) = stale {
                    drop(dead.pg_ctl(&["stop", "-m", "immediate", "-w"]).output());
                    drop(fs::remove_dir_all(&dead.directory));
                }
                let cluster = adopt(create_directory());
                let directory = cluster.directory.to_str().expect("the path is UTF-8");
                fs::write(&locks.pointer, directory).expect("the pointer can be written");
                cluster.initialize();
                cluster.resume();
                cluster
            }
        };
        watch(&cluster, &locks, SHARED_IDLE_SECONDS);
        drop(starting);
        cluster
    })
}

/// Sees to it that a watcher looks after the cluster; a second one ends by itself.
fn watch(cluster: &Cluster, locks: &Locks, idle_seconds: u32) {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHER, "postgres-watcher"]);
    command.args([&locks.watcher, &locks.start, &locks.users]);
    command.arg(idle_seconds.to_string()).arg(&locks.pointer).arg(&cluster.directory);
    let stop = cluster.pg_ctl(&["stop", "-m", "immediate", "-w"]);
    command.arg(stop.get_program()).args(stop.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: ending a test's processes must not end the watcher.
    let watcher = command.process_group(0).current_dir("/").spawn();
    drop(watcher.expect("sh and flock (util-linux) are installed"));
}

fn lock(path: &Path, operation: FlockOperation) -> File {
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp can be made");
    let file = File::options().create(true).append(true).open(path).expect("a lock can be opened");
    flock(&file, operation).expect("a lock can be taken");
    file
}

fn create_directory() -> PathBuf {
    let directory = tempfile::Builder::new()
        .prefix("carillon-postgres-")
        .tempdir()
        .expect("a temporary directory can be made")
        .keep();
    if let Some(user) = server_user() {
        let id = run(Command::new("id").args(["-u", user])).stdout;
        let id = String::from_utf8(id).expect("a number").trim().parse().expect("a number");
        chown(&directory, Some(id), None).expect("root can give a directory away");
    }
    directory
}

/// The user that PostgreSQL runs as when we are root, which it refuses to run as.
fn server_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("postgres")
}

/// A server program, run as a user that PostgreSQL accepts.
fn program(name: &str) -> Command {
    as_server(&binaries().join(name))
}

/// A program that runs as the server does.
fn as_server(path: &Path) -> Command {
    let mut command = match server_user() {
        None => Command::new(path),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(path);
            command
        }
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// The newest installed server's programs.
fn binaries() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut packaged: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
        packaged.sort();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = packaged.into_iter().rev().chain(std::env::split_paths(&path));
        places.find(|place| place.join("initdb").exists()).expect(MISSING)
    })
}

/// Runs a command to its end; its output is in the failure if it fails.
fn run(command: &mut Command) -> Output {
    // The server inherits these from pg_ctl; a pipe would stay open as long as it runs.
    let is_start = command.get_args().any(|argument| argument == "start");
    if is_start {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
    output
}

#[test]
fn two_databases_of_one_cluster_do_not_know_each_other() {
    let (first, second) = (database(), database());
    assert_ne!(first.url, second.url);
    let names = shared().query("SELECT datname FROM pg_database WHERE datname LIKE 'test_%'");
    for database in [&first, &second] {
        assert!(names.lines().any(|name| name == database.name), "{names}");
    }
}

#[test]
fn a_cluster_of_ones_own_keeps_its_data_over_a_crash() {
    let cluster = Cluster::start(true);
    assert_eq!(cluster.query("SHOW fsync"), "on");
    cluster.query("CREATE TABLE kept AS SELECT 7 AS value");
    cluster.crash();
    assert!(!cluster.is_alive());
    cluster.resume();
    assert_eq!(cluster.query("SELECT value FROM kept"), "7");
    assert!(cluster.url("postgres").starts_with("postgres://postgres@/postgres?host=/"));
}
