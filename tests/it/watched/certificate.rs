//! For how long the server's certificate is valid, as metrics tell it.

use super::scrape::{Metrics, until_metrics};
use super::watched;
use crate::support::certificates::{Authority, Files};
use crate::support::{App, Backend};

const LEFT: &str = "campaign_tls_certificate_time_left_seconds";

/// From noon of 5 January 2026 to the first day of a year, in seconds.
fn until(year: i32) -> f64 {
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("an instant");
    let left = at(&format!("{year}-01-01T00:00:00Z")) - at("2026-01-05T12:00:00Z");
    f64::from(i32::try_from(left.num_seconds()).expect("a few years"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_how_long_the_certificate_is_valid_that_is_shown() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let (certificate, key) = files.pair("server", &authority.server_until(2027));
    let app = App::start_with(Backend::Sqlite, |config| {
        watched(config);
        config.listener.tls_cert_file = Some(certificate);
        config.listener.tls_key_file = Some(key);
    })
    .await;
    let monitor = app.server.monitor_addr().expect("a listener");
    assert_eq!(Metrics::scrape(monitor).await.value(LEFT), Some(until(2027)));
    app.pass_hours(1);
    assert_eq!(Metrics::scrape(monitor).await.value(LEFT), Some(until(2027) - 3600.0));
    // Another is there, and is used from then on.
    files.pair("server", &authority.server_until(2030));
    let renewed = until(2030) - 3600.0;
    until_metrics(monitor, |metrics| metrics.value(LEFT) == Some(renewed)).await;
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_there_is_none() {
    let app = App::start_with(Backend::Sqlite, watched).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    assert_eq!(Metrics::scrape(monitor).await.value(LEFT), None);
    app.server.shutdown().await.expect("stopped");
}
