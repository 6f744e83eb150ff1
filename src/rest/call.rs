//! A call as gRPC has it: the frame of a request, and the frames and trailers of what is answered. It is made within the process, to
//! the same service that the port serves, so that all its layers are passed.

use futures::{Stream, StreamExt as _, stream};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName,
    HeaderValue, ORIGIN, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, Uri, Version, request};
use http_body_util::{BodyExt as _, Full};
use prost::bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost_reflect::MethodDescriptor;
use tonic::body::Body;
use tonic::{Code, Status};

/// What is about the HTTP request itself, and not handed on.
const OF_HTTP: [HeaderName; 13] = [
    ACCEPT,
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    ORIGIN,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How a gRPC message begins: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The gRPC request of a method, with the metadata of the caller: who it is, how long it waits, what it traces.
pub(super) fn request(mut head: request::Parts, rpc: &MethodDescriptor, message: &[u8]) -> Option<Request<Body>> {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).ok()?);
    frame.put_slice(message);
    for name in OF_HTTP {
        head.headers.remove(name);
    }
    // How messages are compressed is between the two ends of this call.
    head.headers.remove("grpc-encoding");
    head.headers.remove("grpc-accept-encoding");
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    head.method = Method::POST;
    head.version = Version::HTTP_2;
    head.uri = Uri::try_from(path(rpc)).ok()?;
    Some(Request::from_parts(head, Body::new(Full::new(frame.freeze()))))
}

/// Where gRPC has a method.
pub(super) fn path(rpc: &MethodDescriptor) -> String {
    format!("/{}/{}", rpc.parent_service().full_name(), rpc.name())
}

/// What a unary method answered.
pub(super) async fn unary(response: Response<Body>) -> Result<Bytes, Status> {
    let mut messages = Box::pin(messages(response));
    let first = messages.next().await.unwrap_or_else(|| Err(broken()))?;
    match messages.next().await {
        None => Ok(first),
        Some(Err(status)) => Err(status),
        Some(Ok(_)) => Err(broken()),
    }
}

/// What a method answered, message by message; an error is the last.
pub(super) fn messages(response: Response<Body>) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let (head, body) = response.into_parts();
    let reading = Reading {
        // Where there is nothing but an error, it stands in the head.
        end: Status::from_header_map(&head.headers),
        body: Some(body),
        buffer: BytesMut::new(),
    };
    stream::unfold(reading, |mut reading| async {
        let next = reading.next().await?;
        Some((next, reading))
    })
}

