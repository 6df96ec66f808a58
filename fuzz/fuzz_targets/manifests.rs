//! Any text as a manifest.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A refusal is an answer.
    drop(lab::nonsense::digest(text));
});
