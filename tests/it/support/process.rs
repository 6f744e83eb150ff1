//! The programs as processes: run to their end, or serving until they are dropped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::canaries;

/// The server.
pub(crate) const CAMPAIGND: &str = env!("CARGO_BIN_EXE_campaignd");
/// The tool for people.
pub(crate) const CAMPAIGNCTL: &str = env!("CARGO_BIN_EXE_campaignctl");
/// What CronJobs run.
pub(crate) const CAMPAIGN_TICK: &str = env!("CARGO_BIN_EXE_campaign-tick");

/// Bounds what must happen by itself.
const PATIENCE: Duration = Duration::from_secs(180);

/// A program with no environment but what it is given, and the secret of tests.
pub(crate) fn program(path: &str, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("CAMPAIGN_SECRET_KEY_FILE", super::app::SECRET)
        .stdin(Stdio::null());
    command
}

/// Runs a program to its end. What it says to standard error is looked through; on the other it may answer who asks it.
pub(crate) fn run(mut command: Command) -> Output {
    let (sender, receiver) = channel();
    let name = format!("{command:?}");
    std::thread::spawn(move || sender.send(command.output()));
    let output = receiver.recv_timeout(PATIENCE);
    let output = output.unwrap_or_else(|_| panic!("{name} does not end"));
    let output = output.expect("a program that runs");
    canaries::check_text(&name, &String::from_utf8_lossy(&output.stderr));
    output
}

/// Checks how a program ended, and what it said.
#[track_caller]
pub(crate) fn check(output: &Output, code: i32, says: &[&str]) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{text}");
    for words in says {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

/// A program that runs until it is dropped, most often a `campaignd` that serves. All that it logs, at its loudest unless it is
/// told otherwise, is looked through.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    log: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Served {
    /// Starts it, and waits until it serves.
    pub(crate) fn start(command: Command) -> Self {
        let mut served = Self::begin(command);
        let entry = served.until("serving gRPC");
        served.addr = entry["addr"]
            .as_str()
            .and_then(|addr| addr.parse().ok())
            .expect("an address in the log");
        served
    }

    /// Starts it.
    pub(crate) fn begin(mut command: Command) -> Self {
        if !command.get_envs().any(|(name, _)| name == "CAMPAIGN_LOG") {
            command.env("CAMPAIGN_LOG", "trace");
        }
        command
            .env("CAMPAIGN_LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("a program that runs");
        let (sender, log) = channel();
        let lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                canaries::look("the log of a program", &line);
                // To the end, also when nobody reads it.
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            log,
            reader: Some(reader),
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }

    /// Reads the log up to an entry with these words.
    pub(crate) fn until(&self, words: &str) -> serde_json::Value {
        loop {
            let line = self
                .log
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{words:?} is not in the log"));
            // There are thousands of these, and nobody waits for one.
            if [r#""level":"TRACE""#, r#""level":"DEBUG""#]
                .iter()
                .any(|noise| line.contains(noise))
            {
                continue;
            }
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if entry["message"].as_str().is_some_and(|message| message.contains(words)) {
                return entry;
            }
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
        assert!(sent.expect("a shell").success());
    }

    /// Waits until it hears of SIGTERM: until then the signal would end it, or nothing at all where it is the first process.
    pub(crate) fn until_it_hears(&self) {
        const SIGTERM: u32 = 15;
        let path = format!("/proc/{}/status", self.child.id());
        let begun = std::time::Instant::now();
        loop {
            let status = std::fs::read_to_string(&path).expect("a process");
            let mut caught = status.lines().filter_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.next().expect("the signals that it catches").trim();
            if u64::from_str_radix(caught, 16).expect("a mask") & 1 << (SIGTERM - 1) != 0 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it does nothing about signals: {status}");
            std::thread::yield_now();
        }
    }

    /// Waits until it has stopped itself, as SIGSTOP stops.
    pub(crate) fn until_asleep(&self) {
        let path = format!("/proc/{}/stat", self.child.id());
        let begun = std::time::Instant::now();
        loop {
            let stat = std::fs::read_to_string(&path).expect("a process");
            if stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not stop: {stat}");
            std::thread::yield_now();
        }
    }

    /// The log from here on, when it has ended.
    pub(crate) fn rest_of_log(self) -> Vec<String> {
        self.ended_saying().1
    }

    /// Waits until its log ends, and it with it.
    pub(crate) fn ended(self) -> ExitStatus {
        self.ended_saying().0
    }

    /// Waits until its log ends, and it with it; how that was, and the log from here on.
    pub(crate) fn ended_saying(mut self) -> (ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        (self.child.wait().expect("its end"), lines)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The rest of its log may still be on its way.
        let read = self.reader.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(read, Some(Ok(()))), "its log was read");
            canaries::check();
        }
    }
}
