//! Generates etcd's messages and calls from `proto/` without protoc.

const INCLUDE: &str = "proto";
const FILE: &str = "etcd.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={INCLUDE}");
    println!("cargo:rerun-if-changed=build.rs");
    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".")
        .emit_rerun_if_changed(false) // it would watch files that are not in this folder
        .compile_fds(protox::compile([FILE], [INCLUDE])?)?;
    Ok(())
}
