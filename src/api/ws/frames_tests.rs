use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn read(bytes: &[u8], cut: usize, limit: usize) -> Result<Vec<Incoming>, Violation> {
    let mut reader = FrameReader::new(limit);
    let mut messages = Vec::new();
    for piece in bytes.chunks(cut) {
        reader.push(&Bytes::copy_from_slice(piece));
        while let Some(incoming) = reader.next()? {
            messages.push(incoming);
        }
    }
    Ok(messages)
}

fn code(bytes: &[u8]) -> u16 {
    read(bytes, usize::MAX, 1_000).unwrap_err().code
}

#[test]
fn continuations_are_joined_and_control_frames_may_come_between() {
    let bytes = [frame(0x01, b"Hel"), frame(0x89, b"x"), frame(0x80, b"lo")].concat();
    for cut in [1, 3, 1_000] {
        assert_eq!(
            read(&bytes, cut, 100).unwrap(),
            [Incoming::Ping(Bytes::from_static(b"x")), Incoming::Text("Hello".into())]
        );
    }
}

#[test]
fn broken_frames_are_protocol_errors() {
    assert_eq!(code(&frame(0xC1, b"")), 1002, "reserved bit");
    assert_eq!(code(&frame(0x83, b"")), 1002, "opcode");
    assert_eq!(code(&frame(0x80, b"")), 1002, "continuation of nothing");
    assert_eq!(code(&[frame(0x01, b""), frame(0x81, b"")].concat()), 1002, "nested");
    assert_eq!(code(&frame(0x09, b"")), 1002, "fragmented ping");
    assert_eq!(code(&frame(0x89, &[0; 126])), 1002, "long ping");
    assert_eq!(code(&[0x81, 0x00]), 1002, "no mask");
    assert_eq!(code(&frame(0x88, &[3])), 1002, "cut close code");
    assert_eq!(code(&frame(0x88, &1005_u16.to_be_bytes())), 1002, "reserved close code");
}

#[test]
fn text_that_is_not_utf8_is_refused_at_its_first_wrong_byte() {
    assert_eq!(code(&frame(0x81, &[0xC3])), 1007);
    assert_eq!(code(&frame(0x88, &[3, 232, 0xFF])), 1007);
    let mut cut = frame(0x81, &[b'a', 0xFF, b'b', b'c']);
    cut.truncate(cut.len() - 2);
    assert_eq!(code(&cut), 1007);
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_length() {
    assert_eq!(code(&[0x82, 0xFE, 0x03, 0xE9]), 1009);
    assert_eq!(code(&[frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat()), 1009);
    assert!(read(&frame(0x82, &[0; 1_000]), 7, 1_000).is_ok());
}

#[test]
fn after_a_violation_everything_is_swallowed() {
    let mut reader = FrameReader::new(10);
    reader.push(&Bytes::from(frame(0x83, b"")));
    assert!(reader.next().is_err());
    reader.push(&Bytes::from(frame(0x81, b"ok")));
    assert_eq!(reader.next(), Ok(None));
    assert!(reader.input.is_empty());
}

proptest! {
    #[test]
    fn messages_survive_any_fragmentation_and_any_cut(
        payload in prop::collection::vec(any::<u8>(), 0..400),
        fragments in 1_usize..5,
        cut in 1_usize..50,
    ) {
        let size = payload.len().div_ceil(fragments).max(1);
        let mut bytes = Vec::new();
        let pieces: Vec<&[u8]> =
            if payload.is_empty() { vec![&[]] } else { payload.chunks(size).collect() };
        for (place, piece) in pieces.iter().enumerate() {
            let opcode = if place == 0 { 0x02 } else { 0x00 };
            let end = if place + 1 == pieces.len() { 0x80 } else { 0 };
            bytes.extend(frame(opcode | end, piece));
        }
        let messages = read(&bytes, cut, 400).unwrap();
        prop_assert_eq!(messages, vec![Incoming::Binary(Bytes::from(payload))]);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1_usize..20) {
        let _ = read(&bytes, cut, 100);
    }
}
