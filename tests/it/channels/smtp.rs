//! What becomes of a mail, whatever the mail server does.

use campaign_automation::channels::{Content, Message, Outcome, Sender, SmtpLimits, SmtpSender};
use campaign_automation::domain::{EmailAddress, PhoneNumber};
use std::time::{Duration, Instant};

use super::{MESSAGE_ID, delivered, files, kind, mail, mail_to, message, outbox, patient, sender};
use crate::support::smtp::{Behaviour, SmtpServer, Step};

/// A sender that soon gives up.
fn impatient(url: &str) -> SmtpSender {
    let limits = SmtpLimits {
        command_timeout: Duration::from_millis(300),
        ..SmtpLimits::default()
    };
    sender(url, limits)
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_built() {
    let server = SmtpServer::start().await;
    assert_eq!(patient(&server.url()).send(&mail()).await, delivered());
    let [delivery] = server.deliveries().try_into().expect("one delivery");
    assert_eq!(delivery.from, "news@example.com");
    assert_eq!(delivery.to, ["anna@example.org"]);
    assert_eq!(delivery.message_id, MESSAGE_ID);
    let (headers, body) = delivery.data.split_once("\r\n\r\n").expect("a body");
    let names: Vec<&str> = headers
        .lines()
        .filter_map(|line| Some(line.split_once(": ")?.0))
        .collect();
    assert_eq!(
        names,
        [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "MIME-Version",
            "Content-Type"
        ]
    );
    assert!(headers.contains("Date: Fri, 02 Jan 2026 12:00:00 +0000"), "{headers}");
    assert!(
        body.contains("Hi\r\n.dots\r\n..\r\nend\r\n") && body.contains("<p>Hi</p>\r\n"),
        "{body}"
    );
}

#[tokio::test]
async fn the_servers_behaviour_decides_what_happens_next() {
    let cases = [
        (Behaviour::Accept, "delivered"),
        (
            Behaviour::Reply(Step::Connect, "421 4.3.2 too many connections"),
            "retry",
        ),
        (
            Behaviour::Reply(Step::Connect, "554 5.7.1 your address is blocked"),
            "misconfigured",
        ),
        (Behaviour::Reply(Step::Mail, "421 4.3.2 closing"), "retry"),
        (Behaviour::Reply(Step::Mail, "451 4.3.0 try later"), "retry"),
        (
            Behaviour::Reply(Step::Mail, "530 5.7.0 authentication required"),
            "misconfigured",
        ),
        (Behaviour::Reply(Step::Mail, "553 5.1.8 bad sender"), "misconfigured"),
        (Behaviour::Reply(Step::Mail, "552 5.3.4 too big"), "rejected"),
        (Behaviour::Reply(Step::Rcpt, "450 4.2.1 greylisted"), "retry"),
        (Behaviour::Reply(Step::Rcpt, "550 5.1.1 no such user"), "suppress"),
        (
            Behaviour::Reply(Step::Rcpt, "550-5.1.10 no\r\n550 5.1.10 mail"),
            "suppress",
        ),
        (Behaviour::Reply(Step::Rcpt, "550 5.1.2 no such domain"), "rejected"),
        (Behaviour::Reply(Step::Rcpt, "550 5.7.1 blocked"), "rejected"),
        (Behaviour::Reply(Step::Data, "451 4.3.0 try later"), "retry"),
        (
            Behaviour::Reply(Step::Data, "554 5.5.1 no valid recipients"),
            "rejected",
        ),
        (Behaviour::Reply(Step::Data, "250 what?"), "retry"),
        (Behaviour::Reply(Step::Dot, "421 4.3.2 closing"), "retry"),
        (Behaviour::Reply(Step::Dot, "452 4.2.2 mailbox full"), "retry"),
        (Behaviour::Reply(Step::Dot, "550 5.1.6 moved"), "suppress"),
        (Behaviour::Reply(Step::Dot, "552 5.2.2 mailbox full"), "retry"),
        (Behaviour::Reply(Step::Dot, "554 5.7.26 not authenticated"), "rejected"),
        (Behaviour::Reply(Step::Dot, "this is no SMTP"), "unknown"),
        (Behaviour::Drop(Step::Connect), "retry"),
        (Behaviour::Drop(Step::Mail), "retry"),
        (Behaviour::Drop(Step::Rcpt), "retry"),
        (Behaviour::Drop(Step::Data), "retry"),
        (Behaviour::Drop(Step::Dot), "unknown"),
    ];
    let each_way = ["HELP", "PIPELINING"].into_iter();
    for (extension, (behaviour, expected)) in
        each_way.flat_map(|way| cases.iter().cloned().map(move |case| (way, case)))
    {
        let server = SmtpServer::start().await;
        server.advertise(extension);
        let sender = patient(&server.url());
        server.behave(behaviour.clone());
        let outcome = sender.send(&mail()).await;
        assert_eq!(kind(&outcome), expected, "{extension}, {behaviour:?}: {outcome:?}");
        assert!(server.mails() <= 1, "{behaviour:?} cost {} attempts", server.mails());

        // Whatever it was, the next mail on the same sender is not held up by it.
        server.accept_all();
        let before = server.deliveries().len();
        assert_eq!(
            sender.send(&mail_to("berta@example.org")).await,
            delivered(),
            "after {behaviour:?}"
        );
        assert_eq!(server.deliveries()[before..].len(), 1, "after {behaviour:?}");
    }
}

#[tokio::test]
async fn commands_go_together_where_the_server_allows_it() {
    for (extension, pipelined) in [("HELP", 0), ("PIPELINING", 2), ("pipelining", 2)] {
        let server = SmtpServer::start().await;
        server.advertise(extension);
        let sender = patient(&server.url());
        for _ in 0..2 {
            assert_eq!(sender.send(&mail()).await, delivered());
        }
        let counts = (
            server.sessions(),
            server.mails(),
            server.pipelined(),
            server.deliveries().len(),
        );
        assert_eq!(counts, (1, 2, pipelined, 2), "{extension}");
    }
}

/// Such a server waits for the message of somebody whom it refused. It gets none, and the next mail is not taken for it.
#[tokio::test]
async fn a_server_that_waits_for_a_message_to_nobody_gets_none() {
    let server = SmtpServer::start().await;
    server.advertise("PIPELINING");
    server.take_messages_to_nobody();
    server.reply_to_rcpt("bad@example.org", "550 5.1.1 no such user");
    let sender = patient(&server.url());
    assert_eq!(kind(&sender.send(&mail_to("bad@example.org")).await), "suppress");
    assert_eq!(sender.send(&mail()).await, delivered());
    let deliveries = server.deliveries();
    assert_eq!((server.sessions(), deliveries.len()), (2, 1));
    assert_eq!(deliveries[0].to, ["anna@example.org"]);
    assert!(deliveries[0].data.starts_with("From: "), "{}", deliveries[0].data);
}

#[tokio::test]
async fn a_reply_is_passed_on_as_the_server_gave_it() {
    for extension in ["HELP", "PIPELINING"] {
        check_replies(extension).await;
    }
}

async fn check_replies(extension: &str) {
    let server = SmtpServer::start().await;
    server.advertise(extension);
    let sender = patient(&server.url());
    server.reply_to_rcpt("bad@example.org", "550 5.1.1 no such user");
    server.reply_to_data("late@example.org", "451 4.7.1 try again in five minutes");
    let error = "550 5.1.1 no such user".to_owned();
    assert_eq!(
        sender.send(&mail_to("bad@example.org")).await,
        Outcome::Suppress { error }
    );
    let error = "451 4.7.1 try again in five minutes".to_owned();
    assert_eq!(
        sender.send(&mail_to("late@example.org")).await,
        Outcome::Retry { error, after: None }
    );
    assert_eq!(sender.send(&mail()).await, delivered());
    assert_eq!(
        (server.sessions(), server.mails()),
        (1, 3),
        "a refusal costs no connection"
    );
}

#[tokio::test]
async fn silence_is_bounded() {
    for (step, expected, deliveries) in [
        (Step::Connect, "retry", 0),
        (Step::Mail, "retry", 0),
        (Step::Rcpt, "retry", 0),
        (Step::Data, "retry", 0),
        (Step::Dot, "unknown", 1),
    ] {
        let server = SmtpServer::start().await;
        server.advertise("PIPELINING");
        let sender = impatient(&server.url());
        server.behave(Behaviour::Stall(step));
        let started = Instant::now();
        let outcome = sender.send(&mail()).await;
        assert_eq!(kind(&outcome), expected, "{step:?}: {outcome:?}");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{step:?}: {:?}",
            started.elapsed()
        );
        assert_eq!(server.deliveries().len(), deliveries, "{step:?}");
    }
}

