//! Bodies that nobody meant, from callers who have the secret: they are answered, and the server never takes them for a mistake of its
//! own.

use super::ask;
use super::events::{PLACE, SECRET, with_secret};
use super::reports::postfix;
use crate::support::mutate::check_changed;
use crate::support::{App, Backend, on_each_database};

on_each_database!(no_body_breaks_the_callbacks);

/// How many bodies each callback gets.
const CASES: u32 = 300;

async fn no_body_breaks_the_callbacks(backend: Backend) {
    let app = App::start_with(backend, with_secret).await;
    let events = r#"{"events": [
        {"id": "1", "type": "bounce", "bounce_class": "hard", "code": "5.1.1", "address": "a@example.com", "at": "2026-01-05T12:00:00Z"},
        {"id": "2", "type": "delivered", "channel": "email", "address": "b@example.com"}]}"#;
    let report = postfix("b@example.com", "<a@example.com>", "5.1.1", "smtp; 550 5.1.1 no");
    let bearer = format!("Bearer {SECRET}");
    let runtime = tokio::runtime::Handle::current();
    for (place, kind, body) in [
        (PLACE, "application/json", events),
        ("/callbacks/mail", "message/rfc822", report.as_str()),
    ] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        let post = |body: &str| runtime.block_on(ask(&app, "POST", place, &headers, body)).status;
        tokio::task::block_in_place(|| {
            assert_eq!(post(body), 200, "{place}");
            check_changed(&[body], CASES, |body| match post(&String::from_utf8_lossy(body)) {
                200 | 400 | 413 | 422 => Ok(()),
                status => Err(format!("{place} answers {status}")),
            });
        });
    }
    app.server.shutdown().await.expect("stopped");
}
