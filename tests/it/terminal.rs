//! What people do at a terminal: `campaignctl` as a real process, against a real server.

use std::process::Output;
use tempfile::TempDir;

use crate::support::process::{CAMPAIGN_TICK, CAMPAIGNCTL, CAMPAIGND, Served, check, program, run};

/// A mail and a task on day 1, and three customers. Bert has no address.
const FILES: [(&str, &str); 3] = [
    (
        "campaign.yaml",
        r#"campaign:
  campaignId: HELLO
  kind: CAMPAIGN_KIND_TRANSACTIONAL
  subject: "Hello {{ customer.name }}"
  preheader: A word about {{ customer.attributes.plan }}
  textBody: "This is day {{ day }} of {{ timeline.name }}."
  htmlBody: "<p>Seats: {{ customer.attributes.seats }}</p>"
  smsText: "Hi {{ customer.name }}, да"
  replyTo: answers@shop.example
  headers: {feedback-id: "a:b:c:shop"}
"#,
    ),
    (
        "timeline.yaml",
        "timeline:
  slug: two-days
  name: Two days
  pipelineStage: hook
  durationDays: 2
  isActive: true
  actions:
    - {key: mail, dayNumber: 1, channel: CHANNEL_EMAIL, actionType: ACTION_TYPE_SEND_EMAIL, campaignId: HELLO}
    - {key: call-back, dayNumber: 1, channel: CHANNEL_INTERACTION, actionType: ACTION_TYPE_CREATE_TASK, campaignId: HELLO}
",
    ),
    (
        "customers.yaml",
        "customers:
  - {customerId: anna, displayName: Anna, email: anna@shop.example, phone: '+14155552671', timeZone: Etc/UTC, attributes: {plan: gold, seats: 5}}
  - {customerId: bert, displayName: Bert, timeZone: Etc/UTC, attributes: {plan: tin, seats: 1}}
  - {customerId: carl, displayName: Carl, email: carl@shop.example, timeZone: Etc/UTC, attributes: {plan: tin, seats: 2}}
",
    ),
];

/// A server that has these files, and a terminal.
struct Terminal {
    directory: TempDir,
    server: String,
    // It serves until it is dropped.
    _served: Served,
}

impl Terminal {
    /// With a server of these settings.
    fn open(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("files")).expect("a folder");
        for (name, text) in FILES {
            std::fs::write(directory.path().join("files").join(name), text).expect("a file");
        }
        let mut command = program(CAMPAIGND, directory.path(), &["--listen", "127.0.0.1:0"]);
        command.envs(settings.iter().copied());
        let served = Served::start(command);
        let terminal = Self {
            server: format!("http://{}", served.addr),
            directory,
            _served: served,
        };
        check(
            &terminal.ctl(&["apply", "files"]),
            0,
            &["two-days", "customer carl: created"],
        );
        terminal
    }

    fn call(&self, path: &str, arguments: &[&str]) -> Output {
        let mut command = program(path, self.directory.path(), arguments);
        command.env("CAMPAIGN_SERVER", &self.server);
        run(command)
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        self.call(CAMPAIGNCTL, arguments)
    }

    /// Starts a customer's run, which is due at once, and ticks.
    fn start(&self, customer: &str) {
        check(&self.ctl(&["start", customer, "two-days"]), 0, &[customer]);
        check(&self.call(CAMPAIGN_TICK, &["hourly"]), 0, &["hourly tick"]);
    }

    /// Commands one after the other, how each must end, and what it must say.
    #[track_caller]
    fn check(&self, cases: &[(&[&str], i32, &[&str])]) {
        for (arguments, code, says) in cases {
            check(&self.ctl(arguments), *code, says);
        }
    }
}

#[test]
fn campaigns_are_previewed() {
    let terminal = Terminal::open(&[("CAMPAIGN_EMAIL_URL", "outbox:mails")]);
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (
            &[
                "preview",
                "HELLO",
                "--customer",
                "anna",
                "--timeline",
                "two-days",
                "--day",
                "2",
            ],
            0,
            &[
                "subject: Hello Anna\npreheader: A word about gold\n",
                "\nanswers to: answers@shop.example\nheader Feedback-ID: a:b:c:shop\n",
                "\ntext:\nThis is day 2 of Two days.\n",
                "\nSMS, 1 segment:\nHi Anna, да\n",
                "\nHTML: 15 bytes",
            ],
        ),
        (
            &[
                "preview",
                "files/campaign.yaml",
                "--html",
                "mail.html",
                "--attribute",
                "plan=gold",
                "--attribute",
                "seats=7",
            ],
            0,
            &[
                "subject: Hello Somebody\n",
                "This is day 1 of Preview.",
                "header feedback-id: a:b:c:shop",
            ],
        ),
        (
            &["preview", "HELLO", "--name", "Zoë"],
            0,
            &[
                "subject: Hello Zoë\n",
                "would fail: preheader, line 1: ",
                "would fail: html_body, line 1: ",
            ],
        ),
        (&["preview", "NONE"], 1, &["campaign \"NONE\" not found"]),
        (
            &["preview", "HELLO", "--customer", "nobody"],
            1,
            &["customer \"nobody\" not found"],
        ),
        (
            &["preview", "HELLO", "--timeline", "none"],
            1,
            &["timeline \"none\" not found"],
        ),
        (
            &["preview", "HELLO", "--zone", "Mars", "--day", "3651"],
            1,
            &[
                "HELLO is refused:",
                "customer.time_zone must be",
                "day must be 1 to 3650",
            ],
        ),
        (
            &["preview", "files/timeline.yaml"],
            1,
            &["files/timeline.yaml is no ApplyCampaignRequest"],
        ),
        (
            &["preview", "HELLO", "--customer", "anna", "--zone", "Etc/UTC"],
            2,
            &["cannot be used with"],
        ),
        (&["preview", "HELLO", "--attribute", "plan"], 2, &["such as plan=gold"]),
    ];
    terminal.check(&cases);
    let html = std::fs::read_to_string(terminal.directory.path().join("mail.html"));
    assert_eq!(html.expect("a file"), "<p>Seats: 7</p>");
    let outbox = std::fs::read_dir(terminal.directory.path().join("mails")).expect("an outbox");
    let files = outbox.filter(|entry| entry.as_ref().expect("an entry").path().is_file());
    assert_eq!(files.count(), 0, "something was sent");
}

