//! The picture that tells that a mail was opened, and the links that tell that they were followed.
//!
//! What is shown or where it leads never waits for the database for long, and never fails with it: a reader is worth more than a
//! number.

use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

use super::{Shared, in_time_of, unknown_link};

/// How long somebody waits at most for what is recorded of him.
const LIMIT: Duration = Duration::from_secs(2);

/// A picture of one pixel that nobody sees.
const PIXEL: [u8; 43] = *b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\x21\xf9\x04\x01\x00\x00\x00\x00\
    \x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

/// The picture, when somebody looks at the mail.
pub(super) async fn open(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let Some(link) = shared.engine.read_open_link(&token) else {
        return unknown_link();
    };
    in_time_of(LIMIT, "record that a mail was opened", shared.engine.mail_opened(&link)).await;
    picture()
}

/// The picture, when somebody only asks for what it is.
pub(super) async fn peek_at_picture(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let link = shared.engine.read_open_link(&token);
    link.map_or_else(unknown_link, |_| picture())
}

/// The way on, when somebody follows a link.
pub(super) async fn click(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let Some(link) = shared.engine.read_click_link(&token) else {
        return unknown_link();
    };
    in_time_of(
        LIMIT,
        "record that a link was followed",
        shared.engine.link_followed(&link),
    )
    .await;
    on_to(link.target())
}

/// The way on, when somebody only asks where a link leads.
pub(super) async fn peek_at_link(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let link = shared.engine.read_click_link(&token);
    link.map_or_else(unknown_link, |link| on_to(link.target()))
}

fn picture() -> Response {
    ([(CONTENT_TYPE, "image/gif")], PIXEL).into_response()
}

fn on_to(target: &str) -> Response {
    match HeaderValue::from_str(target) {
        Ok(target) => (StatusCode::FOUND, [(LOCATION, target)]).into_response(),
        Err(_) => unknown_link(),
    }
}
