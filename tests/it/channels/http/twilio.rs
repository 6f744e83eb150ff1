//! Text messages and calls in Twilio's protocol.

use campaign_automation::channels::{
    CallbackUrls, ChannelUrl, Content, HttpClient, Message, Outcome, Sender, SmsFrom, SmsLimit, TwilioSender, TwilioUrl,
};
use campaign_automation::domain::PhoneNumber;
use std::sync::Arc;
use std::time::Duration;

use super::{check_broken_connections, client, golden, impatient};
use crate::channels::{kind, message};
use crate::support::http::{Behaviour, HttpServer, sid, twilio_error};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

fn account(server: &HttpServer) -> TwilioUrl {
    let url = format!("twilio+http://{ACCOUNT}:t0ken@{}", server.address());
    let ChannelUrl::Twilio(account) = ChannelUrl::parse(&url).expect("valid") else {
        panic!("not Twilio: {url}")
    };
    account
}

fn number(given: &str) -> PhoneNumber {
    PhoneNumber::parse(given).expect(given)
}

fn texts(client: Arc<HttpClient>, server: &HttpServer) -> TwilioSender {
    let from = SmsFrom::parse("+14155550100").expect("valid");
    TwilioSender::messages(client, account(server), from, SmsLimit::default(), None)
}

fn calls(client: Arc<HttpClient>, server: &HttpServer) -> TwilioSender {
    TwilioSender::calls(client, account(server), number("+14155550100"), None)
}

fn text(text: &str) -> Content {
    Content::Sms {
        to: number("+14155552671"),
        text: text.to_owned(),
    }
}

fn call(script: &str) -> Content {
    Content::Call {
        to: number("+14155552671"),
        script: script.to_owned(),
    }
}

fn delivered(provider_id: &str) -> Outcome {
    Outcome::Delivered {
        provider_id: provider_id.to_owned(),
    }
}

#[tokio::test]
async fn a_text_message_is_asked_for_in_these_bytes() {
    let server = HttpServer::twilio().await;
    let outcome = texts(client(), &server)
        .send(&message(text("Hi Zoë & co: 100 %+€")))
        .await;
    assert_eq!(outcome, delivered(&sid("SM", 1)));
    assert_eq!(
        golden(&server),
        "POST /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages.json HTTP/1.1\r\n\
         authorization: Basic QUMwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjp0MGtlbg==\r\n\
         content-type: application/x-www-form-urlencoded\r\n\
         accept: */*\r\n\
         user-agent: campaign-automation/0.1.0\r\n\
         host: 127.0.0.1:PORT\r\n\
         content-length: 84\r\n\
         \r\n\
         To=%2B14155552671&From=%2B14155550100&Body=Hi+Zo%C3%AB+%26+co%3A+100+%25%2B%E2%82%AC"
    );
}

#[tokio::test]
async fn a_call_is_asked_for_in_these_bytes() {
    let server = HttpServer::twilio().await;
    let outcome = calls(client(), &server).send(&message(call("Good day <Zoë>"))).await;
    assert_eq!(outcome, delivered(&sid("CA", 1)));
    assert_eq!(
        golden(&server),
        "POST /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Calls.json HTTP/1.1\r\n\
         authorization: Basic QUMwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjp0MGtlbg==\r\n\
         content-type: application/x-www-form-urlencoded\r\n\
         accept: */*\r\n\
         user-agent: campaign-automation/0.1.0\r\n\
         host: 127.0.0.1:PORT\r\n\
         content-length: 129\r\n\
         \r\n\
         To=%2B14155552671&From=%2B14155550100&Twiml=%3CResponse%3E%3CSay%3EGood+day+%26lt%3BZo%C3%AB%26gt%3B%3C%2FSay%3E%3C%2FResponse%3E"
    );
}

