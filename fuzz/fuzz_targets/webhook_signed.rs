//! Any claims, signed with a known key: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::webhook_signed(data));
