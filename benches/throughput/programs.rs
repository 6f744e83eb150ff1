//! Programs of others, which are the floor of some lines or take what is sent.

use anyhow::{Context as _, ensure};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

/// How many clients `pgbench` has.
pub(crate) const CLIENTS: usize = 32;

/// That statements of `pgbench` are prepared, which by default they are not.
pub(crate) const PREPARED: [&str; 2] = ["-M", "prepared"];

/// Has the clients of `pgbench` run transactions, each over its own connection; how many there were in a second.
pub(crate) fn pgbench(place: &Place, arguments: &[&str], transactions: usize) -> anyhow::Result<f64> {
    let each = transactions.div_ceil(CLIENTS).to_string();
    let clients = CLIENTS.to_string();
    let arguments = [arguments, &["-n", "-c", &clients, "-j", "2", "-t", &each]].concat();
    let told = pgbench_told(place, &arguments)?;
    let rate = told.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rate| rate.split(' ').next());
    Ok(rate.with_context(|| format!("no rate in: {told}"))?.parse()?)
}

/// Makes the tables of `pgbench`, with a million rows.
pub(crate) fn pgbench_tables(place: &Place) -> anyhow::Result<()> {
    pgbench_told(place, &["-i", "-q", "-s", "10"])?;
    Ok(())
}

fn pgbench_told(place: &Place, arguments: &[&str]) -> anyhow::Result<String> {
    let by_version = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = by_version.map(|version| version.path().join("bin")).collect();
    if let Ok(told) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8(told.stdout)?.trim().into());
    }
    let program = find("pgbench", folders).context("there is no pgbench: it comes with PostgreSQL's server")?;
    let done = Command::new(program).args(arguments).arg(&place.url).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "pgbench: {}: {said}", done.status);
    Ok(String::from_utf8(done.stdout)?)
}

/// A mail server that discards what it gets, `smtp-sink` of Postfix. It ends when it is dropped.
pub(crate) struct Sink {
    process: Child,
    pub(crate) addr: String,
}

impl Sink {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(postfix("smtp-sink")?);
        // As root it asks for a user to become.
        if Command::new("id").arg("-u").output()?.stdout == b"0\n" {
            command.args(["-u", "nobody"]);
        }
        if std::env::var("PIPELINING").is_ok_and(|given| given == "0") {
            command.arg("-p");
        }
        command.args([&addr, "1000"]).stdout(Stdio::null());
        let mut sink = Self {
            process: command.spawn()?,
            addr,
        };
        let begun = Instant::now();
        while TcpStream::connect(&sink.addr).is_err() {
            ensure!(sink.process.try_wait()?.is_none(), "smtp-sink ended");
            ensure!(begun.elapsed() < Duration::from_secs(10), "smtp-sink does not listen");
            std::thread::yield_now();
        }
        Ok(sink)
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.addr)
    }

    /// Sends it a mail from a file many times with `smtp-source`; how long that took.
    pub(crate) fn fill(&self, mail: &Path, mails: usize, connections: usize) -> anyhow::Result<Duration> {
        let mut command = Command::new(postfix("smtp-source")?);
        command
            .args(["-d", "-s", &connections.to_string(), "-m", &mails.to_string()])
            .args(["-f", "shop@example.com", "-t", "c00000001@example.com", "-F"])
            .args([mail, Path::new(&self.addr)]);
        let begun = Instant::now();
        let status = command.status()?;
        ensure!(status.success(), "smtp-source: {status}");
        Ok(begun.elapsed())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn postfix(program: &str) -> anyhow::Result<PathBuf> {
    let found = find(program, ["/usr/sbin".into()]);
    found.with_context(|| format!("there is no {program}: apt-get install postfix"))
}

/// A program, wherever `$PATH` ends.
fn find(program: &str, also_in: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(also_in);
    folders.map(|folder| folder.join(program)).find(|file| file.exists())
}
