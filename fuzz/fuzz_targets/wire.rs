#![no_main]

#[path = "../../tests/fuzz/targets/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::run(data));
