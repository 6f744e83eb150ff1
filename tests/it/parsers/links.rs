//! Tokens of links and of URLs that providers report to: nobody makes one but who has the secret, each is good for one thing, and what was
//! sealed by an older version, or is broken, is no link.

use campaign_automation::keys::{Keys, Purpose, Secret};
use std::cell::Cell;

use crate::support::app::SECRET;
use crate::support::mutate::check_changed;
use crate::support::{App, Backend};

/// How many cases of each.
const CASES: u32 = 3000;

/// The keys of the servers of tests.
fn keys() -> Keys {
    let secret = std::fs::read_to_string(SECRET).expect("the secret");
    Keys::new(&Secret::parse(&secret).expect("a secret")).expect("keys")
}

/// What links say: to unsubscribe, of a picture, of a target, and where a text message is reported on.
fn contents() -> [(Purpose, Vec<u8>); 4] {
    let (run, action) = (7_i64.to_be_bytes(), 9_i64.to_be_bytes());
    let mail = |rest: &[u8]| [&[1][..], &run, &action, &[4], b"anna", rest].concat();
    [
        (Purpose::Unsubscribe, [&[1][..], &[7; 32], &run, &action].concat()),
        (Purpose::Open, mail(b"")),
        (Purpose::Click, mail(b"https://shop.example/sale?a=b")),
        (
            Purpose::Callback,
            [&[1, 0][..], &run, &action, &1_u32.to_be_bytes(), b"anna"].concat(),
        ),
    ]
}

/// Whether a server takes a token for a link of this kind.
fn is_read(app: &App, purpose: Purpose, token: &str) -> bool {
    let engine = app.server.engine();
    match purpose {
        Purpose::Unsubscribe => engine.read_unsubscribe_link(token).is_some(),
        Purpose::Open => engine.read_open_link(token).is_some(),
        Purpose::Click => engine.read_click_link(token).is_some(),
        Purpose::Callback => engine.read_callback_token(token).is_some(),
        Purpose::Mail => unreachable!("it is in no URL"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_token_is_none() {
    let (app, keys) = (App::start(Backend::Sqlite).await, keys());
    for (purpose, content) in contents() {
        let token = keys.seal(purpose, &content);
        assert!(is_read(&app, purpose, &token), "{purpose:?}");
        for (other, _) in contents().iter().filter(|(other, _)| *other != purpose) {
            assert!(!is_read(&app, *other, &token), "{purpose:?} for {other:?}");
        }
        check_changed(&[&token], CASES, |changed| {
            let changed = String::from_utf8_lossy(changed);
            if is_read(&app, purpose, &changed) && changed != token {
                return Err(format!("{purpose:?}"));
            }
            Ok(())
        });
    }
    app.server.shutdown().await.expect("stopped");
}

/// Content that was sealed with the secret and is none of this version: it is a link or not, and nothing breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_is_a_link_or_not() {
    let (app, keys) = (App::start(Backend::Sqlite).await, keys());
    for (purpose, content) in contents() {
        let read = Cell::new(0);
        check_changed(&[&content], CASES, |changed| {
            let token = keys.seal(purpose, changed);
            let is_link = is_read(&app, purpose, &token);
            read.set(read.get() + u32::from(is_link));
            // Its form is told by its first byte, and this is the only one.
            if is_link && changed[0] != 1 || keys.open(purpose, &token).as_deref() != Some(changed) {
                return Err(format!("{purpose:?}: {is_link}"));
            }
            Ok(())
        });
        assert!((1..CASES).contains(&read.get()), "{purpose:?}: {}", read.get());
    }
    app.server.shutdown().await.expect("stopped");
}
