//! Bodies of webhooks: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::webhook_event(data));
