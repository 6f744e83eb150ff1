//! Keys at a URL: asked for when one is missing, not too often, kept when there is no answer, and given up when they are withdrawn.

use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use super::{Guarded, LIST_TICKS, refused, told};
use crate::support::Backend;
use crate::support::http::{Behaviour, HttpServer};
use crate::support::jwt::{AUDIENCE, ISSUER, Signer, claims, jwks};

/// A server that asks this one for keys.
async fn guarded(issuer: &HttpServer) -> Guarded {
    guarded_by(&issuer.address()).await
}

/// The same, of an issuer at an address.
async fn guarded_by(address: &str) -> Guarded {
    let url = format!("http://{address}/keys");
    Guarded::start(Backend::Sqlite, &[], |config, _| {
        config.auth.jwt_issuer = Some(ISSUER.to_owned());
        config.auth.jwt_audience = Some(AUDIENCE.to_owned());
        config.auth.jwks_url = Some(campaign_automation::channels::HttpUrl::parse(&url).expect("a URL"));
    })
    .await
}

/// Calls with a token of a key that is good at this moment.
async fn call(it: &Guarded, key: &Signer) -> Result<(), tonic::Status> {
    let now = campaign_automation::clock::Clock::now(&*it.app.clock);
    let token = key.token(&claims("nightly", &["scheduler"], &now.to_rfc3339()));
    it.call(LIST_TICKS, &token).await
}

#[track_caller]
fn unknown(result: &Result<(), tonic::Status>, what: &str) {
    refused(result, Code::Unauthenticated, "TOKEN_INVALID", what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_replaced() {
    let issuer = HttpServer::start().await;
    let (old, new, forged) = (Signer::ed("old"), Signer::p256("new"), Signer::ed("forged"));
    issuer.answer(200, &jwks(&[&old]));
    let it = guarded(&issuer).await;
    assert_eq!(told(&call(&it, &old).await), Ok(()));
    assert_eq!(issuer.requests().len(), 1, "asked once, at the start");
    assert_eq!(issuer.requests()[0].path(), "/keys");
    issuer.answer(200, &jwks(&[&old, &new]));
    assert_eq!(told(&call(&it, &new).await), Ok(()), "asked for as it was missing");
    assert_eq!(told(&call(&it, &old).await), Ok(()));
    assert_eq!(issuer.requests().len(), 2);
    for _ in 0..20 {
        unknown(&call(&it, &forged).await, "forged");
    }
    assert_eq!(issuer.requests().len(), 2, "forged tokens make no requests");
    it.app.clock.advance(chrono::Duration::seconds(30));
    unknown(&call(&it, &forged).await, "forged");
    unknown(&call(&it, &forged).await, "forged");
    assert_eq!(issuer.requests().len(), 3, "one in half a minute");
    // A key that is withdrawn is of no use after ten minutes.
    issuer.answer(200, &jwks(&[&new]));
    assert_eq!(told(&call(&it, &old).await), Ok(()));
    it.app.clock.advance(chrono::Duration::minutes(10));
    unknown(&call(&it, &old).await, "withdrawn");
    assert_eq!(told(&call(&it, &new).await), Ok(()));
    assert_eq!(issuer.requests().len(), 4);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_while_there_are_no_others() {
    let issuer = HttpServer::start().await;
    let (key, forged) = (Signer::rsa("rsa"), Signer::ed("forged"));
    issuer.answer(200, &jwks(&[&key]));
    let it = guarded(&issuer).await;
    let evil = HttpServer::start().await;
    evil.answer(200, &jwks(&[&forged]));
    // It lives as long as the program does, as headers of answers do here.
    let location: &'static str = format!("Location: http://{}/keys\r\n", evil.address()).leak();
    for behaviour in [
        Behaviour::Answer(500, "", String::new()),
        Behaviour::Answer(302, location, String::new()),
        Behaviour::Answer(200, "", "{}".to_owned()),
        Behaviour::Answer(200, "", "{\"keys\": []}".to_owned()),
        Behaviour::Answer(200, "", jwks(&[&forged]).replace("OKP", "oct")),
        Behaviour::Answer(404, "", jwks(&[&forged])),
        Behaviour::CloseUnanswered,
        Behaviour::CloseInBody(200),
        Behaviour::Endless(200),
        Behaviour::Babble,
    ] {
        let before = issuer.requests().len();
        issuer.behave(behaviour.clone());
        it.app.clock.advance(chrono::Duration::minutes(11));
        assert_eq!(told(&call(&it, &key).await), Ok(()), "{behaviour:?}");
        assert_eq!(issuer.requests().len(), before + 1, "{behaviour:?}");
        unknown(&call(&it, &forged).await, "forged");
    }
    assert_eq!(evil.requests().len(), 0, "no redirect is followed");
    it.stop().await;
}

/// A server comes up while its issuer is away, and tells its callers to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_callers_try_again() {
    let issuer = HttpServer::start().await;
    let key = Signer::ed("ed");
    issuer.answer(503, "");
    let it = guarded(&issuer).await;
    refused(&call(&it, &key).await, Code::Unavailable, "KEYS_UNAVAILABLE", "away");
    refused(
        &it.call(LIST_TICKS, "no-jwt").await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
        "no JWT",
    );
    issuer.answer(200, &jwks(&[&key]));
    it.app.clock.advance(chrono::Duration::seconds(30));
    assert_eq!(told(&call(&it, &key).await), Ok(()));
    it.stop().await;
}

/// Takes a request for keys, which is answered later.
async fn asked(issuer: &TcpListener) -> TcpStream {
    let (mut stream, _) = issuer.accept().await.expect("a connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    stream
}

async fn answer(mut stream: TcpStream, keys: &str) {
    let length = keys.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{keys}");
    stream.write_all(answer.as_bytes()).await.expect("written");
}

/// Who asks for a key that is missing may hang up before it is there: it comes for the others all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_takes_no_keys_with_him() {
    let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = issuer.local_addr().expect("an address").to_string();
    let (old, new) = (Signer::ed("old"), Signer::p256("new"));
    let first = jwks(&[&old]);
    let starting = tokio::spawn(async move { guarded_by(&address).await });
    answer(asked(&issuer).await, &first).await;
    let it = Arc::new(starting.await.expect("a server"));

    let impatient = tokio::spawn({
        let it = Arc::clone(&it);
        let new = Signer::p256("new");
        async move { call(&it, &new).await }
    });
    let stream = asked(&issuer).await;
    impatient.abort();
    assert!(impatient.await.is_err_and(|error| error.is_cancelled()));
    // The server has heard that he hung up when it has answered what came after.
    assert_eq!(told(&call(&it, &old).await), Ok(()));
    answer(stream, &jwks(&[&old, &new])).await;
    let heard = async {
        while call(&it, &new).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let heard = tokio::time::timeout(std::time::Duration::from_secs(60), heard).await;
    assert!(heard.is_ok(), "the keys did not come");
    Arc::into_inner(it).expect("nobody else").stop().await;
}
