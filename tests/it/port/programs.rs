//! The programs over TLS, and the server where the machine has no room for more connections.

use campaign_automation::auth::digest_of;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::{Client, ask};
use crate::support::certificates::{Authority, Files, Pair};
use crate::support::process::{CAMPAIGN_TICK, CAMPAIGNCTL, CAMPAIGND, Served, check, program, run};

/// Puts files in the place of others, as one would who knows that they are read.
fn replace(files: &Files, pair: &Pair) {
    for (name, text) in [("server.pem", &pair.certificate), ("server.key", &pair.key)] {
        let aside = files.write("aside", text);
        std::fs::rename(aside, files.path(name)).expect("replaced");
    }
}

#[test]
fn programs_call_by_tls() {
    let (files, authority, callers) = (Files::new(), Authority::new("ours"), Authority::new("callers"));
    files.pair("server", &authority.server());
    files.pair("crm", &callers.client_until("spiffe://example.com/crm", 4000));
    files.write("ca.pem", &authority.pem);
    files.write("clients.pem", &callers.pem);
    files.write("other.pem", &Authority::new("another").pem);
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--tls-cert-file",
        "server.pem",
        "--tls-key-file",
        "server.key",
    ];
    let mutual = [&flags[..], &["--tls-client-ca-file", "clients.pem"]].concat();
    let shown = ["--client-cert-file", "crm.pem", "--client-key-file", "crm.key"];
    let trusting = ["--ca-file", "ca.pem"];
    for (flags, needs_certificate) in [(&flags[..], false), (&mutual, true)] {
        let served = Served::start(program(CAMPAIGND, files.folder(), flags));
        let url = format!("https://localhost:{}", served.addr.port());
        let call = |path: &str, arguments: &[&[&str]]| {
            let mut command = program(path, files.folder(), &arguments.concat());
            command.env("CAMPAIGN_SERVER", &url);
            run(command)
        };
        let certificate: &[&str] = if needs_certificate { &shown } else { &[] };
        let done = call(CAMPAIGN_TICK, &[&["hourly"], &trusting, certificate]);
        check(&done, 0, &["hourly tick: nothing to do"]);
        let done = call(CAMPAIGNCTL, &[&["hold", "list"], &trusting, certificate]);
        check(&done, 0, &["nothing is held"]);
        // Who does not trust the server does not call it.
        for trusting in [&[][..], &["--ca-file", "other.pem"]] {
            let refused = call(CAMPAIGN_TICK, &[&["hourly"], trusting, certificate]);
            check(&refused, 2, &["can't be reached", "UnknownIssuer"]);
            let refused = call(CAMPAIGNCTL, &[&["hold", "list"], trusting, certificate]);
            check(&refused, 1, &["can't be reached", "UnknownIssuer"]);
        }
        if needs_certificate {
            let refused = call(CAMPAIGN_TICK, &[&["hourly"], &trusting]);
            check(&refused, 2, &["CertificateRequired"]);
            let refused = call(CAMPAIGNCTL, &[&["hold", "list"], &trusting]);
            check(&refused, 1, &["CertificateRequired"]);
        }
        let plain = format!("http://localhost:{}", served.addr.port());
        let refused = call(CAMPAIGN_TICK, &[&["hourly", "--server", &plain]]);
        check(&refused, 75, &[]);
    }
    let cases: [(&[&str], &str); 5] = [
        (
            &["--ca-file", "missing.pem"],
            "CAMPAIGN_CA_FILE) missing.pem can't be read",
        ),
        (&["--ca-file", "crm.key"], "there is no certificate in it"),
        (&["--client-cert-file", "crm.pem"], "CAMPAIGN_CLIENT_KEY_FILE"),
        (
            &["--client-cert-file", "crm.pem", "--client-key-file", "server.key"],
            "CAMPAIGN_CLIENT_CERT_FILE",
        ),
        (&["--server", "ftp://localhost"], "must begin with http:// or https://"),
    ];
    for (arguments, says) in cases {
        let with = [&["hourly", "--server", "https://localhost:1"], arguments].concat();
        let with = if arguments[0] == "--server" {
            [&["hourly"], arguments].concat()
        } else {
            with
        };
        check(&run(program(CAMPAIGN_TICK, files.folder(), &with)), 2, &[says]);
    }
    let plainly = [&["hourly", "--server", "http://localhost:1"], &shown[..]].concat();
    check(
        &run(program(CAMPAIGN_TICK, files.folder(), &plainly)),
        2,
        &["over https:// only"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_to_new_connections_and_a_bad_one_to_nobody() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let [first, second] = [authority.server(), authority.server()];
    files.pair("server", &first);
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--tls-cert-file",
        "server.pem",
        "--tls-key-file",
        "server.key",
    ];
    let served = Served::start(program(CAMPAIGND, files.folder(), &flags));
    let shown = async || {
        let stream = Client::of(&authority).connect(served.addr).await.expect("a connection");
        let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
        (chain[0].to_vec(), stream)
    };
    let (before, mut old) = shown().await;
    assert_eq!(ask(&mut old).await, Some(200));
    // A key that is not the certificate's.
    let mixed = Pair {
        certificate: second.certificate.clone(),
        key: first.key.clone(),
    };
    replace(&files, &mixed);
    served.until("stays as it was");
    assert_eq!(shown().await.0, before);
    replace(&files, &second);
    served.until("was read again");
    let (after, mut new) = shown().await;
    assert_ne!(after, before);
    assert_eq!((ask(&mut new).await, ask(&mut old).await), (Some(200), Some(200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_held_against_new_authorities_and_those_that_are_there_go_on() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let [old, new] = ["old", "new"].map(Authority::new);
    files.pair("server", &authority.server());
    files.write("clients.pem", &old.pem);
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--tls-cert-file",
        "server.pem",
        "--tls-key-file",
        "server.key",
        "--tls-client-ca-file",
        "clients.pem",
    ];
    let served = Served::start(program(CAMPAIGND, files.folder(), &flags));
    let [of_old, of_new] = [&old, &new].map(|authority| authority.client_until("spiffe://example.com/crm", 4000));
    let asked = async |shown: &Pair| {
        let connected = Client::of(&authority).showing(shown).connect(served.addr).await;
        // With TLS 1.3 a client thinks that it is connected before the server has looked.
        ask(&mut connected.ok()?).await
    };
    assert_eq!((asked(&of_old).await, asked(&of_new).await), (Some(200), None));
    let there = Client::of(&authority).showing(&of_old).connect(served.addr).await;
    let mut there = there.expect("a connection");
    assert_eq!(ask(&mut there).await, Some(200));
    let replace = |text: &str| {
        let aside = files.write("aside", text);
        std::fs::rename(aside, files.path("clients.pem")).expect("replaced");
    };
    replace("");
    served.until("stays as it was");
    assert_eq!((asked(&of_old).await, asked(&of_new).await), (Some(200), None));
    replace(&new.pem);
    served.until("was read again");
    assert_eq!((asked(&of_old).await, asked(&of_new).await), (None, Some(200)));
    assert_eq!(ask(&mut there).await, Some(200));
}

#[test]
fn it_is_said_at_the_start_who_can_call() {
    let files = Files::new();
    let callers = format!(
        "callers:\n  - {{name: crm, roles: [viewer], token_sha256: {}}}\n",
        digest_of("x")
    );
    files.write("callers.yaml", &callers);
    let only_here = "nobody is asked who he is, so only this machine can call";
    let anybody = "nobody is asked who he is: whoever reaches this address may read and send everything";
    let plain = "tokens and data are not encrypted, unless a proxy sees to it";
    let asked = ["--callers-file", "callers.yaml"];
    let public = ["--listen", "0.0.0.0:0", "--insecure-public"];
    for (flags, says) in [
        (&["--listen", "127.0.0.1:0"][..], Some(("INFO", only_here))),
        (&[&["--listen", "127.0.0.1:0"][..], &asked].concat(), None),
        (&public, Some(("WARN", anybody))),
        (&[&public[..], &asked].concat(), Some(("WARN", plain))),
    ] {
        let served = Served::start(program(CAMPAIGND, files.folder(), flags));
        served.signal("TERM");
        let log = served.rest_of_log();
        for (level, words) in [("INFO", only_here), ("WARN", anybody), ("WARN", plain)] {
            let found = log.iter().find(|line| line.contains(words));
            let is_said = found.is_some_and(|line| line.contains(level));
            assert_eq!(is_said, says == Some((level, words)), "{flags:?}: {log:#?}");
        }
    }
}

/// Asks for a document on a connection of its own; none: there is no answer.
fn get(served: &Served) -> Option<String> {
    let mut stream = TcpStream::connect(served.addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    let mut read = String::new();
    stream.read_to_string(&mut read).ok()?;
    read.starts_with("HTTP/1.1 200").then_some(read)
}

#[test]
fn a_server_without_room_for_connections_goes_on_when_there_is_some() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("sh");
    let script = format!("ulimit -n 64; exec {CAMPAIGND} --listen 127.0.0.1:0");
    command
        .args(["-c", &script])
        .current_dir(directory.path())
        .env_clear()
        .env("CAMPAIGN_SECRET_KEY_FILE", crate::support::app::SECRET);
    let served = Served::start(command);
    assert!(get(&served).is_some());
    let crowd: Vec<TcpStream> = (0..80)
        .map(|_| TcpStream::connect(served.addr).expect("a connection"))
        .collect();
    served.until("no connection can be accepted");
    drop(crowd);
    assert!(get(&served).is_some(), "it accepts no more");
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0));
}
