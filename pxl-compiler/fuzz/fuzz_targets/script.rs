//! The module body of a script.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    weir_pxl_fuzz::try_compile(text, None);
});
