//! What holds for any message and for any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::arbitrary::message;
use super::samples::compressible;
use super::{
    Bytes, Frames, Message, decode_command, decode_to_sink, decode_to_source, frames_bytes,
};

/// One thing that a broken peer or line could do to a packet.
#[derive(Debug, Clone)]
enum Damage {
    Change(Index, Index, u8),
    Insert(Index, Index, u8),
    Remove(Index, Index),
    Truncate(Index, Index),
    Repeat(Index),
    Lose(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || (any::<Index>(), any::<Index>());
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|((frame, at), to)| Damage::Change(frame, at, to)),
        3 => (place(), any::<u8>()).prop_map(|((frame, at), new)| Damage::Insert(frame, at, new)),
        3 => place().prop_map(|(frame, at)| Damage::Remove(frame, at)),
        1 => place().prop_map(|(frame, at)| Damage::Truncate(frame, at)),
        1 => any::<Index>().prop_map(Damage::Repeat),
        1 => any::<Index>().prop_map(Damage::Lose),
    ]
}

fn inflict(frames: &mut Vec<Vec<u8>>, damage: &Damage) {
    if frames.is_empty() {
        return;
    }
    let count = frames.len();
    match damage {
        Damage::Change(frame, at, to) => {
            let frame = &mut frames[frame.index(count)];
            if !frame.is_empty() {
                let at = at.index(frame.len());
                frame[at] = *to;
            }
        }
        Damage::Insert(frame, at, new) => {
            let frame = &mut frames[frame.index(count)];
            frame.insert(at.index(frame.len() + 1), *new);
        }
        Damage::Remove(frame, at) => {
            let frame = &mut frames[frame.index(count)];
            if !frame.is_empty() {
                frame.remove(at.index(frame.len()));
            }
        }
        Damage::Truncate(frame, at) => {
            let frame = &mut frames[frame.index(count)];
            frame.truncate(at.index(frame.len() + 1));
        }
        Damage::Repeat(frame) => frames.push(frames[frame.index(count)].clone()),
        Damage::Lose(frame) => drop(frames.remove(frame.index(count))),
    }
}

/// Whatever is accepted can be said again, with the same meaning.
fn decodes_to_a_message_or_an_error(frames: &Frames) {
    let messages = [
        decode_command(frames).map(Message::Command),
        decode_to_sink(frames).map(Message::ToSink),
        decode_to_source(frames).map(Message::ToSource),
    ];
    for message in messages.into_iter().flatten() {
        // NaN, which damage can bring into a report, is the one value that is not equal to itself.
        let again = message.round_trip().unwrap();
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        prop_assert_eq!(message.round_trip(), Ok(message));
    }

    #[test]
    fn credit_counts_every_byte(message in message()) {
        let frames = message.encode();
        prop_assert_eq!(frames_bytes(&frames), frames.concat().len() as u64);
    }

    #[test]
    fn arbitrary_bytes(frames in vec(vec(any::<u8>(), 0..200), 0..4)) {
        decodes_to_a_message_or_an_error(&frames.into_iter().map(Bytes::from).collect());
    }

    #[test]
    fn compressed_content(data in vec(0_u8..4, 600..5000), damages in vec(damage(), 1..4)) {
        let message = Message::Compressed(compressible(data));
        let frames = message.encode();
        prop_assert!(frames[1].len() < 2500);
        prop_assert_eq!(message.decode_alike(&frames), Ok(message));
        let mut frames: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
        damages.iter().for_each(|damage| inflict(&mut frames, damage));
        decodes_to_a_message_or_an_error(&frames.into_iter().map(Bytes::from).collect());
    }

    #[test]
    fn damaged_messages(message in message(), damages in vec(damage(), 1..4)) {
        let mut frames: Vec<Vec<u8>> = message.encode().iter().map(|frame| frame.to_vec()).collect();
        damages.iter().for_each(|damage| inflict(&mut frames, damage));
        decodes_to_a_message_or_an_error(&frames.into_iter().map(Bytes::from).collect());
    }
}
