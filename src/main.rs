//! Parses, initialises, dispatches, and turns the outcome into an exit code.

use std::process::ExitCode;

/// Tensors are made and dropped by the thousand, megabytes at a time: the system's allocator gives each back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cicerone::cli::run(std::env::args_os())
}
