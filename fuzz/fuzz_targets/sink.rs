#![no_main]

#[path = "../../tests/fuzz/targets/sink.rs"]
mod sink;
#[allow(dead_code)]
#[path = "../../tests/fuzz/targets/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sink::run(data));
