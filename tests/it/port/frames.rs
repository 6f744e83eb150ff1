//! HTTP/2, frame by frame: what no proper client sends.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::in_time;

/// Kinds of frames.
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;

/// Flags of frames.
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Reasons of resets and of ends.
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// What a connection begins with: the preface, and settings that set nothing.
pub(super) fn beginning() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request, and whether it is all of it. Nothing in it is compressed but by the static table of HPACK.
pub(super) fn headers(stream: u32, path: &str, is_all: bool, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let method = if is_all { 0x82 } else { 0x83 };
    let mut block = [vec![method, 0x86, 0x04], text(path), vec![0x01], text("localhost")].concat();
    for (name, value) in more {
        block.extend([vec![0x00], text(name), text(value)].concat());
    }
    let end = if is_all { END_STREAM } else { 0 };
    frame(HEADERS, END_HEADERS | end, stream, &block)
}

/// A reset of a stream.
pub(super) fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The number in four bytes of it.
    #[track_caller]
    pub(super) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A connection of frames.
#[derive(Debug)]
pub(super) struct Frames(TcpStream);

impl Frames {
    /// Connects, and says all of this at once.
    pub(super) async fn begin(addr: SocketAddr, said: &[u8]) -> Self {
        let mut frames = Self(TcpStream::connect(addr).await.expect("a connection"));
        frames.say(&[&beginning(), said].concat()).await;
        frames
    }

    pub(super) async fn say(&mut self, said: &[u8]) {
        self.0.write_all(said).await.expect("written");
    }

    /// The next frame; none: the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        in_time("a frame", async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).expect("a length")];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame {
                kind: head[3],
                flags: head[4],
                stream,
                payload,
            })
        })
        .await
    }

    /// The next frame of these kinds, an acknowledgement only of a ping.
    pub(super) async fn next_of(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let next = self.next().await;
            let next = next.unwrap_or_else(|| panic!("none of {kinds:?} before the end"));
            let is_other_ack = next.kind == SETTINGS && next.flags & ACK != 0;
            if kinds.contains(&next.kind) && !is_other_ack {
                return next;
            }
        }
    }
}
