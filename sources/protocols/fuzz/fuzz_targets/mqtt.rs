//! MQTT: see [`weir_protocols_fuzz::drive`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_protocols_fuzz::drive("mqtt", input));
