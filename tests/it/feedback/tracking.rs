//! Openings and clicks: asked for by the campaign, recorded once, seen by conditions at once, and no way to anywhere else.

use campaign_automation::proto::campaign::v1 as pb;

use super::{Answer, PUBLIC, ask, engagements, mail_to, reachable, suppressions};
use crate::support::given::{condition, definition, email, shown};
use crate::support::mailing::{mailing_app, mailing_app_with};
use crate::support::smtp::SmtpServer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    an_opening_is_recorded_once_and_seen_by_the_next_condition,
    a_link_leads_on_and_is_recorded_once_for_each,
    what_is_not_asked_for_or_cannot_be_is_left_alone,
    scanners_change_nothing_but_what_they_look_at,
    forged_links_lead_nowhere,
    who_was_moved_or_forgotten_still_gets_there,
);

const HTML: &str = "<html><body><p>Hi {{ customer.name }}</p><a href=\"https://shop.example/a?x=1&amp;y={{ customer.id }}\">A</a>\
     <a href='https://shop.example/b'>B</a><a href=\"mailto:help@shop.example\">C</a><a href=\"{{ links.unsubscribe }}\">no more</a>\
     {{ sender.postal_address }}</body></html>";

async fn put(app: &App, id: &str, change: impl FnOnce(&mut pb::CampaignDefinition)) {
    let mut campaign = pb::CampaignDefinition {
        campaign_id: id.to_owned(),
        subject: id.to_owned(),
        text_body: "https://shop.example/a {{ links.unsubscribe }} {{ sender.postal_address }}".to_owned(),
        html_body: HTML.to_owned(),
        ..Default::default()
    };
    change(&mut campaign);
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
}

/// A server on which Anna has got a mail of a campaign that watches all, and will get another at 14:00 unless she opens the first.
async fn app_on(backend: Backend, smtp: &SmtpServer) -> App {
    let app = mailing_app_with(backend, &smtp.url(), reachable).await;
    put(&app, "AD", |it| (it.track_opens, it.track_clicks) = (true, true)).await;
    let opened = pb::EmailOpened {
        within_hours: 48,
        ..Default::default()
    };
    let nudge = pb::ActionDefinition {
        conditions: vec![condition(
            pb::condition::Test::EmailOpened(opened),
            pb::ConditionThen::Skip,
        )],
        ..email(1, 14, "AD")
    };
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "AD"), nudge]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    app
}

/// The paths of what is in the HTML of the last mail to Anna: all that begins with this after the public URL.
fn paths(smtp: &SmtpServer, begin: &str) -> Vec<String> {
    let mail = mail_to(smtp, "anna@example.com");
    let html = mail.body_html(0).expect("HTML").replace("&#x2f;", "/");
    let urls = html.split(PUBLIC).skip(1);
    let paths = urls.map(|rest| rest.split('"').next().unwrap_or_default().to_owned());
    paths.filter(|path| path.starts_with(begin)).collect()
}

async fn get(app: &App, path: &str) -> Answer {
    ask(app, "GET", path, &[("Accept", "text/html")], "").await
}

