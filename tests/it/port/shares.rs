//! Connections that are not let in: one address has its share, the listener of those who watch has few places, and all is counted.

use campaign_automation::config::Config;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::{answer, ask, ask_for, until_closed};
use crate::rest::ask_at;
use crate::support::{App, Backend};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address");
    socket.connect(to).await.expect("a connection")
}

/// Somewhere else to read metrics from, so that it takes no places of callers.
fn watched(config: &mut Config) {
    config.monitor.monitor_listen = Some((HERE, 0).into());
}

/// How many connections were refused for a reason.
async fn refused(app: &App, reason: &str) -> u64 {
    let monitor = app.server.monitor_addr().expect("a listener");
    let page = ask_at(monitor, "GET", "/metrics", &[], "").await;
    let is_meant = |line: &&str| line.starts_with("campaign_connections_refused_total{") && line.contains(reason);
    let line = page.text().lines().find(is_meant).expect("a metric");
    line.rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

#[tokio::test]
async fn one_address_has_half_of_all_places_and_others_have_the_rest() {
    let app = App::start_with(Backend::Sqlite, |config| {
        watched(config);
        config.listener.max_connections = 6;
    })
    .await;
    let addr = app.server.addr();
    let mut there = Vec::new();
    // One of the three is the app's own.
    for from in [HERE, HERE, THERE, THERE] {
        let mut stream = connect(from, addr).await;
        assert_eq!(ask(&mut stream).await, Some(200), "{from}");
        there.push(stream);
    }
    assert_eq!(refused(&app, "ADDRESS_FULL").await, 0);
    for _ in 0..2 {
        assert_eq!(ask(&mut connect(HERE, addr).await).await, None);
    }
    assert_eq!(refused(&app, "ADDRESS_FULL").await, 2);
    let mut last = connect(THERE, addr).await;
    assert_eq!(ask(&mut last).await, Some(200));
    assert_eq!(refused(&app, "SERVER_FULL").await, 0);
    // Now all places are taken, and it matters no more who comes.
    for from in [HERE, THERE] {
        assert_eq!(ask(&mut connect(from, addr).await).await, None, "{from}");
    }
    assert_eq!(refused(&app, "SERVER_FULL").await, 2);
    for stream in &mut there {
        assert_eq!(ask(stream).await, Some(200));
    }
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn one_address_may_have_all_places_where_that_is_asked_for() {
    let app = App::start_with(Backend::Sqlite, |config| {
        watched(config);
        config.listener.max_connections = 4;
        config.listener.max_connections_per_address = Some(0);
    })
    .await;
    let mut there = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(HERE, app.server.addr()).await;
        assert_eq!(ask(&mut stream).await, Some(200));
        there.push(stream);
    }
    assert_eq!(ask(&mut connect(HERE, app.server.addr()).await).await, None);
    app.server.shutdown().await.expect("stopped");
}

/// Those who say nothing have a quarter of all places, and one address half of that quarter.
#[tokio::test]
async fn one_address_that_says_nothing_is_not_in_the_way_of_others() {
    let app = App::start_with(Backend::Sqlite, |config| {
        watched(config);
        config.listener.max_connections = 40;
    })
    .await;
    let addr = app.server.addr();
    let mut mute = Vec::new();
    for _ in 0..5 {
        mute.push(connect(HERE, addr).await);
    }
    assert_eq!(until_closed(&mut connect(HERE, addr).await).await, b"");
    assert_eq!(refused(&app, "TOO_MANY_NEW").await, 1);
    for _ in 0..3 {
        assert_eq!(ask(&mut connect(THERE, addr).await).await, Some(200));
    }
    // Who says something makes room.
    assert_eq!(ask(&mut mute[0]).await, Some(200));
    assert_eq!(ask(&mut connect(HERE, addr).await).await, Some(200));
    assert_eq!(refused(&app, "TOO_MANY_NEW").await, 1);
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn who_watches_has_limits_as_well_and_they_are_not_those_of_callers() {
    let app = App::start_with(Backend::Sqlite, |config| {
        watched(config);
        config.monitor.max_connections = 4;
        config.listener.greeting_limit = Duration::from_millis(300);
        config.listener.head_limit = Duration::from_secs(5);
    })
    .await;
    let monitor = app.server.monitor_addr().expect("a listener");
    let mut there = Vec::new();
    for from in [HERE, HERE, THERE, THERE] {
        let mut stream = connect(from, monitor).await;
        assert_eq!(ask_for(&mut stream, "/healthz").await, Some(200), "{from}");
        there.push(stream);
        // The share of one address.
        if there.len() == 2 {
            assert_eq!(ask_for(&mut connect(HERE, monitor).await, "/healthz").await, None);
        }
    }
    assert_eq!(ask_for(&mut connect(THERE, monitor).await, "/healthz").await, None);
    for stream in &mut there {
        assert_eq!(ask_for(stream, "/readyz").await, Some(200));
    }
    assert_eq!(ask(&mut connect(HERE, app.server.addr()).await).await, Some(200));
    // An idle one ends by itself, and then so does one that never says anything, or half a head, or too long a one.
    assert_eq!(until_closed(&mut there[0]).await, b"");
    drop(there);
    for said in ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = connect(THERE, monitor).await;
        stream.write_all(said.as_bytes()).await.expect("written");
        assert_eq!(until_closed(&mut stream).await, b"", "{said:?}");
    }
    let mut stream = connect(THERE, monitor).await;
    let head = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(17 * 1024));
    stream.write_all(head.as_bytes()).await.expect("written");
    assert_eq!(answer(&mut stream).await, Some(431));
    assert!(refused(&app, "ADDRESS_FULL").await >= 1);
    app.server.shutdown().await.expect("stopped");
}
