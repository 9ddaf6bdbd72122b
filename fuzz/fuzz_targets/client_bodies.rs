//! Bodies of `/get_token`, `/sfu/get` and `/delegate_delayed_leave`: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::client_bodies(data));
