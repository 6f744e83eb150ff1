//! The programs as they are run: real processes, their configuration, what they say and how they end.

use std::net::TcpListener;
use std::path::Path;

use crate::support::process::{CAMPAIGN_TICK, CAMPAIGNCTL, CAMPAIGND, Served, check, program, run};
use crate::support::{Backend, TestDatabase};

#[test]
fn a_server_serves_ticks_and_ends_when_told() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().expect("a directory");
        let served = Served::start(program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]));
        let server = format!("http://{}", served.addr);
        for (tick, says) in [
            ("hourly", "hourly tick: nothing to do"),
            ("daily", "daily tick: nothing to do"),
        ] {
            let mut command = program(CAMPAIGN_TICK, directory.path(), &[tick, "--tick-id", "t1"]);
            command.env("CAMPAIGN_SERVER", &server);
            check(&run(command), 0, &[says]);
        }
        let refused = [
            (vec!["hourly", "--tick-id", "a b"], "tick_id"),
            (vec!["hourly", "--timeline-id=-1"], "timeline"),
        ];
        for (arguments, says) in refused {
            let mut command = program(CAMPAIGN_TICK, directory.path(), &arguments);
            command.env("CAMPAIGN_SERVER", &server);
            check(&run(command), 2, &[says]);
        }
        assert!(directory.path().join("campaign.db").exists(), "the embedded database");
        served.signal(signal);
        served.until("stopping");
        assert_eq!(served.ended().code(), Some(0));
    }
}

#[test]
fn a_tick_says_whether_to_try_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let away = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let away = format!("http://{away}");
    let cases: [(&[&str], i32, &str); 8] = [
        (&[], 2, "Usage"),
        (&["weekly"], 2, "weekly"),
        (&["hourly", "--partition", "4/4"], 2, "--partition"),
        (&["hourly", "--max-actions", "0"], 2, "--max-actions"),
        (&["daily", "--deadline", "soon"], 2, "--deadline"),
        (&["daily", "--server", "not a url"], 2, "CAMPAIGN_SERVER"),
        (&["hourly", "--server", &away], 75, "can't be reached"),
        (&["--help"], 0, "Exit codes"),
    ];
    for (arguments, code, says) in cases {
        check(&run(program(CAMPAIGN_TICK, directory.path(), arguments)), code, &[says]);
    }
}

#[test]
fn a_bad_configuration_names_its_variable() {
    let directory = tempfile::tempdir().expect("a directory");
    let cases = [
        ("CAMPAIGN_LISTEN", "0.0.0.0:0"),
        ("CAMPAIGN_LISTEN", "nowhere"),
        ("CAMPAIGN_DATABASE_URL", "mysql://localhost/x"),
        ("CAMPAIGN_DATABASE_URL", "sqlite:///no/such/folder/campaign.db"),
        ("CAMPAIGN_DATABASE_CONNECTIONS", "1"),
        ("CAMPAIGN_DEFAULT_TIME_ZONE", "US/Eastern"),
        ("CAMPAIGN_EMAIL_URL", "ftp://example.com"),
        ("CAMPAIGN_EMAIL_FROM", "nobody"),
        ("CAMPAIGN_SMS_URL", "smtp://example.com"),
        ("CAMPAIGN_EMAIL_CONCURRENCY", "0"),
        ("CAMPAIGN_LEASE", "60s"),
        ("CAMPAIGN_SECRET_KEY_FILE", "no-such-file"),
        ("CAMPAIGN_SMS_HOURS", "8-21"),
        ("CAMPAIGN_SEND_TIMEOUT", "1 minute"),
        ("CAMPAIGN_RETRY_ATTEMPTS", "0"),
        ("CAMPAIGN_LOG", "a=b=c"),
        ("CAMPAIGN_LOG_FORMAT", "xml"),
    ];
    for (variable, value) in cases {
        let mut command = program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]);
        if variable == "CAMPAIGN_LISTEN" {
            command = program(CAMPAIGND, directory.path(), &[]);
        }
        command.env(variable, value);
        let output = run(command);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{variable}={value}: {:?} {text}",
            output.status
        );
        assert!(text.contains(variable), "{variable}={value} is not named: {text}");
    }
    let mut command = program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]);
    command.env("CAMPAIGN_EMAIL_URL", "smtp://127.0.0.1:1");
    check(&run(command), 1, &["CAMPAIGN_EMAIL_FROM"]);
}

