#![no_main]

#[path = "../entry.rs"]
mod entry;

use hubgate::*;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::walk(bytes));
