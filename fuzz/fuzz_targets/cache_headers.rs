//! `Cache-Control`, `Expires` and `Retry-After`: see `matrixrtc_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| matrixrtc_edge::fuzzing::cache_headers(data));