/// What is running, and with which arguments, is shown to whoever is on the machine.
#[test]
fn a_secret_is_no_argument() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = "postgres://campaign:t0ken@127.0.0.1:1/x";
    for (arguments, variable) in [
        (["migrate", "--database-url", database], "CAMPAIGN_DATABASE_URL"),
        (
            ["serve", "--webhook-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "CAMPAIGN_WEBHOOK_SECRET",
        ),
    ] {
        let output = run(program(CAMPAIGND, directory.path(), &arguments));
        check(&output, 2, &[variable, "others"]);
    }
    let mut command = program(CAMPAIGND, directory.path(), &["migrate"]);
    command.env("CAMPAIGN_DATABASE_URL", database);
    check(&run(command), 1, &["postgres://127.0.0.1:1/x"]);
    // Clients get their tokens in other ways, and servers have no logins.
    for path in [CAMPAIGNCTL, CAMPAIGN_TICK] {
        let arguments: &[&str] = if path == CAMPAIGN_TICK { &["hourly"] } else { &["check"] };
        let server = ["--server", "http://a:t0ken@127.0.0.1:1"];
        let output = run(program(path, directory.path(), &[arguments, &server].concat()));
        check(&output, 2, &["CAMPAIGN_SERVER", "has a password in it"]);
    }
}

#[tokio::test]
async fn migrating_twice_is_migrating_once() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let Some(database) = TestDatabase::create(backend).await else {
            continue;
        };
        let directory = tempfile::tempdir().expect("a directory");
        if backend == Backend::Postgres {
            let mut early = program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]);
            early.env("CAMPAIGN_DATABASE_URL", &database.url);
            check(&run(early), 1, &["CAMPAIGN_EMAIL_URL"]);
            let mut early = program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]);
            early.env("CAMPAIGN_DATABASE_URL", &database.url);
            for channel in ["EMAIL", "SMS", "PHONE", "INTERACTION"] {
                early.env(format!("CAMPAIGN_{channel}_URL"), "outbox:outbox");
            }
            check(&run(early), 1, &["campaignd migrate"]);
            let mut early = program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]);
            early.env("CAMPAIGN_DATABASE_URL", &database.url);
            early.env_remove("CAMPAIGN_SECRET_KEY_FILE");
            for channel in ["EMAIL", "SMS", "PHONE", "INTERACTION"] {
                early.env(format!("CAMPAIGN_{channel}_URL"), "outbox:outbox");
            }
            check(&run(early), 1, &["CAMPAIGN_SECRET_KEY_FILE"]);
        }
        for _ in 0..2 {
            let mut migrate = program(CAMPAIGND, directory.path(), &["migrate"]);
            migrate.env("CAMPAIGN_DATABASE_URL", &database.url);
            check(&run(migrate), 0, &["up to date"]);
        }
        let mut command = program(CAMPAIGND, directory.path(), &["serve", "--listen", "127.0.0.1:0"]);
        command.env("CAMPAIGN_DATABASE_URL", &database.url);
        for channel in ["EMAIL", "SMS", "PHONE", "INTERACTION"] {
            command.env(format!("CAMPAIGN_{channel}_URL"), "outbox:outbox");
        }
        let served = Served::start(command);
        served.signal("TERM");
        assert_eq!(served.ended().code(), Some(0), "{backend:?}");
    }
}

/// The variables that a text names.
fn variables(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let mut found: Vec<String> = words
        .filter(|word| word.starts_with("CAMPAIGN_") && word.len() > 9)
        .map(str::to_owned)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The variables that source files declare, as `env = "…"`.
fn declared(paths: &[&str]) -> Vec<String> {
    let read = |path: &&str| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a source file");
        let names = text.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
        names.collect::<Vec<_>>().join(" ")
    };
    variables(&paths.iter().map(read).collect::<Vec<_>>().join(" "))
}

#[test]
fn help_and_readme_name_every_variable() {
    let directory = tempfile::tempdir().expect("a directory");
    let help = |path: &str, arguments: &[&str]| {
        let output = run(program(path, directory.path(), arguments));
        variables(&String::from_utf8_lossy(&output.stdout))
    };
    let server = declared(&[
        "src/config.rs",
        "src/config/auth.rs",
        "src/config/channels.rs",
        "src/config/feedback.rs",
        "src/config/limits.rs",
        "src/config/listener.rs",
        "src/config/monitor.rs",
        "src/config/providers.rs",
    ]);
    assert!(server.len() > 20, "{server:?}");
    assert_eq!(help(CAMPAIGND, &["--help"]), server);
    let mut client = declared(&[
        "src/client/server.rs",
        "src/client/tick.rs",
        "src/client/token.rs",
        "src/client/trace.rs",
    ]);
    // The token itself is in no flag, so that nobody writes it where others can read it.
    client.push("CAMPAIGN_TOKEN".to_owned());
    client.sort_unstable();
    for tick in ["hourly", "daily"] {
        assert_eq!(help(CAMPAIGN_TICK, &[tick, "--help"]), client);
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let Ok(readme) = std::fs::read_to_string(readme) else {
        return;
    };
    let rows: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with('|') && line.contains("CAMPAIGN_"))
        .collect();
    let named = variables(&rows.join("\n"));
    assert_eq!(named, server, "README.md's table of the configuration");
    for variable in client {
        assert!(
            variables(&readme).contains(&variable),
            "README.md says nothing of {variable}"
        );
    }
}

