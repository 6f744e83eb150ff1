//! Who reports on messages, and under which URLs.

use std::sync::Arc;

use crate::channels::{CallbackUrls, TwilioRequests};
use crate::config::{Config, Routes, SpokenRoute};
use crate::engine::callback_urls;
use crate::keys::Keys;
use crate::web::{self, Providers};

/// How requests are told apart of the providers to which messages go.
pub(super) fn known(routes: &Routes) -> Providers {
    let mut known = Providers::default();
    match &routes.sms {
        SpokenRoute::Twilio(account, _) => known.texts = TwilioRequests::of(account),
        SpokenRoute::Gateway(_, secrets, _) => known.gateway = Some(secrets.clone()),
        SpokenRoute::Outbox(_) => {}
    }
    match &routes.phone {
        SpokenRoute::Twilio(account, _) => known.calls = TwilioRequests::of(account),
        SpokenRoute::Gateway(_, secrets, _) => known.gateway = Some(secrets.clone()),
        SpokenRoute::Outbox(_) => {}
    }
    known
}

/// Under which URLs providers report. None: nobody could tell their reports from forged ones, or they could not reach this server.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    pub(super) texts: Option<CallbackUrls>,
    pub(super) calls: Option<CallbackUrls>,
    pub(super) gateway: Option<CallbackUrls>,
}

impl Callbacks {
    pub(super) fn new(config: &Config, providers: &Providers, keys: &Arc<Keys>) -> Self {
        let Some(public_url) = &config.public_url else {
            return Self::default();
        };
        let below = |path, is_known: bool| is_known.then(|| callback_urls(public_url, keys, path));
        Self {
            texts: below(web::TWILIO_MESSAGE, providers.texts.is_some()),
            calls: below(web::TWILIO_CALL, providers.calls.is_some()),
            gateway: below(web::GATEWAY, providers.gateway.is_some()),
        }
    }
}