#[tokio::test]
async fn the_whole_mail_has_one_time_limit() {
    let server = SmtpServer::start().await;
    let limits = SmtpLimits {
        connections: 1,
        send_timeout: Duration::from_millis(300),
        ..SmtpLimits::default()
    };
    let sender = sender(&server.url(), limits);
    server.behave(Behaviour::Stall(Step::Dot));
    let (first, second) = (mail(), mail_to("berta@example.org"));
    let outcomes = tokio::join!(sender.send(&first), sender.send(&second));
    assert_eq!(
        (kind(&outcomes.0), kind(&outcomes.1)),
        ("unknown", "retry"),
        "{outcomes:?}"
    );
    assert_eq!((server.sessions(), server.mails()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_costs_nothing() {
    let server = SmtpServer::start().await;
    server.advertise("PIPELINING");
    let sender = patient(&server.url());
    assert_eq!(sender.send(&mail()).await, delivered());
    assert_eq!(sender.send(&mail()).await, delivered());
    assert_eq!(server.sessions(), 1, "the connection is used again");
    server.hang_up().await;
    assert_eq!(sender.send(&mail()).await, delivered());
    assert_eq!(
        (server.sessions(), server.mails(), server.deliveries().len()),
        (2, 3, 3)
    );
}

#[tokio::test]
async fn a_server_that_has_had_enough_of_a_connection_gets_another() {
    let server = SmtpServer::start().await;
    let sender = patient(&server.url());
    assert_eq!(sender.send(&mail()).await, delivered());
    server.behave(Behaviour::Reply(Step::Mail, "421 4.7.0 too many messages"));
    assert_eq!(
        kind(&sender.send(&mail()).await),
        "retry",
        "the new connection is refused as well"
    );
    server.accept_all();
    assert_eq!(sender.send(&mail()).await, delivered());
    assert_eq!(server.deliveries().len(), 2);
}

#[tokio::test]
async fn connections_are_bounded_and_shared() {
    let server = SmtpServer::start().await;
    let sender = sender(
        &server.url(),
        SmtpLimits {
            connections: 3,
            ..SmtpLimits::default()
        },
    );
    server.behave(Behaviour::Stall(Step::Dot));
    let mails: Vec<Message> = (0..20)
        .map(|number| mail_to(&format!("customer{number}@example.org")))
        .collect();
    let sending = futures::future::join_all(mails.iter().map(|mail| sender.send(mail)));
    let releasing = async {
        server.until_stalled(3).await;
        server.behave(Behaviour::Accept);
        server.release();
    };
    let (outcomes, ()) = tokio::join!(sending, releasing);
    assert_eq!(outcomes, vec![delivered(); 20]);
    assert_eq!(
        (server.most_sessions(), server.sessions(), server.deliveries().len()),
        (3, 3, 20)
    );
}

#[tokio::test]
async fn no_server_means_try_again() {
    let url = SmtpServer::start().await.url();
    let outcome = patient(&url).send(&mail()).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
}

#[tokio::test]
async fn encryption_and_login_that_cannot_work_stop_the_channel() {
    for (login, query, extension, to_starttls, to_auth, expected) in [
        ("", "?tls=starttls", "HELP", "", "", "misconfigured"),
        ("", "?tls=starttls", "STARTTLS", "454 4.7.0 not now", "", "retry"),
        ("", "?tls=starttls", "STARTTLS", "502 5.5.1 no", "", "misconfigured"),
        ("", "?tls=starttls", "STARTTLS", "220 go", "", "misconfigured"),
        ("", "?tls=opportunistic", "HELP", "", "", "delivered"),
        ("u:p@", "?tls=opportunistic", "AUTH PLAIN", "", "", "misconfigured"),
        ("u:p@", "", "AUTH PLAIN", "", "235 2.7.0 welcome", "delivered"),
        (
            "u:p@",
            "",
            "AUTH PLAIN",
            "",
            "535 5.7.8 bad credentials",
            "misconfigured",
        ),
        ("u:p@", "", "AUTH PLAIN", "", "454 4.7.0 not now", "retry"),
        ("u:p@", "", "HELP", "", "", "misconfigured"),
    ] {
        let server = SmtpServer::start().await;
        server.advertise(extension);
        server.reply_to_starttls(to_starttls);
        server.reply_to_auth(to_auth);
        let url = server.url().replace("smtp://", &format!("smtp://{login}")) + query;
        let outcome = impatient(&url).send(&mail()).await;
        assert_eq!(
            kind(&outcome),
            expected,
            "{url} {extension} {to_starttls} {to_auth}: {outcome:?}"
        );
        assert_eq!(server.deliveries().len(), usize::from(expected == "delivered"), "{url}");
    }
    let server = SmtpServer::start().await;
    let outcome = impatient(&server.url().replace("smtp://", "smtps://"))
        .send(&mail())
        .await;
    assert_eq!(
        kind(&outcome),
        "misconfigured",
        "plain SMTP where TLS is expected: {outcome:?}"
    );
}

#[tokio::test]
async fn all_attempts_have_one_message_id() {
    let server = SmtpServer::start().await;
    let sender = patient(&server.url());
    server.behave(Behaviour::Drop(Step::Dot));
    assert_eq!(kind(&sender.send(&mail()).await), "unknown");
    server.accept_all();
    assert_eq!(sender.send(&Message { attempt: 2, ..mail() }).await, delivered());
    let deliveries = server.deliveries();
    assert_eq!(deliveries.len(), 2);
    assert_eq!(deliveries[0].message_id, deliveries[1].message_id);
    assert_eq!(
        deliveries[0].data, deliveries[1].data,
        "a repeated mail is the same mail"
    );
}

#[tokio::test]
async fn hostile_names_and_subjects_reach_no_server() {
    let server = SmtpServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let senders: [Box<dyn Sender>; 2] = [Box::new(patient(&server.url())), Box::new(outbox(directory.path()))];
    for sender in &senders {
        for hostile in [
            "A\nB",
            "A\r\nBcc: evil@example.org",
            "A\0",
            "\u{1b}[2J",
            "\u{85}",
            "\u{2028}",
            "\u{202e}",
        ] {
            for (to_name, subject, what) in [(hostile, "s", "recipient's display name"), ("n", hostile, "subject")] {
                let (to_name, subject) = (to_name.to_owned(), subject.to_owned());
                let to = EmailAddress::parse("anna@example.org").expect("valid");
                let text = Some("t".to_owned());
                let message = message(Content::Email {
                    to,
                    to_name,
                    subject,
                    text,
                    html: None,
                    options: Box::default(),
                });
                let error = format!("the {what} has a control character");
                assert_eq!(
                    sender.send(&message).await,
                    Outcome::Unsendable { error },
                    "{hostile:?}"
                );
            }
        }
    }
    assert_eq!((server.sessions(), files(directory.path()).len()), (0, 0));
}

#[tokio::test]
async fn a_mail_server_carries_nothing_but_mail() {
    let server = SmtpServer::start().await;
    let sms = message(Content::Sms {
        to: PhoneNumber::parse("+14155552671").expect("valid"),
        text: "x".to_owned(),
    });
    assert_eq!(kind(&patient(&server.url()).send(&sms).await), "misconfigured");
}