#[test]
fn tasks_are_reported() {
    let terminal = Terminal::open(&[]);
    terminal.start("anna");
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (
            &["complete", "anna", "call-back", "perhaps"],
            2,
            &["done, declined, no-answer, cancelled"],
        ),
        (
            &["complete", "nobody", "call-back", "done"],
            1,
            &["customer \"nobody\" not found"],
        ),
        (&["complete", "anna", "none", "done"], 1, &["none"]),
        (
            &[
                "complete",
                "anna",
                "call-back",
                "no-answer",
                "--note",
                "a\nb",
                "--progress-id",
                "1",
            ],
            1,
            &["call-back is refused:\n  note must be"],
        ),
        (
            &["complete", "anna", "call-back", "no-answer", "--note", "tried twice"],
            0,
            &["call-back of run 1 of customer anna: no answer\n"],
        ),
        (
            &["complete", "anna", "call-back", "no-answer", "--progress-id", "1"],
            0,
            &["no answer; it was reported so before"],
        ),
        (&["complete", "anna", "call-back", "done"], 1, &["call-back: "]),
        (&["progress", "anna"], 0, &["TASK_OUTCOME_NO_ANSWER", "tried twice"]),
    ];
    terminal.check(&cases);
}

#[test]
fn failures_are_tried_again() {
    let terminal = Terminal::open(&[]);
    terminal.start("bert");
    let retry = |arguments: &[&'static str]| [&["retry", "--outcome", "failed"], arguments].concat();
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (&["retry", "--all"], 2, &["--outcome"]),
        (&retry(&[]), 2, &["--all", "--customer", "--timeline"]),
        (&retry(&["--all", "--customer", "bert"]), 2, &["cannot be used with"]),
        (
            &retry(&["--timeline", "two-days", "--progress-id", "1"]),
            2,
            &["--customer"],
        ),
        (&retry(&["--timeline", "none"]), 1, &["timeline \"none\" not found"]),
        (
            &retry(&["--all", "--key", "a b"]),
            1,
            &["the retry is refused:\n  action_keys[0] must be"],
        ),
        (
            &["retry", "--outcome", "unknown", "--all"],
            0,
            &["0 actions are pending again\n"],
        ),
        (
            &retry(&["--all", "--until", "2020-01-01T00:00:00Z"]),
            0,
            &["0 actions are pending again\n"],
        ),
        (
            &retry(&["--timeline", "two-days", "--key", "mail", "--dry-run"]),
            0,
            &["1 actions would be pending again\n"],
        ),
        (
            &retry(&[
                "--outcome",
                "unknown",
                "--customer",
                "bert",
                "--reason",
                "has an address now",
            ]),
            0,
            &["1 actions are pending again\n"],
        ),
    ];
    terminal.check(&cases);
    check(
        &terminal.ctl(&["progress", "bert"]),
        0,
        &["RETRYING", "has an address now"],
    );
}

#[test]
fn a_circuit_is_seen_and_closed() {
    let settings = [
        // Nobody listens there.
        ("CAMPAIGN_EMAIL_URL", "smtp://127.0.0.1:1"),
        ("CAMPAIGN_EMAIL_FROM", "hello@shop.example"),
        ("CAMPAIGN_CHANNEL_FAILURES", "1"),
    ];
    let terminal = Terminal::open(&settings);
    terminal.start("anna");
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (
            &["hold", "set", "--channel", "sms", "--reason", "a typo"],
            0,
            &["held: channel sms"],
        ),
        (
            &["sending"],
            0,
            &[
                "as of 20",
                "\nheld: channel sms, from 20",
                "\nemail: its circuit is open since 20",
                "one message goes at 20",
                "\nsms: held; its circuit is closed\nphone: its circuit is closed\n",
            ],
        ),
        (&["circuit", "reset", "email"], 2, &["--reason"]),
        (
            &["circuit", "reset", "wait", "--reason", "why"],
            2,
            &["email, sms, phone, interaction"],
        ),
        (
            &["circuit", "reset", "email", "--reason", " "],
            1,
            &["the circuit is refused:\n  reason must be"],
        ),
        (
            &["circuit", "reset", "email", "--reason", "the mail server is back"],
            0,
            &["email: its circuit is closed: the mail server is back\n"],
        ),
        (
            &["circuit", "reset", "phone", "--reason", "to be sure"],
            0,
            &["phone: its circuit is closed\n"],
        ),
        (&["sending"], 0, &["\nemail: its circuit is closed"]),
    ];
    terminal.check(&cases);
}