#[test]
fn sending_is_held_at_a_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let served = Served::start(program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]));
    let server = format!("http://{}", served.addr);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let call = |path: &str, arguments: &[&str]| {
        let mut command = program(path, root, arguments);
        command.env("CAMPAIGN_SERVER", &server);
        run(command)
    };
    check(&call(CAMPAIGNCTL, &["apply", "examples"]), 0, &["hook-90-day"]);
    let cases: [(&[&str], i32, &str); 12] = [
        (&["list"], 0, "nothing is held"),
        (
            &["set", "--channel", "sms", "--reason", "down", "--for", "2h"],
            0,
            "held: channel sms, from 20",
        ),
        (
            &["set", "--timeline", "hook-90-day", "--reason", "a typo"],
            0,
            "held: timeline 1, from 20",
        ),
        (
            &[
                "set",
                "--campaign",
                "HOOK-001",
                "--reason",
                "a",
                "--until",
                "2020-01-01T00:00:00Z",
            ],
            1,
            "end_time must be",
        ),
        (
            &["set", "--campaign", "NONE", "--reason", "a"],
            1,
            "campaign \"NONE\" not found",
        ),
        (
            &["set", "--timeline", "nothing", "--reason", "a"],
            1,
            "timeline \"nothing\" not found",
        ),
        (&["set", "--all"], 2, "--reason"),
        (&["set", "--reason", "a"], 2, "--all"),
        (
            &["set", "--all", "--channel", "sms", "--reason", "a"],
            2,
            "cannot be used with",
        ),
        (&["list"], 0, "until it is released: a typo"),
        (&["release", "--timeline", "hook-90-day"], 0, "released: timeline 1"),
        (&["release", "--all"], 1, "there is no hold on \"all\""),
    ];
    for (arguments, code, says) in cases {
        check(&call(CAMPAIGNCTL, &[&["hold"], arguments].concat()), code, &[says]);
    }
    served.until("sending is held, channel:sms, until");
    served.until("sending is no longer held, timeline:1");
    let tick = call(CAMPAIGN_TICK, &["hourly"]);
    check(
        &tick,
        0,
        &[
            "hourly tick: nothing to do",
            "hourly tick: sending is held: channel sms",
        ],
    );
}

/// A run is explained, and what README.md shows of a simulation is what comes out.
#[test]
fn runs_are_explained_and_simulated_at_a_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let served = Served::start(program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]));
    let server = format!("http://{}", served.addr);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ctl = |arguments: &[&str]| {
        let mut command = program(CAMPAIGNCTL, root, arguments);
        command.env("CAMPAIGN_SERVER", &server);
        run(command)
    };
    let applied = ctl(&["apply", "examples"]);
    check(
        &applied,
        0,
        &["timeline hook-90-day (id 1): created", "customer ruby: created"],
    );
    check(&ctl(&["start", "anna", "hook-90-day"]), 0, &["anna"]);
    check(
        &ctl(&["explain", "anna"]),
        0,
        &[
            "of hook-90-day: active, day 1",
            "HOOK-001",
            "Its day has not come: it is due at",
        ],
    );
    check(&ctl(&["explain", "nobody"]), 1, &["customer \"nobody\" not found"]);
    let simulate =
        "simulate examples/hook-90-day/timeline.yaml --customer anna --script examples/hook-90-day/what-if.yaml";
    let output = ctl(&simulate.split(' ').collect::<Vec<_>>());
    check(
        &output,
        0,
        &["HOOK-001", "skipped, opened a mail within 48 h", "active on day"],
    );
    if let Ok(readme) = std::fs::read_to_string(root.join("README.md")) {
        let shown = String::from_utf8(output.stdout).expect("text");
        assert!(
            readme.contains(simulate) && readme.contains(&shown),
            "README.md shows something else than:\n{shown}"
        );
    }
    let stored = ctl(&[
        "simulate",
        "hook-90-day",
        "--zone",
        "Asia/Tokyo",
        "--start",
        "2026-03-02T08:00:00Z",
    ]);
    check(
        &stored,
        0,
        &[
            "started, in Asia/Tokyo",
            "the text can't be filled in",
            "completed on day 90 of 90",
        ],
    );
    for (arguments, says) in [
        (&["simulate", "nothing"][..], "timeline \"nothing\" not found"),
        (
            &["simulate", "hook-90-day", "--zone", "Mars"],
            "customer.time_zone must be",
        ),
        (&["simulate", "hook-90-day", "--start", "tomorrow"], "--start"),
        (
            &["simulate", "hook-90-day", "--customer", "a", "--zone", "Asia/Tokyo"],
            "cannot be used with",
        ),
        (
            &["simulate", "hook-90-day", "--script", "examples/customers.yaml"],
            "no SimulateTimelineRequest",
        ),
    ] {
        let output = ctl(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        check(&output, output.status.code().expect("a code"), &[says]);
    }
}
