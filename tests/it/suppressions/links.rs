//! The link to unsubscribe: in every marketing mail, good for one POST by anybody who has it, and for nothing else.

use campaign_automation::config::Config;
use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use futures::StreamExt as _;
use std::collections::{HashMap, HashSet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::broken::run_sql;
use crate::support::calls::completed;
use crate::support::given::{customer, definition, email, shown, sms};
use crate::support::mailing::{crowd, mailing_app_with};
use crate::support::smtp::{Delivery, SmtpServer};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    one_post_unsubscribes_and_nothing_else_does,
    who_unsubscribed_gets_no_marketing_mail_and_all_else,
    a_link_is_good_for_the_address_that_it_went_to,
    links_that_were_not_made_here_are_refused,
    nobody_is_told_that_it_worked_when_it_did_not,
    nobody_gets_a_mail_after_the_answer,
);

const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

pub(crate) const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// How many unsubscribe while a tick runs. `UNSUBSCRIBES=10000` for the long run.
const CROWD: usize = 60;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks a server by HTTP/1.1, on a connection of its own.
pub(crate) async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let length = body.len();
    let headers = headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]);
    let headers: String = headers.collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: mail.example.com\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n\
         {body}"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

async fn post(app: &App, path: &str) -> Answer {
    ask(app, "POST", path, &[FORM], ONE_CLICK).await
}

fn reachable(config: &mut Config) {
    config.public_url = Some(PublicUrl::parse("https://mail.example.com/campaigns/").expect("a URL"));
    config.postal_address = Some("Shop Ltd, 1 High St".to_owned());
}

async fn app_on(backend: Backend, smtp: &SmtpServer) -> App {
    let app = mailing_app_with(backend, &smtp.url(), reachable).await;
    for (id, kind, more) in [
        (
            "AD",
            pb::CampaignKind::Unspecified,
            "{{ links.unsubscribe }} {{ sender.postal_address }}",
        ),
        ("RECEIPT", pb::CampaignKind::Transactional, ""),
    ] {
        let campaign = pb::CampaignDefinition {
            campaign_id: id.to_owned(),
            kind: kind.into(),
            subject: id.to_owned(),
            text_body: format!("Hello {more}"),
            sms_text: "Hi".to_owned(),
            ..Default::default()
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        app.content().apply_campaign(request).await.expect("a campaign");
    }
    app
}

/// The path of the link in the last mail to an address, as a proxy hands it on that cuts off what is before.
fn link(smtp: &SmtpServer, to: &str) -> String {
    let deliveries = smtp.deliveries();
    let mail = deliveries.iter().rfind(|mail| mail.to == [to]).expect("a mail");
    link_in(mail, to)
}

/// The path of the link in a mail.
fn link_in(mail: &Delivery, to: &str) -> String {
    // A folded header is one line (RFC 5322, 2.2.3).
    let data = mail.data.replace("\r\n ", "");
    let header = |name: &str| {
        let lines: Vec<&str> = data.lines().filter_map(|line| line.strip_prefix(name)).collect();
        assert_eq!(lines.len(), 1, "{name} in {data}");
        lines[0].trim().to_owned()
    };
    assert_eq!(header("List-Unsubscribe-Post:"), ONE_CLICK);
    let url = header("List-Unsubscribe:");
    let path = url
        .strip_prefix("<https://mail.example.com/campaigns")
        .and_then(|rest| rest.strip_suffix('>'));
    let path = path.unwrap_or_else(|| panic!("{url}")).to_owned();
    assert!(!path.contains('@') && !path.contains(to), "nothing personal: {path}");
    path
}

pub(crate) async fn listed(app: &App) -> Vec<pb::Suppression> {
    let request = pb::ListSuppressionsRequest::default();
    let response = app.sending().list_suppressions(request).await;
    response.expect("suppressions").into_inner().suppressions
}

async fn one_post_unsubscribes_and_nothing_else_does(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "AD")])).await;
    app.customer("anna", "Etc/UTC").await;
    let run = app.start_run("anna", &timeline).await;
    app.hourly().await;
    let path = link(&smtp, "anna@example.com");

    // A scanner that follows the link, and tries what else there is.
    for method in ["GET", "HEAD", "GET"] {
        let page = ask(&app, method, &path, &[("Accept", "text/html")], "").await;
        assert_eq!(page.status, 200, "{method}");
        for header in [
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "x-robots-tag: noindex",
        ] {
            assert!(page.head.contains(header), "{header}: {}", page.head);
        }
        assert!(!page.head.contains("set-cookie") && !page.head.contains("location"));
        assert_eq!(page.body.contains("<form method=\"post\">"), method == "GET");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(
            ask(&app, method, &path, &[FORM], ONE_CLICK).await.status,
            405,
            "{method}"
        );
    }
    assert_eq!(ask(&app, "GET", "/favicon.ico", &[FORM], "").await.status, 404);
    assert_eq!(ask(&app, "POST", "/u/", &[FORM], ONE_CLICK).await.status, 404);
    assert_eq!(listed(&app).await, []);

    app.set("2026-01-05T15:00:00Z");
    let bodies = [
        (FORM, ONE_CLICK),
        (
            ("Content-Type", "multipart/form-data; boundary=b"),
            "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n",
        ),
    ];
    for (header, body) in bodies {
        let done = ask(&app, "POST", &path, &[header], body).await;
        assert_eq!(done.status, 200);
        assert!(done.body.contains("You are unsubscribed"), "{}", done.body);
    }
    let [suppression] = &listed(&app).await[..] else {
        panic!("one suppression, however often the link is followed");
    };
    assert_eq!(suppression.reason(), pb::SuppressionReason::Unsubscribed);
    assert_eq!(suppression.scope(), pb::SuppressionScope::Marketing);
    assert_eq!(suppression.channel(), pb::Channel::Email);
    assert_eq!(shown(suppression.create_time), "2026-01-05T15:00:00Z");
    assert!(
        suppression.detail.contains(&format!("run {}", run.progress_id)),
        "it says which mail: {}",
        suppression.detail
    );
    app.server.shutdown().await.expect("stopped");
}

