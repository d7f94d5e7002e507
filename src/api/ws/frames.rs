//! Client frames, read strictly (RFC 6455): bytes in, whole messages out, or the close code that
//! the first violation asks for.
//!
//! actix's own reader is not used: it neither joins continuation frames nor tells a protocol error
//! (1002) from text that is not UTF-8 (1007) or a message over the limit (1009). This one refuses
//! at the first wrong byte, before a frame is complete, and refuses a message over the limit by
//! its announced length, before it is buffered. After a violation it swallows what still comes, so
//! that closing does not reset the connection under the close frame.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::Stream;

use super::utf8::Utf8Progress;

/// A frame's header at most: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;
/// A control frame's payload at most (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A whole text message.
    Text(ByteString),
    /// A whole binary message.
    Binary(Bytes),
    /// A ping, to be answered with the same bytes.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The close frame's code and reason.
    Close(Option<(u16, ByteString)>),
}

/// A broken rule and the close code that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// 1002, 1007 or 1009.
    pub(super) code: u16,
    /// For the close frame.
    pub(super) reason: &'static str,
}

const fn protocol_error(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

const NOT_UTF8: Violation = Violation { code: 1007, reason: "text is not UTF-8" };
const TOO_BIG: Violation = Violation { code: 1009, reason: "message is too big" };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

impl Kind {
    const fn is_control(self) -> bool {
        matches!(self, Self::Ping | Self::Pong | Self::Close)
    }
}

/// A frame whose payload is being read.
#[derive(Debug)]
struct Open {
    /// What it adds to: a continuation has its message's kind.
    kind: Kind,
    is_final: bool,
    mask: [u8; 4],
    /// Payload bytes read so far; the mask goes on from there.
    read: u64,
    length: u64,
}

/// A data message whose frames are being joined.
#[derive(Debug)]
struct Message {
    kind: Kind,
    bytes: BytesMut,
    utf8: Utf8Progress,
}

/// Joins bytes to frames and frames to messages.
#[derive(Debug)]
pub(super) struct FrameReader {
    message_bytes_max: usize,
    input: BytesMut,
    open: Option<Open>,
    message: Option<Message>,
    control: BytesMut,
    has_failed: bool,
}

impl FrameReader {
    /// A reader that refuses messages over `message_bytes_max`.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            input: BytesMut::new(),
            open: None,
            message: None,
            control: BytesMut::new(),
            has_failed: false,
        }
    }

    /// Adds bytes from the wire; after a violation they are dropped.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if !self.has_failed {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next whole message. `None`: more bytes are needed. After an error, always `None`.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        if self.has_failed {
            return Ok(None);
        }
        let outcome = self.advance();
        if outcome.is_err() {
            self.has_failed = true;
            self.input = BytesMut::new();
            self.message = None;
        } else if self.input.is_empty() {
            // An idle session keeps no buffer.
            self.input = BytesMut::new();
        }
        outcome
    }

    fn advance(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let frame = match self.open.take() {
                Some(frame) => frame,
                None => match self.read_header()? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let Some(frame) = self.read_payload(frame)? else { return Ok(None) };
            if let Some(incoming) = self.finish(&frame)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn read_header(&mut self) -> Result<Option<Open>, Violation> {
        let Some((&[first, second], rest)) = self.input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let is_final = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(protocol_error("reserved bits are set"));
        }
        let kind = self.kind_of(first & 0x0F)?;
        if second & 0x80 == 0 {
            return Err(protocol_error("frame is not masked"));
        }
        let (length, length_bytes) = match second & 0x7F {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            length => (u64::from(length), 0),
        };
        self.check_length(kind, is_final, length)?;
        let Some(mask) = rest.get(length_bytes..).and_then(|rest| rest.first_chunk::<4>()) else {
            debug_assert!(self.input.len() < HEADER_BYTES_MAX);
            return Ok(None);
        };
        let frame = Open { kind, is_final, mask: *mask, read: 0, length };
        self.input.advance(2 + length_bytes + 4);
        if !kind.is_control() && self.message.is_none() {
            self.message =
                Some(Message { kind, bytes: BytesMut::new(), utf8: Utf8Progress::default() });
        }
        Ok(Some(frame))
    }

    fn kind_of(&self, opcode: u8) -> Result<Kind, Violation> {
        match (opcode, &self.message) {
            (0x0, Some(message)) => Ok(message.kind),
            (0x0, None) => Err(protocol_error("continuation of nothing")),
            (0x1 | 0x2, Some(_)) => Err(protocol_error("message inside a message")),
            (0x1, None) => Ok(Kind::Text),
            (0x2, None) => Ok(Kind::Binary),
            (0x8, _) => Ok(Kind::Close),
            (0x9, _) => Ok(Kind::Ping),
            (0xA, _) => Ok(Kind::Pong),
            _ => Err(protocol_error("unknown opcode")),
        }
    }

    fn check_length(&self, kind: Kind, is_final: bool, length: u64) -> Result<(), Violation> {
        if kind.is_control() {
            return if is_final && length <= CONTROL_BYTES_MAX {
                Ok(())
            } else {
                Err(protocol_error("control frame is fragmented or too long"))
            };
        }
        if length >> 63 != 0 {
            return Err(protocol_error("length has its highest bit set"));
        }
        let joined = self.message.as_ref().map_or(0, |message| message.bytes.len());
        let room = self.message_bytes_max.saturating_sub(joined);
        if usize::try_from(length).is_ok_and(|length| length <= room) {
            Ok(())
        } else {
            Err(TOO_BIG)
        }
    }

    /// Unmasks what has come; gives the frame back when it is whole.
    fn read_payload(&mut self, mut frame: Open) -> Result<Option<Open>, Violation> {
        let left = usize::try_from(frame.length - frame.read).unwrap_or(usize::MAX);
        let mut fresh = self.input.split_to(left.min(self.input.len()));
        unmask(&mut fresh, frame.mask, frame.read);
        frame.read += u64::try_from(fresh.len()).unwrap_or(u64::MAX);
        if frame.kind.is_control() {
            self.control.extend_from_slice(&fresh);
        } else if let Some(message) = &mut self.message {
            message.bytes.extend_from_slice(&fresh);
            if message.kind == Kind::Text {
                message.utf8.advance(&message.bytes).map_err(|_| NOT_UTF8)?;
            }
        }
        if frame.read == frame.length {
            return Ok(Some(frame));
        }
        self.open = Some(frame);
        Ok(None)
    }

    /// What a whole frame completes.
    fn finish(&mut self, frame: &Open) -> Result<Option<Incoming>, Violation> {
        match frame.kind {
            Kind::Ping => Ok(Some(Incoming::Ping(self.take_control()))),
            Kind::Pong => Ok(Some(Incoming::Pong(self.take_control()))),
            Kind::Close => parse_close(&self.take_control()).map(Some),
            Kind::Text | Kind::Binary if !frame.is_final => Ok(None),
            Kind::Text | Kind::Binary => {
                let Some(message) = self.message.take() else { return Ok(None) };
                if message.kind == Kind::Binary {
                    return Ok(Some(Incoming::Binary(message.bytes.freeze())));
                }
                if !message.utf8.is_complete(&message.bytes) {
                    return Err(NOT_UTF8);
                }
                let text = ByteString::try_from(message.bytes).map_err(|_| NOT_UTF8)?;
                Ok(Some(Incoming::Text(text)))
            }
        }
    }

    fn take_control(&mut self) -> Bytes {
        std::mem::take(&mut self.control).freeze()
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left(usize::try_from(offset % 4).unwrap_or_default());
    let word = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

fn parse_close(payload: &Bytes) -> Result<Incoming, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(Incoming::Close(None))
        } else {
            Err(protocol_error("close code is cut"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol_error("close code is not allowed"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
    Ok(Incoming::Close(Some((code, reason.into()))))
}

/// A request's payload as client messages. Ends with the connection; after a violation (yielded
/// once) it swallows input until then.
#[derive(Debug)]
pub(super) struct ClientFrames<S> {
    payload: S,
    reader: FrameReader,
}

impl<S> ClientFrames<S> {
    pub(super) fn new(payload: S, message_bytes_max: usize) -> Self {
        Self { payload, reader: FrameReader::new(message_bytes_max) }
    }
}

impl<S> Stream for ClientFrames<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Incoming, Violation>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // What was read is used up before more is taken from the wire: that is the back
            // pressure a client feels who sends faster than we read.
            match this.reader.next() {
                Ok(None) => {}
                Ok(Some(incoming)) => return Poll::Ready(Some(Ok(incoming))),
                Err(violation) => return Poll::Ready(Some(Err(violation))),
            }
            match Pin::new(&mut this.payload).poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => this.reader.push(&bytes),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