#[test]
fn people_are_suppressed_and_erased() {
    let terminal = Terminal::open(&[]);
    terminal.start("anna");
    let cases: [(&[&str], i32, &[&str]); 21] = [
        (&["suppressions"], 0, &["nothing is suppressed\n"]),
        (&["suppress", "email"], 2, &["--customer", "--address"]),
        (
            &["suppress", "interaction", "--customer", "anna"],
            2,
            &["email, sms, phone"],
        ),
        (
            &["suppress", "email", "--customer", "anna", "--address", "a@shop.example"],
            2,
            &["cannot be used with"],
        ),
        (
            &["suppress", "sms", "--address", "anna"],
            1,
            &["the suppression is refused:\n  address must be a phone number"],
        ),
        (&["suppress", "email", "--customer", "bert"], 1, &["bert"]),
        (
            &[
                "suppress",
                "email",
                "--customer",
                "carl",
                "--marketing",
                "--reason",
                "asked by phone",
            ],
            0,
            &[
                "suppressed: 1, email, marketing, since 20",
                "Z: manual, asked by phone\n",
            ],
        ),
        (
            &["suppress", "phone", "--address", "+14155550100"],
            0,
            &["suppressed: 2, phone, all, since 20", "Z: manual\n"],
        ),
        (&["suppressions"], 0, &["1, email, ", "\n2, phone, "]),
        (&["suppressions", "--channel", "sms"], 0, &["nothing is suppressed\n"]),
        (&["suppressions", "--address", "carl@shop.example"], 0, &["1, email, "]),
        (
            &["suppressions", "--customer", "nobody"],
            1,
            &["customer \"nobody\" not found"],
        ),
        (&["lift", "1"], 2, &["--reason"]),
        (&["lift", "9", "--reason", "why"], 1, &["the suppression: "]),
        (
            &["lift", "1", "--reason", "asked again"],
            0,
            &["asked by phone; lifted at 20", "Z: asked again\n"],
        ),
        (&["suppressions", "--customer", "carl"], 0, &["nothing is suppressed\n"]),
        (&["suppressions", "--customer", "carl", "--lifted"], 0, &["1, email, "]),
        (&["erase", "anna", "--reason", "request 17"], 2, &["--confirm"]),
        (
            &["erase", "anna", "--reason", "request 17", "--confirm", "carl"],
            1,
            &["--confirm must be \"anna\" again, but is \"carl\""],
        ),
        (
            &["erase", "anna", "--reason", "request 17", "--confirm", "anna"],
            0,
            &[
                "customer anna erased at 20",
                "Z: 1 runs, 2 attempts, 0 events; there stay suppressions 3, 4, 5",
            ],
        ),
        (
            &["erase", "anna", "--reason", "request 17", "--confirm", "anna"],
            1,
            &["customer \"anna\" not found"],
        ),
    ];
    terminal.check(&cases);
    let erased = terminal.ctl(&[
        "erase",
        "carl",
        "--confirm",
        "carl",
        "--reason",
        "request 18",
        "--without-suppression",
    ]);
    check(
        &erased,
        0,
        &["0 runs, 0 attempts, 0 events; there stay no suppressions"],
    );
}

#[test]
fn a_server_is_checked() {
    let terminal = Terminal::open(&[]);
    terminal.check(&[
        (
            &["check"],
            0,
            &[
                "campaign.v1.CampaignTickService: SERVING",
                "campaign.v1.SendingService: SERVING",
                "GetProgress of nobody: NOT_FOUND",
            ],
        ),
        (&["--server", "http://127.0.0.1:1", "check"], 1, &["can't be reached"]),
    ]);
    // An answer that is not the one expected is none.
    let nobody = "campaignctl-check:nobody";
    let file = terminal.directory.path().join("files/nobody.yaml");
    std::fs::write(
        &file,
        format!("customers: [{{customerId: '{nobody}', timeZone: Etc/UTC}}]\n"),
    )
    .expect("a file");
    terminal.check(&[
        (&["apply", file.to_str().expect("a path")], 0, &[nobody]),
        (&["check"], 0, &["NOT_FOUND"]),
        (&["start", nobody, "two-days"], 0, &[nobody]),
        (&["check"], 1, &[nobody, "erase it"]),
    ]);
}
