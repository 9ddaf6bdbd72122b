//! Server discovery with any well-known file and SRV records: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::discovery(data));
