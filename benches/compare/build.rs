//! Compiles the few lines of C++ for Boost.Interprocess, where its headers and a compiler are.

use std::env;
use std::path::PathBuf;

const SHIM: &str = "src/memory/peers/boost.cpp";
const HEADER: &str = "boost/interprocess/ipc/message_queue.hpp";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(boost)");
    println!("cargo::rerun-if-changed={SHIM}");
    println!("cargo::rerun-if-env-changed=CPLUS_INCLUDE_PATH");
    let extra = env::var_os("CPLUS_INCLUDE_PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&extra).collect();
    places.extend(["/usr/include", "/usr/local/include"].map(PathBuf::from));
    // A file that is not there makes this run again each time, which takes no time.
    let header = places.iter().map(|place| place.join(HEADER)).find(|path| path.is_file());
    println!("cargo::rerun-if-changed={}", header.as_deref().unwrap_or(HEADER.as_ref()).display());
    if header.is_none() {
        return;
    }
    let compiled =
        cc::Build::new().cpp(true).std("c++17").opt_level(3).file(SHIM).try_compile("compare_boost");
    match compiled {
        Ok(()) => println!("cargo::rustc-cfg=boost"),
        Err(error) => println!("cargo::warning=Boost.Interprocess is left out: {error}"),
    }
}
