//! Answers: messages in their JSON form, and errors as `google.rpc.Status` with the HTTP status that belongs to its code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, stream};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use prost::Message as _;
use prost::bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::call::messages;
use super::refusal::Refusal;

/// Fields that have their default are there as well, so that who reads an answer need not know defaults. What is not set, and
/// optional, is not there.
const WITH_DEFAULTS: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// One message of a stream, and what it was, on a line.
pub(super) const LINES: &str = "application/x-ndjson";

/// A message as JSON.
pub(super) fn message(descriptor: &MessageDescriptor, bytes: &[u8], more: HeaderMap) -> Response<Body> {
    match text(descriptor, bytes, &WITH_DEFAULTS) {
        Ok(text) => {
            let mut response = of(StatusCode::OK, text.into());
            response.headers_mut().extend(more);
            response
        }
        Err(status) => error(descriptor.parent_pool(), &status),
    }
}

/// Messages as they come, each on a line as `{"result": …}`; an error is the last line, `{"error": …}`, unless it is the first thing,
/// when it is an answer as others are.
pub(super) async fn lines(descriptor: &MessageDescriptor, response: Response<Body>, more: HeaderMap) -> Response<Body> {
    let descriptor = descriptor.clone();
    let mut messages = Box::pin(messages(response));
    let first = match messages.next().await {
        Some(Err(status)) => return error(descriptor.parent_pool(), &status),
        first => first,
    };
    let lines = stream::iter(first).chain(messages).map(move |next| {
        let text = next.and_then(|bytes| text(&descriptor, &bytes, &WITH_DEFAULTS));
        let line = match text {
            Ok(text) => format!("{{\"result\":{text}}}\n"),
            Err(status) => format!("{{\"error\":{}}}\n", error_text(descriptor.parent_pool(), &status)),
        };
        Ok::<_, Status>(http_body::Frame::data(Bytes::from(line)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(lines)));
    response.headers_mut().extend(more);
    closed(response.headers_mut(), LINES);
    response
}

/// An error of a method.
pub(super) fn error(pool: &DescriptorPool, status: &Status) -> Response<Body> {
    let mut response = of(http_status(status.code()), error_text(pool, status).into());
    let headers = response.headers_mut();
    if let Some(wait) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if status.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A refusal of what did not come to a method.
pub(super) fn refusal(pool: &DescriptorPool, refusal: Refusal, text: &str) -> Response<Body> {
    let mut response = error(pool, &refusal.status(text));
    *response.status_mut() = refusal.http();
    response
}

/// A text that is JSON.
pub(super) fn of(status: StatusCode, json: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(json)));
    *response.status_mut() = status;
    closed(response.headers_mut(), "application/json");
    response
}

/// What a path takes, for who asks, and for who took another.
pub(super) fn allow(response: &mut Response<Body>, methods: &[&Method]) {
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(ALLOW, names);
    }
}

/// Customers' data is for who asked, and nothing that a browser might run.
fn closed(headers: &mut HeaderMap, kind: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
}

/// The HTTP status of a code, as `google.rpc.Code` has it.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Nobody is there any more to read it; 499 has no name.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn text(descriptor: &MessageDescriptor, bytes: &[u8], options: &SerializeOptions) -> Result<String, Status> {
    let broken = |error: String| {
        tracing::error!("an answer has no JSON form: {}: {error}", descriptor.name());
        Status::internal("something is wrong inside the server; its log says what")
    };
    let message = DynamicMessage::decode(descriptor.clone(), bytes).map_err(|error| broken(error.to_string()))?;
    let mut text = Vec::new();
    let mut printer = serde_json::Serializer::new(&mut text);
    let printed = message.serialize_with_options(&mut printer, options);
    printed.map_err(|error| broken(error.to_string()))?;
    String::from_utf8(text).map_err(|error| broken(error.to_string()))
}

/// An error as `google.rpc.Status` is in JSON.
fn error_text(pool: &DescriptorPool, status: &Status) -> String {
    let inner = crate::proto::google::rpc::Status::decode(status.details()).unwrap_or_default();
    let details = inner.details.iter().map(|detail| detail_json(pool, detail)).collect();
    let (code, message): (Value, Value) = (i32::from(status.code()).into(), status.message().into());
    let details = Value::Array(details);
    // In the order of the contract.
    format!("{{\"code\":{code},\"message\":{message},\"details\":{details}}}")
}

/// A detail with its fields; one that nobody knows, with its bytes.
fn detail_json(pool: &DescriptorPool, detail: &prost_types::Any) -> Value {
    let name = detail.type_url.rsplit('/').next().unwrap_or_default();
    let fields = pool.get_message_by_name(name).and_then(|descriptor| {
        let text = text(&descriptor, &detail.value, &SerializeOptions::new()).ok()?;
        serde_json::from_str(&text).ok()
    });
    match fields {
        Some(Value::Object(mut fields)) => {
            fields.insert("@type".to_owned(), detail.type_url.as_str().into());
            fields.into()
        }
        _ => json!({"@type": detail.type_url, "value": STANDARD.encode(&detail.value)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;
    use crate::proto::google::rpc;
    use http_body_util::BodyExt as _;
    use std::time::Duration;
    use tonic_types::ErrorDetails;

    /// The answer to an error: its HTTP status, a header, and its JSON.
    async fn check(status: &Status, http: u16, header: (HeaderName, &str), json: &Value) {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
        let response = error(&pool, status);
        let (head, body) = response.into_parts();
        assert_eq!(head.status.as_u16(), http);
        let found = head.headers.get(header.0).and_then(|value| value.to_str().ok());
        assert_eq!(found, Some(header.1));
        let body = body.collect().await.expect("a body").to_bytes();
        let found: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(found, *json);
    }

    #[tokio::test]
    async fn errors_are_statuses_with_their_details() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1200)));
        details.set_error_info("GONE", "campaign.v1", [("customer_id".to_owned(), "é".to_owned())]);
        let json = json!({"code": 14, "message": "ünavailable\n", "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.200s"},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "GONE", "domain": "campaign.v1",
             "metadata": {"customer_id": "é"}},
        ]});
        let status = Status::with_error_details(Code::Unavailable, "ünavailable\n", details);
        check(&status, 503, (RETRY_AFTER, "2"), &json).await;
        let json = json!({"code": 16, "message": "who are you?", "details": []});
        let status = Status::unauthenticated("who are you?");
        check(&status, 401, (WWW_AUTHENTICATE, "Bearer"), &json).await;
    }

    #[tokio::test]
    async fn details_that_nobody_knows_keep_their_bytes() {
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/other.v1.Detail".to_owned(),
            value: vec![1, 2, 255],
        };
        let inner = rpc::Status {
            code: 5,
            details: vec![detail],
            ..Default::default()
        };
        let status = Status::with_details(Code::NotFound, "no", inner.encode_to_vec().into());
        let details = json!([{"@type": "type.googleapis.com/other.v1.Detail", "value": "AQL/"}]);
        let json = json!({"code": 5, "message": "no", "details": details});
        check(&status, 404, (CONTENT_TYPE, "application/json"), &json).await;
    }
}
