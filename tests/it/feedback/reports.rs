//! What mail servers write back, in the formats of several of them: known by what the deployment sealed into the mail, and by nothing
//! that anybody else could write.

use campaign_automation::proto::campaign::v1 as pb;
use pb::SuppressionReason as Reason;
use pb::SuppressionScope as Scope;

use super::events::{SECRET, app_with, in_force, message_id, with_secret};
use super::{ask, engagements};
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::SmtpServer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    reports_of_all_servers_say_what_became_of_a_mail,
    what_is_no_report_or_about_nobody_is_ignored,
);

/// Hands a mail on, as the pipe of a mail server does, and gives what it is told.
async fn pipe(app: &App, query: &str, mail: &str) -> String {
    let bearer = format!("Bearer {SECRET}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "message/rfc822")];
    let answer = ask(app, "POST", &format!("/callbacks/mail{query}"), &headers, mail).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let said: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    said["status"].as_str().expect("a status").to_owned()
}

/// The report of Postfix.
pub(crate) fn postfix(to: &str, message_id: &str, status: &str, told: &str) -> String {
    format!(
        "Return-Path: <>\nReceived: by mx.example.com (Postfix) id 4XYZ; Mon, 5 Jan 2026 12:00:01 +0000\n\
Date: Mon, 5 Jan 2026 12:00:01 +0000\nFrom: MAILER-DAEMON@mx.example.com (Mail Delivery System)\n\
Subject: Undelivered Mail Returned to Sender\nTo: {to}\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n\
Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"4XYZ.1/mx.example.com\"\n\
Message-Id: <4XYZ@mx.example.com>\n\nThis is a MIME-encapsulated message.\n\n--4XYZ.1/mx.example.com\n\
Content-Description: Notification\nContent-Type: text/plain; charset=utf-8\n\nI'm sorry to have to inform you ...\n\n\
--4XYZ.1/mx.example.com\nContent-Description: Delivery report\nContent-Type: message/delivery-status\n\n\
Reporting-MTA: dns; mx.example.com\nX-Postfix-Queue-ID: 4XYZ\nArrival-Date: Mon,  5 Jan 2026 12:00:00 +0000 (UTC)\n\n\
Final-Recipient: rfc822; someone@example.com\nOriginal-Recipient: rfc822;someone@example.com\nAction: failed\n\
Status: {status}\nRemote-MTA: dns; mx.elsewhere.example\nDiagnostic-Code: {told}\n\n\
--4XYZ.1/mx.example.com\nContent-Description: Undelivered Message Headers\nContent-Type: text/rfc822-headers\n\n\
Return-Path: <{to}>\nFrom: Shop <shop@example.com>\nMessage-ID: {message_id}\nSubject: A\n\n--4XYZ.1/mx.example.com--\n"
    )
    .replace('\n', "\r\n")
}

/// The report of Exchange: the whole mail comes back, and the code is one of its own in words.
pub(crate) fn exchange(to: &str, message_id: &str) -> String {
    format!(
        "From: <postmaster@corp.example>\nTo: <{to}>\nDate: Mon, 5 Jan 2026 12:00:05 +0000\nMIME-Version: 1.0\n\
Content-Type: multipart/report; report-type=delivery-status;\n boundary=\"9B095B5ADSN=_01D8A\"\nX-DSNContext: 335a7efd\n\
Message-ID: <Xq@corp.example>\nSubject: Undeliverable: A\n\n--9B095B5ADSN=_01D8A\n\
Content-Type: multipart/alternative; boundary=\"inner\"\n\n--inner\nContent-Type: text/plain; charset=us-ascii\n\n\
The email address you entered couldn't be found.\n\n--inner\nContent-Type: text/html\n\n<p>couldn't be found</p>\n\n--inner--\n\n\
--9B095B5ADSN=_01D8A\nContent-Type: message/delivery-status\n\nReporting-MTA: dns;EX1.corp.example\n\
Received-From-MTA: dns;mx.example.com\nArrival-Date: Mon, 5 Jan 2026 12:00:04 +0000\n\n\
Final-Recipient: rfc822;someone@example.com\nAction: failed\nStatus: 5.1.10\n\
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient someone@example.com\n  not found by SMTP address lookup\n\n\
--9B095B5ADSN=_01D8A\nContent-Type: message/rfc822\n\nReceived: from mx.example.com\nMessage-ID: {message_id}\n\
From: Shop <shop@example.com>\nSubject: A\nContent-Type: text/plain\n\nHello\n\n--9B095B5ADSN=_01D8A--\n"
    )
    .replace('\n', "\r\n")
}

/// The report of Gmail: nested parts, a code over several lines.
pub(crate) fn gmail(to: &str, message_id: &str) -> String {
    format!(
        "Return-Path: <>\nFrom: Mail Delivery Subsystem <mailer-daemon@googlemail.com>\nTo: {to}\nAuto-Submitted: auto-replied\n\
Subject: Delivery Status Notification (Failure)\nReferences: {message_id}\nIn-Reply-To: {message_id}\n\
Message-ID: <65a.df@mx.google.com>\nDate: Mon, 05 Jan 2026 04:00:01 -0800 (PST)\nMIME-Version: 1.0\n\
Content-Type: multipart/report; boundary=\"000000000000f0\"; report-type=delivery-status\n\n--000000000000f0\n\
Content-Type: multipart/related; boundary=\"000000000000f1\"\n\n--000000000000f1\nContent-Type: text/plain; charset=\"UTF-8\"\n\n\
** Address not found **\n\n--000000000000f1--\n--000000000000f0\nContent-Type: message/delivery-status\n\n\
Reporting-MTA: dns; googlemail.com\nArrival-Date: Mon, 05 Jan 2026 04:00:00 -0800 (PST)\nX-Original-Message-ID: {message_id}\n\n\
Final-Recipient: rfc822; someone@example.com\nAction: failed\nStatus: 5.1.1\n\
Remote-MTA: dns; gmail-smtp-in.l.google.com.\nDiagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist.\n\
 550-5.1.1 Please try double-checking 550 5.1.1 gsmtp\nLast-Attempt-Date: Mon, 05 Jan 2026 04:00:01 -0800 (PST)\n\n\
--000000000000f0\nContent-Type: message/rfc822\n\nMessage-ID: {message_id}\nSubject: A\n\nHello\n--000000000000f0--\n"
    )
    .replace('\n', "\r\n")
}

/// A complaint, as mail providers forward it: who complained is taken out.
fn complaint(message_id: &str, kind: &str) -> String {
    format!(
        "From: <feedback@arf.example>\nTo: <abuse@example.com>\nSubject: FW: A\nDate: Mon, 5 Jan 2026 12:30:00 +0000\n\
MIME-Version: 1.0\nMessage-ID: <arf-1@arf.example>\n\
Content-Type: multipart/report; report-type=feedback-report; boundary=\"part1_13d.2e68ed54_boundary\"\n\n\
--part1_13d.2e68ed54_boundary\nContent-Type: text/plain; charset=\"US-ASCII\"\n\nThis is an email abuse report.\n\n\
--part1_13d.2e68ed54_boundary\nContent-Type: message/feedback-report\n\nFeedback-Type: {kind}\nUser-Agent: SomeGenerator/1.0\n\
Version: 1\nOriginal-Mail-From: <redacted@example.com>\n\n--part1_13d.2e68ed54_boundary\nContent-Type: message/rfc822\n\
Content-Disposition: inline\n\nFrom: Shop <shop@example.com>\nTo: <Undisclosed Recipients>\nSubject: A\nMessage-ID: {message_id}\n\nHello\n\
--part1_13d.2e68ed54_boundary--\n"
    )
    .replace('\n', "\r\n")
}

/// A report, of the address for bounces and the Message-ID.
type Write = fn(&str, &str) -> String;

/// How it is called, how it is written, the event, and the suppression.
type Case = (&'static str, Write, &'static str, Option<(Scope, Reason)>);

async fn reports_of_all_servers_say_what_became_of_a_mail(backend: Backend) {
    let hard = Some((Scope::All, Reason::HardBounce));
    let cases: [Case; 10] = [
        (
            "postfix",
            |to, id| {
                postfix(
                    to,
                    id,
                    "5.1.1",
                    "smtp; 550 5.1.1 <a@b.example>: Recipient address rejected",
                )
            },
            "email.bounced",
            hard,
        ),
        (
            "postfix, by its address alone",
            |to, _| postfix(to, "<gone@example.com>", "5.1.1", "smtp; 550 no"),
            "email.bounced",
            hard,
        ),
        (
            "postfix, its address in capitals",
            |to, _| postfix(&to.to_uppercase(), "", "5.1.1", "smtp; 550 no"),
            "email.bounced",
            hard,
        ),
        (
            "postfix, full",
            |to, id| postfix(to, id, "5.2.2", "smtp; 552 5.2.2 mailbox full"),
            "email.soft_bounced",
            None,
        ),
        (
            "postfix, expired",
            |to, id| postfix(to, id, "4.4.1", "X-Postfix; connect: timed out"),
            "email.soft_bounced",
            None,
        ),
        (
            "postfix, policy",
            |to, id| postfix(to, id, "5.7.1", "smtp; 554 5.7.1 blocked"),
            "email.blocked",
            None,
        ),
        ("exchange", exchange, "email.bounced", hard),
        (
            "gmail, by Message-ID alone",
            |_, id| gmail("bounces@example.com", id),
            "email.bounced",
            hard,
        ),
        (
            "complaint",
            |_, id| complaint(id, "abuse"),
            "email.complained",
            Some((Scope::Marketing, Reason::Complaint)),
        ),
        (
            "postfix, delivered",
            |to, id| postfix(to, id, "2.1.5", "smtp; 250 ok").replace("Action: failed", "Action: delivered"),
            "email.delivered",
            None,
        ),
    ];
    let smtp = SmtpServer::start().await;
    let ids: Vec<String> = (0..cases.len()).map(|n| format!("c{n}")).collect();
    let app = app_with(backend, &smtp, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut expected = Vec::new();
    for (id, (what, write, name, stopped)) in ids.iter().zip(cases) {
        let deliveries = smtp.deliveries();
        let mail = deliveries.iter().find(|mail| mail.to == [format!("{id}@example.com")]);
        let return_path = &mail.expect("a mail").from;
        let report = write(return_path, &message_id(&smtp, id));
        // Reports of different mails have different Message-IDs.
        let report = report.replace("Message-Id: <", &format!("Message-Id: <{id}."));
        assert_eq!(pipe(&app, "", &report).await, "recorded", "{what}");
        assert_eq!(pipe(&app, "", &report).await, "duplicate", "{what}");
        expected.extend(stopped);
        assert_eq!(in_force(&app).await, expected, "{what}");
        let [event] = &engagements(&app, id).await[..] else {
            panic!("one event: {what}")
        };
        assert_eq!(event.name, name, "{what}");
        assert_eq!(event.progress_id, app.progress(id).await.progress_id, "{what}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_no_report_or_about_nobody_is_ignored(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_with(backend, &smtp, &["anna"]).await;
    let (to, id) = (smtp.deliveries()[0].from.clone(), message_id(&smtp, "anna"));
    let token = to.split(['+', '@']).nth(1).expect("a reference").to_owned();
    let changed = |place: usize| {
        let mut bytes = token.clone().into_bytes();
        bytes[place] = if bytes[place] == b'a' { b'b' } else { b'a' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let hard = |to: &str| postfix(to, "", "5.1.1", "smtp; 550 5.1.1 <anna@example.com> unknown");
    let mut ignored = vec![
        String::new(),
        "x".to_owned(),
        format!("To: {to}\r\nSubject: Out of office\r\n\r\nI am away. {id}\r\n"),
        format!("To: {to}\r\nSubject: failed\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n"),
        postfix(&to, &id, "4.4.1", "smtp; 450").replace("Action: failed", "Action: delayed"),
        complaint(&id, "not-spam"),
        complaint(&id, "virus"),
        hard("bounces@example.com"),
        hard("anna@example.com"),
        hard(&format!("bounces+{}@example.com", &token[..40])),
        complaint("<6f1c0de0-0000-4000-8000-000000000001@example.com>", "abuse"),
        format!("{}{}", hard("bounces@example.com"), "x ".repeat(500_000)),
    ];
    ignored.extend(
        (0..token.len())
            .step_by(5)
            .map(|place| hard(&format!("bounces+{}@example.com", changed(place)))),
    );
    for mail in &ignored {
        let shown: String = mail.chars().take(3000).collect();
        assert_eq!(pipe(&app, "", mail).await, "ignored", "{shown}");
    }
    assert_eq!(engagements(&app, "anna").await, []);
    // Another deployment's database does not know whom it was sent to.
    let other = mailing_app_with(backend, &smtp.url(), with_secret).await;
    assert_eq!(pipe(&other, "", &hard(&to)).await, "unknown");
    other.server.shutdown().await.expect("stopped");
    let headers = [("Authorization", format!("Bearer {SECRET}"))];
    let headers = [(headers[0].0, headers[0].1.as_str())];
    let huge = "x".repeat(10 * 1024 * 1024 + 1);
    assert_eq!(ask(&app, "POST", "/callbacks/mail", &headers, &huge).await.status, 413);
    // The mail server knows to whom it came, even where nothing in the mail says so.
    let query = format!("?recipient={}", to.replace('+', "%2B"));
    assert_eq!(pipe(&app, &query, &hard("bounces@example.com")).await, "recorded");
    assert_eq!(in_force(&app).await, [(Scope::All, Reason::HardBounce)]);
    app.server.shutdown().await.expect("stopped");
}
