//! The SFU's protobuf messages and Twirp errors: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::sfu_answers(data));
