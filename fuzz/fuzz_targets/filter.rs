#![no_main]

#[path = "../../tests/fuzz/targets/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| filter::run(data));
