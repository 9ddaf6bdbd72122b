//! Values of the configuration's variables: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::configuration(data));
