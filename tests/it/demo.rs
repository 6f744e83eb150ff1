//! The demo as a program: into files, and over real mail, SMS, voice and task endpoints by nothing but configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::http::HttpServer;
use crate::support::process::{CAMPAIGND, check, program, run};
use crate::support::smtp::SmtpServer;

/// So many that mails, text messages, a call and a task go out.
const DAYS: &str = "31";

/// The outbox refuses her; see `examples/customers.yaml`.
const REFUSED: (&str, &str) = (
    "lena@closed-mailbox.invalid",
    "550 5.1.2 no mail server: names under .invalid do not exist (RFC 2606)",
);

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Runs the demo in a folder of its own, with its outbox in `outbox` there.
async fn demo(folder: PathBuf, arguments: Vec<String>, environment: Vec<(&'static str, String)>) -> Output {
    let arguments: Vec<String> = ["demo".to_owned(), "--outbox=outbox".to_owned()]
        .into_iter()
        .chain(arguments)
        .collect();
    let running = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = program(CAMPAIGND, &folder, &arguments);
        command.envs(environment);
        run(command)
    };
    let output = tokio::task::spawn_blocking(running).await.expect("its end");
    check(&output, 0, &["Totals over 7 customers"]);
    output
}

/// What the demo tells of its customers, without what is about the machine.
fn report(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let (_, rest) = text.split_once("examples/customers.yaml\n").expect("the beginning");
    let (report, _) = rest.split_once("Where to look").expect("the end");
    report.to_owned()
}

/// A message that isn't a mail: what it is, to whom, the text, and the id by which a task is known.
type Spoken = (&'static str, String, String, String);

/// What is in an outbox: the mails as they are, and all else, sorted.
fn filed(outbox: &Path) -> (Vec<String>, Vec<Spoken>) {
    let (mut mails, mut others) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(outbox).expect("an outbox") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        if path.extension().is_some_and(|extension| extension == "eml") {
            mails.push(text);
            continue;
        }
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let of = |name: &str| json[name].as_str().expect(name).to_owned();
        others.push(match json["channel"].as_str() {
            Some("sms") => ("text", of("to"), of("text"), String::new()),
            Some("phone") => ("call", of("to"), words(&of("script")), String::new()),
            Some("interaction") => (
                "task",
                of("customer_id"),
                of("title") + &of("text"),
                of("idempotency_key"),
            ),
            channel => panic!("{channel:?}"),
        });
    }
    mails.sort();
    others.sort();
    (mails, others)
}

/// What arrived at the providers, in the same form.
fn arrived(twilio: &HttpServer, crm: &HttpServer) -> Vec<Spoken> {
    let spoken = twilio.requests().into_iter().map(|request| {
        let to = request.parameter("To");
        if request.path().ends_with("/Messages.json") {
            ("text", to, request.parameter("Body"), String::new())
        } else {
            ("call", to, said(&request.parameter("Twiml")), String::new())
        }
    });
    let tasks = crm.requests().into_iter().map(|request| {
        let task = request.json()["data"].clone();
        let of = |name: &str| task[name].as_str().expect(name).to_owned();
        ("task", of("customer_id"), of("title") + &of("text"), of("id"))
    });
    let mut arrived: Vec<Spoken> = spoken.chain(tasks).collect();
    arrived.sort();
    arrived
}

/// The words of a text.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is said in a call.
fn said(twiml: &str) -> String {
    let text: String = twiml
        .split('<')
        .filter_map(|part| part.split_once('>'))
        .flat_map(|(_, text)| [text, " "])
        .collect();
    let text = [
        ("&apos;", "'"),
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text, |text, (escaped, plain)| text.replace(escaped, plain));
    words(&text)
}

