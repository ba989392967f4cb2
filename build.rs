// SPDX-License-Identifier: GPL-2.0-or-later
//! Builds what is not Rust: the bindings of the boundary, its C tests, and the Wireshark glue.
//!
//! Everything is written to `OUT_DIR`.

// Standard output is how a build script talks to cargo.
#![allow(clippy::print_stdout)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HEADER: &str = "include/rstdiag.h";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set; run cargo")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={HEADER}");
    for name in ["CI", "RSTDIAG_WERROR", "RSTDIAG_SANITIZE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    bindings(&out)?;
    abi_tests(&out)?;
    #[cfg(feature = "wireshark")]
    glue()?;
    Ok(())
}

/// Generates `abi.rs` from the header.
fn bindings(out: &Path) -> Result<(), String> {
    bindgen::Builder::default()
        .header(HEADER)
        .allowlist_function("rstdiag_.*")
        .allowlist_type("rstdiag_.*")
        .allowlist_var("RSTDIAG_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .parse_callbacks(Box::new(MacroTypes))
        .generate()
        .map_err(|error| format!("no bindings of {HEADER}: {error}"))?
        .write_to_file(out.join("abi.rs"))
        .map_err(|error| format!("abi.rs cannot be written: {error}"))
}

/// Gives the constants of the header the type of the parameter that they are meant for; left
/// alone, each would get one that depends on its sign.
#[derive(Debug)]
struct MacroTypes;

impl bindgen::callbacks::ParseCallbacks for MacroTypes {
    fn int_macro(&self, name: &str, _value: i64) -> Option<bindgen::callbacks::IntKind> {
        use bindgen::callbacks::IntKind;
        Some(if name.starts_with("RSTDIAG_FRAME_") { IntKind::U32 } else { IntKind::I32 })
    }
}

/// Compiles the C tests to a library that only `tests/abi.rs` names, and so only it links.
fn abi_tests(out: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed=tests/c/abi_test.c");
    c_compiler()
        .cargo_metadata(false)
        .file("tests/c/abi_test.c")
        .include("include")
        .try_compile("rstdiag_abi_test")
        .map_err(|error| format!("tests/c/abi_test.c does not compile: {error}"))?;
    println!("cargo::rustc-link-search=native={}", out.display());
    Ok(())
}

/// Compiles the glue against the Wireshark that pkg-config names.
#[cfg(feature = "wireshark")]
fn glue() -> Result<(), String> {
    println!("cargo::rerun-if-changed=wireshark");
    let wireshark = pkg_config::Config::new()
        .cargo_metadata(false)
        .env_metadata(true)
        .print_system_cflags(false)
        .probe("wireshark")
        .map_err(|error| match error {
            pkg_config::Error::Command { .. } => {
                "pkg-config does not run; install the package pkg-config (or pkgconf)".to_owned()
            }
            _ => "pkg-config does not know Wireshark's libraries; install libwireshark-dev \
                  (Debian, Ubuntu) or wireshark-devel (Fedora, openSUSE), or set PKG_CONFIG_PATH \
                  to the directory of wireshark.pc"
                .to_owned(),
        })?;
    if !wireshark.include_paths.iter().any(|path| path.join("epan/packet.h").is_file()) {
        return Err(format!(
            "wireshark.pc of {} is there but epan/packet.h is not; install libwireshark-dev \
             (Debian, Ubuntu) or wireshark-devel (Fedora, openSUSE)",
            wireshark.version
        ));
    }
    let mut numbers = wireshark.version.split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return Err(format!("wireshark.pc has an odd version: {}", wireshark.version));
    };
    println!("cargo::rustc-env=RSTDIAG_WIRESHARK_MAJOR={major}");
    println!("cargo::rustc-env=RSTDIAG_WIRESHARK_MINOR={minor}");

    let mut compiler = c_compiler();
    for path in &wireshark.include_paths {
        // As system headers, whose warnings are not ours to mend, and behind the compiler's own:
        // with a Wireshark of another system these paths hold that system's libc as well.
        compiler.flag("-idirafter").flag(path);
    }
    compiler
        .files(["register", "extract", "present", "stats"].map(|n| format!("wireshark/{n}.c")))
        .include("include")
        .define("RSTDIAG_WIRESHARK_MAJOR", major)
        .define("RSTDIAG_WIRESHARK_MINOR", minor)
        .flag("-fvisibility=hidden")
        .try_compile("rstdiag_glue")
        .map_err(|error| {
            format!("the glue does not compile with Wireshark {}: {error}", wireshark.version)
        })?;
    for path in &wireshark.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for library in &wireshark.libs {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}

/// A C compiler that warns, and that fails on warnings where somebody watches. With
/// `RSTDIAG_SANITIZE` what it compiles ends the process at the first wrong access to memory and
/// the first operation that C does not define. The runtime of that has to be preloaded.
fn c_compiler() -> cc::Build {
    let is_set = |name: &str| env::var_os(name).is_some();
    let strict = is_set("CI") || is_set("RSTDIAG_WERROR");
    let mut compiler = cc::Build::new();
    compiler.std("c11").warnings(true).extra_warnings(true).warnings_into_errors(strict);
    if is_set("RSTDIAG_SANITIZE") {
        compiler.flags(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        compiler.flag("-fno-omit-frame-pointer");
        // By name, as rustc lets the compiler that links add no library by itself.
        for (target, library) in
            [("cdylib", "asan"), ("cdylib", "ubsan"), ("tests", "asan"), ("tests", "ubsan")]
        {
            println!("cargo::rustc-link-arg-{target}=-l{library}");
        }
    }
    compiler
}
