//! Reports and answers that nobody meant, signed as the provider signs: they are answered, and the server never takes them for a mistake of
//! its own. The same with a signature of something else change nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::channels::ChannelUrl;
use campaign_automation::engine::PublicUrl;
use ring::hmac::{self, HMAC_SHA256};

use super::{PUBLIC, SECRET, app, call, place, start};
use crate::providers;
use crate::support::given::sms;
use crate::support::http::HttpServer;
use crate::support::mutate::check_changed;
use crate::support::{App, Backend, on_each_database};
use crate::suppressions::answers::signature;
use crate::suppressions::links::{FORM, ask};

on_each_database!(no_form_of_twilio_breaks_the_callbacks, no_report_of_a_gateway_does);

/// How many bodies each callback gets.
const CASES: u32 = 250;

/// Noon of Monday, 5 January 2026, as the server's clock has it.
const NOON: i64 = 1_767_614_400;

/// Posts a form as Twilio would if it had this in mind, or with the signature of another one. Gives the status.
async fn post(app: &App, place: &str, body: &str, signed: &str) -> u16 {
    let parameters: Vec<_> = form_urlencoded::parse(signed.as_bytes()).collect();
    let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
    let signature = signature("t0ken", &format!("{PUBLIC}{place}"), &parameters);
    ask(app, "POST", place, &[FORM, ("X-Twilio-Signature", &signature)], body)
        .await
        .status
}

async fn no_form_of_twilio_breaks_the_callbacks(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), call(1)]).await;
    app.hourly().await;
    let places: Vec<String> = twilio.requests().iter().map(place).collect();
    let [text, call] = &places[..] else {
        panic!("two requests")
    };
    let inbound = "/callbacks/twilio/inbound".to_owned();
    let runtime = tokio::runtime::Handle::current();
    for (place, body, good) in [
        (
            text,
            "MessageSid=SM77&MessageStatus=undelivered&ErrorCode=30005&To=%2B14155552671",
            204,
        ),
        (
            call,
            "CallSid=CA77&CallStatus=no-answer&CallDuration=0&To=%2B14155552671",
            204,
        ),
        (
            &inbound,
            "MessageSid=SM78&From=%2B14155552671&To=%2B14155550100&Body=Hello%20there&OptOutType=HELP",
            200,
        ),
    ] {
        let post = |body: &str, signed: &str| runtime.block_on(post(&app, place, body, signed));
        tokio::task::block_in_place(|| {
            assert_eq!(post(body, body), good, "{place}");
            check_changed(&[body], CASES, |changed| {
                let changed = String::from_utf8_lossy(changed);
                // Names that come twice may be in another order where they are signed.
                let status = post(&changed, &changed);
                if status != good && ![400, 403, 413].contains(&status) {
                    return Err(format!("{place} answers {status}"));
                }
                let parsed = |form: &str| form_urlencoded::parse(form.as_bytes()).into_owned().collect::<Vec<_>>();
                let forged = post(&changed, body);
                if forged == good && sorted(parsed(&changed)) != sorted(parsed(body)) {
                    return Err(format!("{place} takes what is not signed"));
                }
                Ok(())
            });
        });
    }
    app.server.shutdown().await.expect("stopped");
}

/// What is signed of a form: all names and values one after the other, in order of the names.
fn sorted(mut parameters: Vec<(String, String)>) -> String {
    parameters.sort();
    parameters.into_iter().map(|(name, value)| name + &value).collect()
}

async fn no_report_of_a_gateway_does(backend: Backend) {
    let gateway = HttpServer::start().await;
    let crm = HttpServer::start().await;
    let app = providers::app(backend, &gateway, &crm, |config| {
        config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
        let url = format!("gateway+http://{}/sms", gateway.address());
        config.channels.sms_url = ChannelUrl::parse(&url).ok();
    })
    .await;
    start(&app, vec![sms(1, 0, "A")]).await;
    app.hourly().await;
    let url = gateway.requests()[0].json()["status_callback"].clone();
    let place = url
        .as_str()
        .and_then(|url| url.strip_prefix(PUBLIC))
        .expect("a place")
        .to_owned();
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("a secret");
    let key = hmac::Key::new(HMAC_SHA256, &key);
    let second = NOON.to_string();
    let runtime = tokio::runtime::Handle::current();
    let post = |body: &str, signed: &str| {
        let signed = format!("msg_1.{second}.{signed}");
        let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, signed.as_bytes())));
        let headers = [
            ("Content-Type", "application/json"),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", &second),
            ("webhook-signature", &signature),
        ];
        runtime.block_on(ask(&app, "POST", &place, &headers, body)).status
    };
    let body = r#"{"status": "failed", "id": "gw-7", "error_code": 17, "suppress": true, "more": {"a": [1, null]}}"#;
    tokio::task::block_in_place(|| {
        assert_eq!(post(body, body), 204);
        check_changed(&[body], CASES, |changed| {
            let changed = String::from_utf8_lossy(changed);
            match post(&changed, &changed) {
                204 if serde_json::from_str::<serde_json::Value>(&changed).is_err() => {
                    return Err("what is no JSON is taken".to_owned());
                }
                204 | 400 | 413 => {}
                status => return Err(format!("it answers {status}")),
            }
            if post(&changed, body) != 403 && changed != body {
                return Err("what is not signed is taken".to_owned());
            }
            Ok(())
        });
    });
    app.server.shutdown().await.expect("stopped");
}
