//! Compiles the contract under `proto/` without protoc: messages, clients, servers, and the descriptors for reflection.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("campaign/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    for file in &files {
        compiler.open_file(file)?;
    }
    // No message has them as a field: they are what errors carry, which REST spells out.
    compiler.open_file(root.join("google/rpc/error_details.proto"))?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    // The codec knows requests by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::proto::BoundedCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
