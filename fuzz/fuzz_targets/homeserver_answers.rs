//! Answers about OpenID tokens, members and delayed events: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::homeserver_answers(data));
