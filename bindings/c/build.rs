//! Gives the shared library its name for the loader. The number is raised by a change after which
//! programs that were linked before would not work. And has it stay where it was loaded: its
//! threads go on after dlclose.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libresized.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
