//! The programs: what they send and refuse to send, how they end, and that no token is in any log.

use campaign_automation::auth::digest_of;
use std::process::Command;
use tempfile::TempDir;

use super::callers_file;
use crate::rest::ask_at;
use crate::support::jwt::{AUDIENCE, ISSUER, Signer, base64, claims, jwks};
use crate::support::process::{CAMPAIGN_TICK, CAMPAIGNCTL, CAMPAIGND, Served, check, program, run};

/// A server that knows callers, in a folder of its own.
fn served(folder: &TempDir, callers: &[(&str, &str)]) -> Served {
    std::fs::write(folder.path().join("callers.yaml"), callers_file(callers)).expect("written");
    let mut command = program(CAMPAIGND, folder.path(), &["--listen", "127.0.0.1:0"]);
    command.env("CAMPAIGN_CALLERS_FILE", "callers.yaml");
    Served::start(command)
}

fn client(path: &str, folder: &TempDir, server: &str, arguments: &[&str]) -> Command {
    let mut command = program(path, folder.path(), arguments);
    command.env("CAMPAIGN_SERVER", server);
    command
}

#[test]
fn the_programs_say_who_calls() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = served(&folder, &[("ticks", "scheduler"), ("ops", "operator")]);
    let server = format!("http://{}", served.addr);
    std::fs::write(folder.path().join("token"), "token-of-ticks\n").expect("written");
    let tick = |more: &[&str], variable: Option<&str>| {
        let mut command = client(CAMPAIGN_TICK, &folder, &server, &[&["hourly"], more].concat());
        command.envs(variable.map(|token| ("CAMPAIGN_TOKEN", token)));
        run(command)
    };
    check(&tick(&["--token-file=token"], None), 0, &["nothing to do"]);
    check(&tick(&[], Some("token-of-ticks")), 0, &["nothing to do"]);
    check(&tick(&[], None), 2, &["Unauthenticated", "no credentials"]);
    check(&tick(&[], Some("wrong")), 2, &["Unauthenticated"]);
    check(&tick(&["--token-file=none"], None), 2, &["CAMPAIGN_TOKEN_FILE"]);
    let ctl = |token: &str, arguments: &[&str]| {
        let mut command = client(CAMPAIGNCTL, &folder, &server, arguments);
        command.env("CAMPAIGN_TOKEN", token);
        run(command)
    };
    check(&ctl("token-of-ops", &["hold", "list"]), 0, &[]);
    check(
        &ctl("token-of-ticks", &["erase", "anna", "--reason=x", "--confirm=anna"]),
        1,
        &["admin"],
    );
    // To another machine no token goes in plain text; nothing is connected with.
    for (path, arguments, code) in [(CAMPAIGN_TICK, &["daily"][..], 2), (CAMPAIGNCTL, &["sending"], 1)] {
        let mut command = client(path, &folder, "http://campaigns.example:50051", arguments);
        command.env("CAMPAIGN_TOKEN", "token-of-ticks");
        let output = run(command);
        check(&output, code, &["--plaintext-token"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("token-of"));
    }
}

#[test]
fn a_token_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(program(CAMPAIGNCTL, folder.path(), &["token"]));
    check(&output, 0, &["token_sha256: "]);
    let text = String::from_utf8(output.stdout).expect("text");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line").trim().to_owned()
    };
    assert_eq!(value("token_sha256:"), digest_of(&value("token:")));
}