#[tokio::test]
async fn what_is_known_is_passed_on() {
    let server = HttpServer::twilio().await;
    let service = format!("MG{}", "0a".repeat(16));
    let from = SmsFrom::parse(&service).expect("valid");
    let callbacks = |message: &Message| Some(format!("https://campaigns.example/callbacks/{}", message.attempt));
    let callbacks = CallbackUrls::new(callbacks);
    let sender = TwilioSender::messages(
        client(),
        account(&server),
        from,
        SmsLimit::default(),
        Some(callbacks.clone()),
    );
    for (valid, expected) in [(0, "1"), (90, "90"), (36_000, "36000"), (99_999, "36000")] {
        let valid_for = Some(Duration::from_secs(valid));
        let sent = Message {
            valid_for,
            ..message(text("Hi"))
        };
        assert_eq!(kind(&sender.send(&sent).await), "delivered");
        let request = server.requests().pop().expect("a request");
        assert_eq!(request.parameter("ValidityPeriod"), expected);
        assert_eq!(request.parameter("MessagingServiceSid"), service);
        assert_eq!(request.parameter("From"), "");
        assert_eq!(
            request.parameter("StatusCallback"),
            "https://campaigns.example/callbacks/1"
        );
    }
    let sender = TwilioSender::calls(client(), account(&server), number("+14155550100"), Some(callbacks));
    assert_eq!(kind(&sender.send(&message(call("Hi"))).await), "delivered");
    let request = server.requests().pop().expect("a request");
    assert_eq!(
        request.parameter("StatusCallback"),
        "https://campaigns.example/callbacks/1"
    );
    assert_eq!(request.body.matches("StatusCallbackEvent=").count(), 4);

    // With an API key, it is the key that logs in.
    let url = format!("twilio+http://SK1:s%2Fecret@{}/?account={ACCOUNT}", server.address());
    let Ok(ChannelUrl::Twilio(account)) = ChannelUrl::parse(&url) else {
        panic!("not Twilio")
    };
    let from = SmsFrom::parse("+14155550100").expect("valid");
    let sender = TwilioSender::messages(client(), account, from, SmsLimit::default(), None);
    assert_eq!(kind(&sender.send(&message(text("Hi"))).await), "delivered");
    let request = server.requests().pop().expect("a request");
    assert_eq!(request.path(), format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json"));
    assert_eq!(request.header("authorization"), "Basic U0sxOnMvZWNyZXQ=");
}

#[tokio::test]
async fn what_twilio_answers_decides_what_happens_next() {
    let error = |status, code| twilio_error(status, code, "no");
    let cases = [
        (error(401, 20003), "misconfigured"),
        (error(404, 20404), "misconfigured"),
        (error(429, 20429), "retry"),
        (error(400, 21211), "rejected"),
        (error(400, 21612), "rejected"),
        (error(400, 21614), "rejected"),
        (error(400, 21610), "suppress"),
        (error(400, 21606), "misconfigured"),
        (error(500, 20500), "unknown"),
        (error(400, 77777), "rejected"),
        (Behaviour::Answer(503, "", "<html>".to_owned()), "unknown"),
        (Behaviour::Answer(201, "", "no JSON".to_owned()), "delivered"),
        (
            Behaviour::Answer(200, "", "<html>Welcome to our WiFi".to_owned()),
            "unknown",
        ),
        (Behaviour::Answer(204, "", String::new()), "unknown"),
    ];
    for (behaviour, expected) in cases {
        let server = HttpServer::twilio().await;
        for (sender, content) in [
            (texts(client(), &server), text("Hi")),
            (calls(client(), &server), call("Hi")),
        ] {
            server.behave(behaviour.clone());
            let outcome = sender.send(&message(content.clone())).await;
            assert_eq!(kind(&outcome), expected, "{behaviour:?}: {outcome:?}");
            server.accept_all();
            assert_eq!(
                kind(&sender.send(&message(content)).await),
                "delivered",
                "after {behaviour:?}"
            );
        }
        assert_eq!(server.requests().len(), 4, "{behaviour:?} costs no other request");
    }
}

#[tokio::test]
async fn the_wait_that_twilio_asks_for_is_passed_on() {
    let server = HttpServer::start().await;
    for (header, expected) in [
        ("retry-after: 90\r\n", Some(90)),
        ("Retry-After: Fri, 02 Jan 2026 12:05:00 GMT\r\n", Some(300)),
        ("retry-after: soon\r\n", None),
        ("", None),
    ] {
        server.behave(Behaviour::Answer(429, header, String::new()));
        let Outcome::Retry { after, .. } = texts(client(), &server).send(&message(text("Hi"))).await else {
            panic!("no retry")
        };
        assert_eq!(after.map(|after| after.as_secs()), expected, "{header}");
    }
}

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    check_broken_connections(text("Hi"), |server| texts(impatient(), server)).await;
    check_broken_connections(call("Hi"), |server| calls(impatient(), server)).await;
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let server = HttpServer::start().await;
    let sender = texts(client(), &server);
    drop(server);
    // The task that listens ends a little later than it is told to.
    while kind(&sender.send(&message(text("Hi"))).await) != "retry" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_before_anything_is() {
    let server = HttpServer::twilio().await;
    let to = |to: &str| Content::Sms {
        to: number(to),
        text: "Hi".to_owned(),
    };
    let from = SmsFrom::parse("+14155550100").expect("valid");
    let limit = SmsLimit::new(2).expect("a limit");
    let messages = TwilioSender::messages(client(), account(&server), from, limit, None);
    let calls = calls(client(), &server);
    for (sender, content, expected) in [
        (&messages, text(&"a".repeat(307)), "3 segments, and 2 is the most"),
        (&messages, text(&"я".repeat(135)), "3 segments"),
        (&messages, text(" "), "empty"),
        (&messages, to("+19005550123"), "premium"),
        (&messages, to("+49110"), "emergency"),
        (&messages, call("Hi"), "text messages only"),
        (&calls, text("Hi"), "calls only"),
        (&calls, call("\n"), "empty"),
        (&calls, call(&"a".repeat(4000)), "4000 characters"),
        (&calls, call(&"&".repeat(800)), "4000 characters"),
    ] {
        let outcome = sender.send(&message(content.clone())).await;
        let Outcome::Unsendable { error } = outcome else {
            panic!("{content:?}: {outcome:?}")
        };
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(server.requests(), []);
    assert_eq!(
        kind(&messages.send(&message(text(&"a".repeat(306)))).await),
        "delivered"
    );
    assert_eq!(kind(&calls.send(&message(call(&"a".repeat(3950)))).await), "delivered");
}

#[tokio::test]
async fn nothing_secret_or_personal_is_in_what_is_said() {
    let server = HttpServer::start().await;
    let said = "Number +1 415 555 2671 (14155552671) of anna@example.org, token t0ken: \u{1b}[2J no\r\nno";
    server.behave(twilio_error(400, 21211, said));
    let sender = texts(client(), &server);
    let outcome = sender.send(&message(text("Hi"))).await;
    let error = "HTTP 400, error 21211: Number ***71 (***) of *** token ***:  [2J no  no".to_owned();
    assert_eq!(outcome, Outcome::Rejected { error });
    server.behave(twilio_error(400, 21211, &"x".repeat(60_000)));
    let Outcome::Rejected { error } = sender.send(&message(text("Hi"))).await else {
        panic!("not rejected")
    };
    assert!(error.chars().count() < 400, "{error}");
    let shown = format!("{sender:?} {sender:#?}");
    assert!(
        !shown.contains("t0ken") && !shown.contains("Basic") && !shown.contains("dDBrZW4"),
        "{shown}"
    );
}
