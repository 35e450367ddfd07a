//! A script and its vis.json, with a NUL byte between them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    match text.split_once('\0') {
        Some((script, vis)) => weir_pxl_fuzz::try_compile(script, Some(vis)),
        None => weir_pxl_fuzz::try_compile(text, None),
    }
});
