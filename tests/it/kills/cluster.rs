//! A PostgreSQL of its own for a test, which it may stop as a power cut would.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

use crate::support::process::{check, run};

/// A server with its data. It stops when it is dropped.
pub(super) struct Cluster {
    /// The folder of `initdb` and `pg_ctl`.
    programs: PathBuf,
    directory: TempDir,
    port: u16,
}

impl Cluster {
    /// A running server with settings as they come, fsync and synchronous commits among them. None: this machine has no server
    /// programs, which is a failure in CI.
    pub(super) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let missing = "no initdb and pg_ctl in `pg_config --bindir` or /usr/lib/postgresql/*/bin: PostgreSQL's server programs \
                           are needed to stop it under load";
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("skipped: {missing}");
            return None;
        };
        let port = TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr();
        let cluster = Self {
            programs,
            directory: tempfile::tempdir().expect("a directory"),
            port: port.expect("an address").port(),
        };
        if is_root() {
            let mut chown = Command::new("chown");
            chown.arg("postgres").arg(cluster.directory.path());
            check(&run(chown), 0, &[]);
        }
        let data = cluster.data();
        cluster.run("initdb", |command| {
            command
                .args(["--username", "campaign", "--auth", "trust", "--encoding", "UTF8"])
                .args(["--locale", "C", "--no-sync", "--pgdata"])
                .arg(&data);
        });
        let mut settings = String::new();
        let folder = cluster.directory.path().display();
        writeln!(settings, "listen_addresses = '127.0.0.1'\nport = {}", cluster.port).expect("a string");
        writeln!(settings, "unix_socket_directories = '{folder}'\nshared_buffers = 32MB").expect("a string");
        let mut file = std::fs::OpenOptions::new();
        let file = file.append(true).open(data.join("postgresql.conf"));
        let written = file.and_then(|mut file| file.write_all(settings.as_bytes()));
        written.expect("its configuration");
        cluster.start_again();
        Some(cluster)
    }

    /// Where a database of this name is, which the server need not have yet.
    pub(super) fn url(&self, name: &str) -> String {
        format!("postgres://campaign@127.0.0.1:{}/{name}", self.port)
    }

    /// Stops all of its processes where they are. What was not on the disk is lost.
    pub(super) fn stop_immediately(&self) {
        let data = self.data();
        self.run("pg_ctl", |command| {
            command
                .args(["stop", "--wait", "--mode", "immediate", "--pgdata"])
                .arg(data);
        });
    }

    /// Starts it, and waits until it has recovered.
    pub(super) fn start_again(&self) {
        let (data, log) = (self.data(), self.directory.path().join("log"));
        self.run("pg_ctl", |command| {
            // With a log of its own: it would keep the pipes of this process open.
            command
                .args(["start", "--wait", "--pgdata"])
                .arg(data)
                .arg("--log")
                .arg(log);
        });
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command)) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        arguments(&mut command);
        check(&run(command), 0, &[]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The test fails already, or it is over.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop_immediately()));
    }
}

/// Whether this process is root's, whom PostgreSQL refuses.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The folder of the server's programs, the newest if there are several.
fn programs() -> Option<PathBuf> {
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.and_then(|output| Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end())));
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut installed: Vec<PathBuf> = installed
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    let version = |path: &PathBuf| {
        path.iter()
            .rev()
            .nth(1)
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
    };
    installed.sort_by_key(version);
    let is_whole = |path: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| path.join(name).exists())
    };
    asked.into_iter().chain(installed.into_iter().rev()).find(is_whole)
}
