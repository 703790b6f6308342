//! The configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|yaml: &str| {
    if let Err(error) = fulmar::Settings::parse(yaml) {
        assert!(error.line >= 1 && error.column >= 1 && !error.message.contains('\n'), "{error}");
    }
});