async fn who_unsubscribed_gets_no_marketing_mail_and_all_else(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let actions = vec![
        email(1, 0, "AD"),
        email(1, 13, "AD"),
        email(1, 14, "RECEIPT"),
        sms(1, 15, "AD"),
    ];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    for id in ["anna", "berta"] {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    app.hourly().await;
    assert_eq!(post(&app, &link(&smtp, "anna@example.com")).await.status, 200);
    app.tick_hours(5).await;
    let (anna, berta) = (app.progress("anna").await, app.progress("berta").await);
    assert_eq!(completed(&berta).len(), 4);
    assert_eq!(completed(&anna).len(), 3, "{anna:?}");
    let [skipped] = &anna.skipped_actions[..] else {
        panic!("the second advertisement: {anna:?}");
    };
    assert_eq!(skipped.reason(), pb::SkipReason::Suppressed);
    app.server.shutdown().await.expect("stopped");
}

async fn a_link_is_good_for_the_address_that_it_went_to(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let actions = vec![email(1, 0, "AD"), email(1, 13, "AD")];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let old = link(&smtp, "anna@example.com");
    let mut moved = customer("anna", "Etc/UTC");
    moved.email = "anna@new.example.com".to_owned();
    app.put_customer(moved).await;
    assert_eq!(post(&app, &old).await.status, 200);
    app.tick_hours(2).await;
    assert_eq!(
        completed(&app.progress("anna").await).len(),
        2,
        "the new address said nothing"
    );
    let new = link(&smtp, "anna@new.example.com");
    assert_ne!(old, new);
    // Whoever has the old address now is not written to either.
    let mut heir = customer("heir", "Etc/UTC");
    heir.email = "Anna@Example.com".to_owned();
    app.put_customer(heir).await;
    app.start_run("heir", &timeline).await;
    app.hourly().await;
    let reasons: Vec<_> = app
        .progress("heir")
        .await
        .skipped_actions
        .iter()
        .map(pb::SkippedAction::reason)
        .collect();
    assert!(reasons.contains(&pb::SkipReason::Suppressed), "{reasons:?}");
    assert_eq!(smtp.mails(), 2);
    app.server.shutdown().await.expect("stopped");
}

async fn links_that_were_not_made_here_are_refused(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "AD")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let path = link(&smtp, "anna@example.com");
    let token = path.strip_prefix("/u/").expect("a token");
    let swapped: String = token.chars().rev().collect();
    let (cut, longer) = (&token[..token.len() - 2], format!("{token}AA"));
    let flipped = |place: usize| {
        let mut changed = token.as_bytes().to_vec();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        String::from_utf8(changed).expect("ASCII")
    };
    let mut forged = vec![
        swapped,
        cut.to_owned(),
        longer,
        "x".to_owned(),
        "%00".to_owned(),
        "x".repeat(8000),
    ];
    forged.extend((0..token.len() - 1).step_by(7).map(flipped));
    for token in forged {
        for method in ["GET", "POST"] {
            let answer = ask(&app, method, &format!("/u/{token}"), &[FORM], ONE_CLICK).await;
            assert_eq!(answer.status, 403, "{method} {token}");
            let is_shown = token.len() > 1 && answer.body.contains(&token);
            assert!(!is_shown, "{token} is shown");
        }
    }
    assert_eq!(listed(&app).await, []);
    assert_eq!(post(&app, &path).await.status, 200);
    app.server.shutdown().await.expect("stopped");
}