async fn an_opening_is_recorded_once_and_seen_by_the_next_condition(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let [picture] = &paths(&smtp, "/o/")[..] else {
        panic!("one picture")
    };
    let mail = mail_to(&smtp, "anna@example.com");
    assert!(
        mail.body_html(0)
            .expect("HTML")
            .contains("style=\"border:0\"></body></html>")
    );
    app.set("2026-01-05T13:00:00Z");
    for minute in 0..3 {
        app.set(&format!("2026-01-05T13:0{minute}:00Z"));
        let shown = get(&app, picture).await;
        assert_eq!((shown.status, shown.header("content-type")), (200, "image/gif"));
        assert_eq!(shown.header("cache-control"), "no-store");
        assert_eq!((shown.body.len(), &shown.body[..6]), (43, &b"GIF89a"[..]));
    }
    let [event] = &engagements(&app, "anna").await[..] else {
        panic!("one event")
    };
    let run = app.progress("anna").await;
    assert_eq!(event.kind(), pb::EngagementKind::EmailOpened);
    assert_eq!(shown(event.occur_time), "2026-01-05T13:00:00Z");
    assert_eq!(event.progress_id, run.progress_id);
    let done = run.completed_actions[0].action.as_ref().expect("an action");
    assert_eq!(event.action_id, done.action_id);
    app.set("2026-01-05T14:30:00Z");
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(run.skipped_actions[0].reason(), pb::SkipReason::Condition, "{run:?}");
    assert_eq!(smtp.mails(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn a_link_leads_on_and_is_recorded_once_for_each(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let links = paths(&smtp, "/c/");
    assert_eq!(links.len(), 2, "no mailto, and not the link to unsubscribe");
    for _ in 0..2 {
        for (link, target) in links
            .iter()
            .zip(["https://shop.example/a?x=1&y=anna", "https://shop.example/b"])
        {
            assert!(!link.contains("shop"), "{link}");
            let answer = get(&app, link).await;
            assert_eq!((answer.status, answer.header("location")), (302, target));
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    let events = engagements(&app, "anna").await;
    let kinds: Vec<_> = events.iter().map(pb::Engagement::kind).collect();
    assert_eq!(kinds, [pb::EngagementKind::EmailClicked; 2]);
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_not_asked_for_or_cannot_be_is_left_alone(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), reachable).await;
    put(&app, "NONE", |_| ()).await;
    put(&app, "OPENS", |it| it.track_opens = true).await;
    put(&app, "CLICKS", |it| it.track_clicks = true).await;
    put(&app, "TEXT", |it| {
        (it.track_opens, it.track_clicks) = (true, true);
        it.html_body.clear();
    })
    .await;
    let cases = [("NONE", 0, 0), ("OPENS", 1, 0), ("CLICKS", 0, 2)];
    let actions = cases.iter().zip(0..).map(|((id, ..), hour)| email(1, 13 + hour, id));
    let actions = actions.chain([email(1, 20, "TEXT")]).collect();
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    for (id, pictures, links) in cases {
        app.tick_hours(1).await;
        let found = (paths(&smtp, "/o/").len(), paths(&smtp, "/c/").len());
        assert_eq!(found, (pictures, links), "{id}");
        let mail = mail_to(&smtp, "anna@example.com");
        let html = mail.body_html(0).expect("HTML").into_owned();
        assert_eq!(html.contains("https://shop.example/b"), links == 0, "{id}: {html}");
        assert!(mail.body_text(0).expect("text").contains("https://shop.example/a "));
    }
    app.tick_hours(6).await;
    let mail = mail_to(&smtp, "anna@example.com");
    assert!(mail.body_text(0).expect("text").contains("https://shop.example/a "));
    assert_eq!(smtp.mails(), 4);
    app.server.shutdown().await.expect("stopped");

    // Without a public URL.
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    put(&app, "RECEIPT", |it| {
        (it.track_opens, it.track_clicks) = (true, true);
        it.kind = pb::CampaignKind::Transactional.into();
        it.html_body = "<a href=\"https://shop.example/b\">B</a>".to_owned();
        it.text_body.clear();
    })
    .await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "RECEIPT")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let html = mail_to(&smtp, "anna@example.com")
        .body_html(0)
        .expect("HTML")
        .into_owned();
    assert_eq!(html.trim_end(), "<a href=\"https://shop.example/b\">B</a>");
    app.server.shutdown().await.expect("stopped");
}

async fn scanners_change_nothing_but_what_they_look_at(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let all = [paths(&smtp, "/o/"), paths(&smtp, "/c/"), paths(&smtp, "/u/")].concat();
    assert_eq!(all.len(), 4);
    for path in &all {
        let head = ask(&app, "HEAD", path, &[], "").await;
        assert!(matches!(head.status, 200 | 302), "{path}");
        assert_eq!(head.body, b"");
    }
    for path in all.iter().filter(|path| !path.starts_with("/u/")) {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(ask(&app, method, path, &[], "").await.status, 405, "{method} {path}");
        }
    }
    assert_eq!(engagements(&app, "anna").await, []);
    for path in &all {
        get(&app, path).await;
    }
    assert_eq!(engagements(&app, "anna").await.len(), 3);
    assert_eq!(suppressions(&app).await, []);
    app.server.shutdown().await.expect("stopped");
}

async fn forged_links_lead_nowhere(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let (open, click) = (&paths(&smtp, "/o/")[0], &paths(&smtp, "/c/")[0]);
    let unsubscribe = &paths(&smtp, "/u/")[0];
    let token = |path: &str| path[3..].to_owned();
    let changed = |place: usize| {
        let mut bytes = token(click).into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let mut forged = vec![
        "x".to_owned(),
        "https:%2F%2Fevil.example".to_owned(),
        "%00".to_owned(),
        token(unsubscribe),
        "A".repeat(8000),
        format!("{}AAAA", token(click)),
    ];
    forged.extend((0..token(click).len() - 1).step_by(11).map(changed));
    for token in forged.iter().chain([&token(click)]) {
        assert_eq!(get(&app, &format!("/o/{token}")).await.status, 403, "{token}");
    }
    for token in forged.iter().chain([&token(open)]) {
        let answer = get(&app, &format!("/c/{token}")).await;
        assert_eq!((answer.status, answer.header("location")), (403, ""), "{token}");
    }
    for query in ["?url=https://evil.example", "?target=//evil.example"] {
        let answer = get(&app, &format!("{click}{query}")).await;
        assert!(answer.header("location").starts_with("https://shop.example/a"));
    }
    assert_eq!(engagements(&app, "anna").await.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

/// Links go on to lead somewhere when the campaign, the timeline or the action is no more.
async fn who_was_moved_or_forgotten_still_gets_there(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_on(backend, &smtp).await;
    let (open, click) = (&paths(&smtp, "/o/")[0], &paths(&smtp, "/c/")[0]);
    app.pass_hours(24 * 365 * 3);
    assert_eq!(get(&app, open).await.status, 200);
    assert_eq!(get(&app, click).await.status, 302);
    assert_eq!(engagements(&app, "anna").await.len(), 2);
    // Another database under the same secret knows nobody of them.
    let smtp = SmtpServer::start().await;
    let other = mailing_app_with(backend, &smtp.url(), reachable).await;
    assert_eq!(get(&other, open).await.status, 200);
    assert_eq!(get(&other, click).await.status, 302);
    other.server.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}
