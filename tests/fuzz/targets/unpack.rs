#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gptproto_gateway::fuzzing::unpack(data));