/// Whoever asks a server whose database is not as it should be hears when to ask again, and is unsubscribed then.
async fn nobody_is_told_that_it_worked_when_it_did_not(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "AD")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let path = link(&smtp, "anna@example.com");
    run_sql(&app, &["alter table suppressions rename to away".to_owned()]).await;
    let refused = post(&app, &path).await;
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 30"), "{}", refused.head);
    assert!(
        refused.body.contains("You are not unsubscribed yet"),
        "{}",
        refused.body
    );
    run_sql(&app, &["alter table away rename to suppressions".to_owned()]).await;
    assert_eq!(listed(&app).await, []);
    let done = post(&app, &path).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(listed(&app).await.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

/// While a tick sends, customers unsubscribe. Who has had the answer before the next tick begins gets nothing from it.
async fn nobody_gets_a_mail_after_the_answer(backend: Backend) {
    let many = std::env::var("UNSUBSCRIBES").ok().and_then(|given| given.parse().ok());
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let actions = vec![email(1, 0, "AD"), email(1, 13, "AD"), email(1, 14, "AD")];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    let ids = crowd(&app, &timeline, "c", many.unwrap_or(CROWD)).await;
    while app.hourly().await.has_more {}
    let mails: HashMap<String, Delivery> = smtp
        .deliveries()
        .into_iter()
        .map(|mail| (mail.to[0].clone(), mail))
        .collect();
    let addresses = ids.iter().map(|id| format!("{id}@example.com"));
    let links: Vec<String> = addresses.map(|to| link_in(&mails[&to], &to)).collect();
    // A third before, a third while the second mails go, and a third never.
    let third = ids.len() / 3;
    let follow = |links: Vec<String>| {
        let app = &app;
        let answers = futures::stream::iter(links).map(move |path| async move { post(app, &path).await.status });
        answers
            .buffer_unordered(8)
            .for_each(|status| async move { assert_eq!(status, 200) })
    };
    follow(links[..third].to_vec()).await;
    app.set("2026-01-05T13:30:00Z");
    let before = smtp.mails();
    tokio::join!(app.hourly(), follow(links[third..2 * third].to_vec()));
    let second: HashSet<String> = smtp
        .deliveries_after(before)
        .into_iter()
        .flat_map(|mail| mail.to)
        .collect();
    let got = |id: &String| second.contains(&format!("{id}@example.com"));
    assert!(!ids[..third].iter().any(got), "who had unsubscribed got a mail");
    assert!(ids[2 * third..].iter().all(got), "who never did got none");
    for (id, is_sent) in ids[third..2 * third].iter().map(|id| (id, got(id))) {
        let run = app.progress(id).await;
        let decided = (completed(&run).len(), run.skipped_actions.len());
        assert_eq!(decided, if is_sent { (2, 0) } else { (1, 1) }, "{id}");
    }
    app.set("2026-01-05T14:30:00Z");
    let before = smtp.mails();
    app.hourly().await;
    let third_mails: Vec<String> = smtp
        .deliveries_after(before)
        .into_iter()
        .flat_map(|mail| mail.to)
        .collect();
    assert_eq!(third_mails.len(), ids.len() - 2 * third);
    app.server.shutdown().await.expect("stopped");
}
