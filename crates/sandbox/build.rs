//! Compiles the few lines of C that a Java client which was booted ahead needs (`clients/java/native.c`): a library that
//! Java loads, and that becomes part of the binary as a file of its own. The C compiler is the one that Rust links with.

use std::path::PathBuf;

fn main() {
    let source = "src/process/clients/java/native.c";
    println!("cargo:rerun-if-changed={source}");
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).expect("cargo sets OUT_DIR");
    let compiler = cc::Build::new().opt_level(2).pic(true).warnings(true).get_compiler();
    let mut command = compiler.to_command();
    command.args(["-shared", "-s", source, "-o"]).arg(out.join("native.so"));
    let status = command.status().expect("the C compiler can be started");
    assert!(status.success(), "{source} does not compile");
}
