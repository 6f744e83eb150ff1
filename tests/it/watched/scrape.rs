//! Asking by HTTP, and reading metrics as Prometheus does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// What was answered.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

/// Asks by HTTP/1.1, on a connection of its own. `headers`: each with its CR LF.
pub(super) async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Page {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Page {
        status: status.expect("a status"),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// Gets a page.
pub(super) async fn get(addr: SocketAddr, path: &str) -> Page {
    ask(addr, "GET", path, "", "").await
}

/// Asks for a page again and again until it is as it should be.
pub(super) async fn until(addr: SocketAddr, path: &str, is_so: impl Fn(&Page) -> bool) -> Page {
    let asking = async {
        loop {
            let page = get(addr, path).await;
            if is_so(&page) {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    if let Ok(page) = tokio::time::timeout(PATIENCE, asking).await {
        return page;
    }
    panic!("in vain: {:?}", get(addr, path).await)
}

/// Metrics that were read.
#[derive(Debug)]
pub(super) struct Metrics {
    /// The values, by name and labels as they are written.
    series: BTreeMap<String, f64>,
    /// Names that have a description.
    described: BTreeSet<String>,
    /// Names and their types.
    types: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads the text format.
    pub(super) fn parse(text: &str) -> Self {
        let mut metrics = Self {
            series: BTreeMap::new(),
            described: BTreeSet::new(),
            types: BTreeMap::new(),
        };
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a description");
                assert!(help.len() > 10, "{line}");
                metrics.described.insert(name.to_owned());
            } else if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, of) = of.split_once(' ').expect("a type");
                metrics.types.insert(name.to_owned(), of.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let before = metrics
                    .series
                    .insert(series.to_owned(), value.parse().expect("a number"));
                assert_eq!(before, None, "{series} is there twice");
            }
        }
        metrics
    }

    /// Scrapes a listener.
    pub(super) async fn scrape(addr: SocketAddr) -> Self {
        let page = get(addr, "/metrics").await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(
            page.head.contains("content-type: text/plain; version=0.0.4"),
            "{}",
            page.head
        );
        Self::parse(&page.body)
    }

    /// A value; none: there is no such series.
    pub(super) fn value(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// All series, without their values.
    pub(super) fn series(&self) -> BTreeSet<&str> {
        self.series.keys().map(String::as_str).collect()
    }

    /// The sum over the series of a name that have all of these labels.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_meant = |series: &str| {
            let (of, rest) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.iter().all(|label| rest.contains(label))
        };
        let found: Vec<f64> = self
            .series
            .iter()
            .filter(|(series, _)| is_meant(series))
            .map(|(_, value)| *value)
            .collect();
        assert!(!found.is_empty(), "no {name} with {labels:?} in {:#?}", self.series());
        found.iter().sum()
    }

    /// Names and types of all, each with a description.
    #[track_caller]
    pub(super) fn types(&self) -> &BTreeMap<String, String> {
        for name in self.types.keys() {
            assert!(self.described.contains(name), "{name} has no description");
        }
        &self.types
    }
}

/// Scrapes again and again until the metrics are as they should be.
pub(super) async fn until_metrics(addr: SocketAddr, is_so: impl Fn(&Metrics) -> bool) -> Metrics {
    let page = until(addr, "/metrics", |page| is_so(&Metrics::parse(&page.body))).await;
    Metrics::parse(&page.body)
}
