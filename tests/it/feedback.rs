//! What comes back about mail: openings and clicks, and what providers and mail servers tell.

mod events;
mod hostile;
pub(crate) mod reports;
mod tracking;

use campaign_automation::config::Config;
use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::App;
use crate::support::smtp::SmtpServer;

/// What a server answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case, but for the values of headers.
    head: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty when it is missing.
    fn header(&self, name: &str) -> &str {
        let found = self.head.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// Asks a server by HTTP/1.1, on a connection of its own.
async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let length = body.len();
    let headers = headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]);
    let headers: String = headers.collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: mail.example.com\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n\
         {body}"
    );
    // A server that refuses the head may close before it has read the body.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    Answer {
        status: status.expect("a status"),
        head: head.lines().skip(1).filter_map(header).collect(),
        body: answer[end + 4..].to_vec(),
    }
}

const PUBLIC: &str = "https://mail.example.com/campaigns";

fn reachable(config: &mut Config) {
    config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
    config.postal_address = Some("Shop Ltd, 1 High St".to_owned());
}

/// The last mail to an address, read by a MIME parser.
fn mail_to(smtp: &SmtpServer, to: &str) -> mail_parser::Message<'static> {
    let deliveries = smtp.deliveries();
    let mail = deliveries.iter().rfind(|mail| mail.to == [to]).expect("a mail");
    let parsed = mail_parser::MessageParser::default().parse(mail.data.as_bytes());
    parsed.expect("a mail").into_owned()
}

async fn engagements(app: &App, customer: &str) -> Vec<pb::Engagement> {
    let request = pb::ListEngagementsRequest {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    let page = app.customers().list_engagements(request).await.expect("a page");
    page.into_inner().engagements
}

async fn suppressions(app: &App) -> Vec<pb::Suppression> {
    let request = pb::ListSuppressionsRequest::default();
    let response = app.sending().list_suppressions(request).await;
    response.expect("suppressions").into_inner().suppressions
}