#[tokio::test]
async fn the_demo_sends_to_providers_what_it_writes_into_its_outbox() {
    let (smtp, trap) = (SmtpServer::start().await, SmtpServer::start().await);
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    smtp.reply_to_rcpt(REFUSED.0, REFUSED.1);
    let (folder, other) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );

    let days = format!("--days={DAYS}");
    let account = format!("twilio+http://{ACCOUNT}:t0ken@{}", twilio.address());
    let named = vec![
        days.clone(),
        format!("--email-url={}", smtp.url()),
        format!("--interaction-url=http://{}/hooks", crm.address()),
        "--allow-private-destinations".to_owned(),
        "--from-environment".to_owned(),
    ];
    let environment = vec![
        ("CAMPAIGN_SMS_URL", account.clone()),
        ("CAMPAIGN_PHONE_URL", account),
        ("CAMPAIGN_EMAIL_FROM", "Campaigns <campaigns@example.com>".to_owned()),
        ("CAMPAIGN_SMS_FROM", "+14155550100".to_owned()),
        ("CAMPAIGN_PHONE_FROM", "+14155550100".to_owned()),
        ("CAMPAIGN_WEBHOOK_SECRET", SECRET.to_owned()),
    ];
    // What the environment names by itself is not used: a demo in a server's container must reach nobody.
    let besides = vec![
        ("CAMPAIGN_EMAIL_URL", trap.url()),
        ("CAMPAIGN_EMAIL_FROM", "Campaigns <campaigns@example.com>".to_owned()),
    ];
    let (written, sent) = tokio::join!(
        demo(folder.path().to_owned(), vec![days], besides),
        demo(other.path().to_owned(), named, environment)
    );

    assert_eq!(report(&sent), report(&written));
    let (mails, others) = filed(&folder.path().join("outbox"));
    let kinds = others.iter().fold(BTreeMap::new(), |mut kinds, (kind, ..)| {
        *kinds.entry(*kind).or_insert(0) += 1;
        kinds
    });
    assert!(mails.len() > 30 && kinds.len() == 3, "{} mails, {kinds:?}", mails.len());
    let mut delivered: Vec<String> = smtp.deliveries().into_iter().map(|delivery| delivery.data).collect();
    delivered.sort();
    assert_eq!(delivered, mails);
    assert_eq!(arrived(&twilio, &crm), others);
    assert_eq!(filed(&other.path().join("outbox")), (Vec::new(), Vec::new()));
    assert_eq!(trap.sessions(), 0);
    check(&written, 0, &["--from-environment"]);
    check(
        &sent,
        0,
        &[
            "mails      smtp://127.0.0.1:",
            "texts      account AC",
            "tasks      http://127.0.0.1:",
        ],
    );
    assert!(!String::from_utf8_lossy(&sent.stdout).contains("t0ken"), "{sent:?}");
}

#[tokio::test]
async fn the_demo_uses_the_environment_when_it_is_asked_to() {
    let smtp = SmtpServer::start().await;
    smtp.reply_to_rcpt(REFUSED.0, REFUSED.1);
    let folder = tempfile::tempdir().expect("a folder");
    let environment = vec![
        ("CAMPAIGN_EMAIL_URL", smtp.url()),
        ("CAMPAIGN_EMAIL_FROM", "Shop <shop@example.com>".to_owned()),
    ];
    let arguments = ["--days=2", "--from-environment"].map(str::to_owned).to_vec();
    demo(folder.path().to_owned(), arguments, environment).await;
    let deliveries = smtp.deliveries();
    let welcomed = deliveries.iter().filter(|mail| mail.data.contains("Subject: Welcome"));
    assert_eq!(welcomed.count(), 6, "all but the one who is refused");
    let (mails, _) = filed(&folder.path().join("outbox"));
    assert_eq!(mails, Vec::<String>::new());
}

/// A channel that is set up by half is refused before anything is played.
#[test]
fn the_demo_is_told_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, says) in [
        (&["--email-url=smtp://127.0.0.1:1"][..], "CAMPAIGN_EMAIL_FROM"),
        (
            &["--interaction-url=https://crm.example.com/x"],
            "CAMPAIGN_WEBHOOK_SECRET",
        ),
        (&["--ca-file=nowhere"], "CAMPAIGN_CA_FILE"),
    ] {
        let output = run(program(CAMPAIGND, folder.path(), &[&["demo"], arguments].concat()));
        check(&output, 1, &[says]);
    }
    let mut private = program(CAMPAIGND, folder.path(), &["demo", "--from-environment"]);
    private.env("CAMPAIGN_SMS_URL", "twilio+http://AC1:t0ken@127.0.0.1");
    check(&run(private), 1, &["CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS"]);
}
