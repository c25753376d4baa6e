//! Generates the wire code from `proto/` without protoc: protox compiles the files to a descriptor
//! set, tonic-build reads that set and writes the code for the real and for the simulated transport.

use std::path::PathBuf;

use prost::Message as _;

const INCLUDE: &str = "../../proto";
const FILES: [&str; 10] = [
    "quorate/v1/common.proto",
    "quorate/v1/error.proto",
    "quorate/v1/money.proto",
    "quorate/v1/kv.proto",
    "quorate/v1/bank.proto",
    "quorate/v1/cut.proto",
    "quorate/v1/topology.proto",
    "quorate/v1/recovery.proto",
    "quorate/v1/admin.proto",
    "quorate/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={INCLUDE}");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&descriptors, protox::compile(FILES, [INCLUDE])?.encode_to_vec())?;
    tonic_build::configure()
        .file_descriptor_set_path(&descriptors)
        .skip_protoc_run()
        .bytes(["."])
        .btree_map(["."]) // maps reach messages, so their order must not be random
        .emit_rerun_if_changed(false) // it would watch files that are not in this folder
        .compile_protos(&FILES, &[INCLUDE])?;
    Ok(())
}
