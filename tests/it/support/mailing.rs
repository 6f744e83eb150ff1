//! Apps whose mail goes to a mail server, crowds of customers, and what arrived.

use campaign_automation::channels::{ChannelUrl, Mailbox};
use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::time::Duration;

use super::app::App;
use super::database::Backend;
use super::given::customer;
use super::smtp::SmtpServer;

/// How long a condition may take to come true. Nobody waits for so long unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server that sends its mail to `smtp`.
pub(crate) async fn mailing_app(backend: Backend, smtp: &SmtpServer) -> App {
    mailing_app_with(backend, &smtp.url(), |_| {}).await
}

/// A server that sends its mail to a URL, with a changed configuration.
pub(crate) async fn mailing_app_with(backend: Backend, url: &str, change: impl FnOnce(&mut Config)) -> App {
    App::start_with(backend, |config| {
        config.channels.email_url = Some(ChannelUrl::parse(url).expect("a URL"));
        config.channels.email_from = Some(Mailbox::parse("Shop <shop@example.com>").expect("a sender"));
        change(config);
    })
    .await
}

/// Stores customers and starts them all on a timeline. Gives their ids.
pub(crate) async fn crowd(app: &App, timeline: &pb::Timeline, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("{prefix}{n:04}")).collect();
    for batch in ids.chunks(1000) {
        let request = pb::UpsertCustomersRequest {
            customers: batch.iter().map(|id| customer(id, "Etc/UTC")).collect(),
            ..Default::default()
        };
        app.customers().upsert_customers(request).await.expect("customers");
    }
    let starts = futures::stream::iter(&ids).map(|id| app.start_run(id, timeline));
    starts.buffer_unordered(16).for_each(|_| async {}).await;
    ids
}

/// The Message-IDs that arrived at a server, by recipient, in order.
pub(crate) fn arrived(smtp: &SmtpServer) -> BTreeMap<String, Vec<String>> {
    let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for delivery in smtp.deliveries() {
        let [to] = delivery.to.as_slice() else {
            panic!("not one recipient: {delivery:?}")
        };
        arrived.entry(to.clone()).or_default().push(delivery.message_id);
    }
    arrived
}

/// Checks that each customer got so many mails, each with a Message-ID of its own, and that nobody else got any.
#[track_caller]
pub(crate) fn assert_each_got(smtp: &SmtpServer, customers: &[String], mails: usize) {
    let arrived = arrived(smtp);
    let got: BTreeMap<&str, usize> = arrived.iter().map(|(to, ids)| (to.as_str(), ids.len())).collect();
    let addresses: Vec<String> = customers.iter().map(|id| format!("{id}@example.com")).collect();
    let expected: BTreeMap<&str, usize> = addresses.iter().map(|to| (to.as_str(), mails)).collect();
    assert_eq!(got, expected);
    let mut ids: Vec<&String> = arrived.values().flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), customers.len() * mails, "Message-IDs are unique");
}

/// Asks for a customer's run again and again until a condition holds, and gives that run.
pub(crate) async fn until_run(app: &App, customer: &str, condition: impl Fn(&pb::Progress) -> bool) -> pb::Progress {
    let asking = async {
        loop {
            let run = app.progress(customer).await;
            if condition(&run) {
                return run;
            }
            tokio::task::yield_now().await;
        }
    };
    if let Ok(run) = tokio::time::timeout(PATIENCE, asking).await {
        return run;
    }
    panic!("in vain: {:?}", app.progress(customer).await)
}

/// The keys of actions, in their order.
pub(crate) fn keys<'a>(actions: impl IntoIterator<Item = &'a Option<pb::ActionRef>>) -> Vec<String> {
    let key = |action: &Option<pb::ActionRef>| action.as_ref().expect("an action").key.clone();
    actions.into_iter().map(key).collect()
}