#[test]
fn a_wrong_file_stops_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("callers.yaml"),
        "callers:\n  - {name: a, roles: [caller], token: s3cr3t}\n",
    )
    .expect("written");
    std::fs::write(folder.path().join("jwks.json"), "{\"keys\": []}").expect("written");
    let jwt = [("CAMPAIGN_JWT_ISSUER", "i"), ("CAMPAIGN_JWT_AUDIENCE", "a")];
    for (variables, says) in [
        (vec![("CAMPAIGN_CALLERS_FILE", "none.yaml")], "none.yaml can't be read"),
        (vec![("CAMPAIGN_CALLERS_FILE", "callers.yaml")], "unknown field"),
        (
            [&jwt[..], &[("CAMPAIGN_JWKS_FILE", "jwks.json")]].concat(),
            "no key that can be used",
        ),
        (
            [&jwt[..], &[("CAMPAIGN_JWKS_URL", "http://id.example/jwks")]].concat(),
            "https://",
        ),
        (jwt.to_vec(), "CAMPAIGN_JWKS_FILE"),
        (vec![("CAMPAIGN_REFLECTION", "perhaps")], "CAMPAIGN_REFLECTION"),
    ] {
        let mut command = program(CAMPAIGND, folder.path(), &["--listen", "127.0.0.1:0"]);
        command.envs(variables.clone());
        let output = run(command);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{variables:?}: {text}");
        let last = variables.last().expect("a variable").0;
        assert!(text.contains(says) && text.contains(last), "{variables:?}: {text}");
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

/// Every token that comes in, good or bad, by every way; then the whole log, at its longest, is searched for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = Signer::ed("ed");
    std::fs::write(
        folder.path().join("callers.yaml"),
        callers_file(&[("canary", "caller, viewer, scheduler")]),
    )
    .expect("written");
    std::fs::write(folder.path().join("jwks.json"), jwks(&[&key])).expect("written");
    let mut command = program(CAMPAIGND, folder.path(), &["--listen", "127.0.0.1:0"]);
    let variables = [
        ("CAMPAIGN_CALLERS_FILE", "callers.yaml"),
        ("CAMPAIGN_JWT_ISSUER", ISSUER),
        ("CAMPAIGN_JWT_AUDIENCE", AUDIENCE),
        ("CAMPAIGN_JWKS_FILE", "jwks.json"),
    ];
    command.envs(variables);
    let served = Served::start(command);
    // It has the machine's clock, so this is an old token, and a signature in it that must not be seen either.
    let old = key.token(&claims("canary", &["viewer"], "2026-01-05T12:00:00Z"));
    let forged = Signer::ed("other").token_with(
        &serde_json::json!({"alg": "EdDSA", "kid": "ed"}),
        &claims("canary", &["viewer"], "2026-01-05T12:00:00Z"),
    );
    let tokens = [
        "token-of-canary",
        "wrong-token-canary",
        &old,
        &forged,
        &base64(b"canary-in-base64"),
    ];
    for token in tokens {
        let bearer = format!("Bearer {token}");
        let auth = ("Authorization", bearer.as_str());
        let json = ("Content-Type", "application/json");
        for (path, body) in [
            (
                "/api/v1/customers:upsert",
                "{\"customers\": [{\"customerId\": \"anna\"}]}",
            ),
            ("/api/v1/ticks:process", "{}"),
        ] {
            ask_at(served.addr, "POST", path, &[json, auth], body).await;
        }
        for path in [
            "/api/v1/customers/anna",
            "/api/v1/nothing",
            "/openapi.json",
            "/u/x",
            "/callbacks/events",
            "/nothing",
        ] {
            ask_at(served.addr, "GET", path, &[auth], "").await;
        }
        let web = [("Content-Type", "application/grpc-web+proto"), auth];
        ask_at(
            served.addr,
            "POST",
            "/campaign.v1.CustomerService/ListCustomers",
            &web,
            b"\0\0\0\0\0",
        )
        .await;
        let server = format!("http://{}", served.addr);
        let mut command = client(CAMPAIGN_TICK, &folder, &server, &["hourly"]);
        command.env("CAMPAIGN_TOKEN", token);
        let output = run(command);
        for text in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(text).contains(token));
        }
    }
    served.signal("TERM");
    let log = served.rest_of_log();
    let text = log.join("\n");
    assert!(
        text.contains("canary called ProcessCampaignTimelines"),
        "who changes something is in the log"
    );
    assert!(text.contains("TRACE"), "all is logged");
    for token in tokens {
        let signature = token.rsplit('.').next().expect("a part");
        for secret in [token, signature] {
            let found = log.iter().find(|line| line.contains(secret));
            assert_eq!(found, None, "{secret}");
        }
    }
}
