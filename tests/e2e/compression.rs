//! Content is compressed where a link is slow, and only content that shrinks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::endpoint::{Addresses, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::proxy::{Proxy, Weather};

/// Several times as much as is sent before anybody can know that the link is slow: a window of 8 MiB.
const CONTENT_BYTES: usize = 32 << 20;
/// Files that the content is divided among, so that some are sent whole and some in pieces.
const FILES: usize = 130;
/// Some 4 s for the content as it is.
const SLOW: Weather = Weather::Slow {
    bytes: 8_000_000,
    delay: Duration::from_millis(10),
};

/// Random numbers that nothing foresees (xorshift), from a seed.
fn random(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state >> 32)
    })
}

fn text(bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "name ", "place ", "of ", "the ", "file ", "is ", "in ", "no ",
    ];
    let words = random(1).flat_map(|number| WORDS[number as usize % WORDS.len()].bytes());
    words.take(bytes).collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    random(2).map(|number| number as u8).take(bytes).collect()
}

fn fill(source: &Path, content: &[u8]) {
    let (small, large) = content.split_at(content.len() / 2);
    fs::write(source.join("large"), large).unwrap();
    for (number, part) in small.chunks(small.len() / FILES).enumerate() {
        fs::write(source.join(format!("{number}")), part).unwrap();
    }
}

/// Bytes that pass a link in such weather until this content has arrived.
fn bytes_passed(content: &[u8], weather: Weather, how: &[&str]) -> usize {
    let fixture = Fixture::in_memory();
    fill(&fixture.source(), content);
    let source = Source::start_with(&fixture, &Addresses::on_ports(0, 0), how);
    let proxy = Proxy::to(&source.addresses);
    proxy.set(weather);
    let sink = Sink::start(&fixture, proxy.addresses());
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    let passed = proxy.bytes_passed();
    source.stop(sink);
    passed as usize
}

#[test]
fn text_takes_fewer_bytes_of_a_slow_link() {
    let passed = bytes_passed(&text(CONTENT_BYTES), SLOW, &[]);
    assert!(passed < CONTENT_BYTES * 2 / 3, "{passed} bytes");
}

#[test]
fn what_does_not_shrink_takes_no_more_bytes_of_a_slow_link() {
    let passed = bytes_passed(&noise(CONTENT_BYTES), SLOW, &[]);
    let most = CONTENT_BYTES + CONTENT_BYTES / 50;
    assert!((CONTENT_BYTES..most).contains(&passed), "{passed} bytes");
}

#[test]
fn what_was_asked_for_is_done_on_any_link() {
    let content = text(CONTENT_BYTES / 8);
    let off = bytes_passed(&content, Weather::Fair, &["--compression", "off"]);
    assert!(off > content.len(), "{off} bytes");
    let always = bytes_passed(&content, Weather::Fair, &["--compression", "9"]);
    assert!(always < content.len() / 2, "{always} bytes");
}