struct Reading {
    end: Option<Status>,
    /// None: it is over.
    body: Option<Body>,
    buffer: BytesMut,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            match self.whole_message() {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => {}
                Err(status) => return self.over(Some(status)),
            }
            let frame = self.body.as_mut()?.frame().await;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    // They are the last, whatever a body still gives: tonic's does, where a message was too large to be sent.
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let end = Status::from_header_map(&trailers).or(self.end.take());
                        return self.over(end.filter(|_| self.buffer.is_empty()));
                    }
                },
                Some(Err(status)) => return self.over(Some(status)),
                None => {
                    let end = self.end.take().filter(|_| self.buffer.is_empty());
                    return self.over(end);
                }
            }
        }
    }

    /// Ends; a status that is none or bad is the last item.
    fn over(&mut self, end: Option<Status>) -> Option<Result<Bytes, Status>> {
        self.body = None;
        self.buffer.clear();
        let end = end.unwrap_or_else(broken);
        (end.code() != Code::Ok).then_some(Err(end))
    }

    fn whole_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((prefix, rest)) = self.buffer.split_at_checked(PREFIX) else {
            return Ok(None);
        };
        let [0, length @ ..] = prefix else {
            return Err(broken());
        };
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The headers of an answer that are for the caller as well.
pub(super) fn metadata(headers: &HeaderMap) -> HeaderMap {
    let is_ours = |name: &HeaderName| !OF_HTTP.contains(name) && !name.as_str().starts_with("grpc-");
    headers
        .iter()
        .filter(|(name, _)| is_ours(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// An answer that is none of gRPC.
fn broken() -> Status {
    Status::internal("the answer broke off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::StreamBody;

    /// What comes of an answer with these pieces of data and this status in its trailers.
    async fn check(pieces: &[&'static [u8]], trailers: Option<&'static str>, expected: &[Result<&str, Code>]) {
        let data = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece)));
        let trailers = trailers.map(|status| {
            let status = ("grpc-status".parse().expect("a name"), HeaderValue::from_static(status));
            Frame::trailers(HeaderMap::from_iter([status]))
        });
        let frames: Vec<Result<_, Status>> = data.chain(trailers).map(Ok).collect();
        let response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
        let found: Vec<Result<String, Code>> = messages(response)
            .map(|next| {
                next.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .map_err(|status| status.code())
            })
            .collect()
            .await;
        let expected: Vec<Result<String, Code>> = expected.iter().map(|next| next.map(str::to_owned)).collect();
        assert_eq!(found, expected, "{pieces:?}");
    }

    #[test]
    fn a_call_has_the_metadata_of_its_caller() {
        let pool = prost_reflect::DescriptorPool::decode(crate::proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let service = pool
            .get_service_by_name("campaign.v1.CustomerService")
            .expect("a service");
        let rpc = service
            .methods()
            .find(|method| method.name() == "GetCustomer")
            .expect("a method");
        let asked = Request::get("http://x/api/v1/customers/anna?a=b")
            .header("host", "x")
            .header("authorization", "Bearer x")
            .header("traceparent", "00-1-2-01")
            .header("grpc-timeout", "5S")
            .header("content-type", "application/json")
            .header("grpc-encoding", "gzip")
            .header("connection", "close")
            .extension(7_u8)
            .body(())
            .expect("a request");
        let call = request(asked.into_parts().0, &rpc, b"message").expect("a call");
        assert_eq!((call.method(), call.version()), (&Method::POST, Version::HTTP_2));
        assert_eq!(call.uri(), "/campaign.v1.CustomerService/GetCustomer");
        let mut headers: Vec<&str> = call.headers().keys().map(HeaderName::as_str).collect();
        headers.sort_unstable();
        assert_eq!(
            headers,
            ["authorization", "content-type", "grpc-timeout", "te", "traceparent"]
        );
        assert_eq!(call.headers()["content-type"], "application/grpc");
        assert_eq!(
            call.extensions().get::<u8>(),
            Some(&7),
            "who is at the other end goes with it"
        );
    }

    #[tokio::test]
    async fn messages_are_found_however_they_are_cut() {
        let (one, two): (&[u8], &[u8]) = (b"\0\0\0\0\x03one", b"\0\0\0\0\x03two");
        check(&[one], Some("0"), &[Ok("one")]).await;
        check(&[one, two], Some("0"), &[Ok("one"), Ok("two")]).await;
        check(&[b"\0\0\0\0\x03one\0\0", b"\0\0\0"], Some("0"), &[Ok("one"), Ok("")]).await;
        check(&[b"\0\0", b"\0\0\x03o", b"ne"], Some("0"), &[Ok("one")]).await;
        check(&[one], Some("5"), &[Ok("one"), Err(Code::NotFound)]).await;
        check(&[], Some("5"), &[Err(Code::NotFound)]).await;
    }

    #[tokio::test]
    async fn what_breaks_off_is_an_error() {
        check(&[], None, &[Err(Code::Internal)]).await;
        check(&[b"\0\0\0\0\x03one"], None, &[Ok("one"), Err(Code::Internal)]).await;
        check(&[b"\0\0\0\0\x03on"], Some("0"), &[Err(Code::Internal)]).await;
        check(&[b"\x01\0\0\0\x03one"], Some("0"), &[Err(Code::Internal)]).await;
    }
}
