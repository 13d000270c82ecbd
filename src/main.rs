//! Parses, initialises, dispatches, and turns the outcome into an exit code.

use std::process::ExitCode;

/// Tensors come and go by the hundred megabytes; this allocator keeps their pages, where the system's gives every one
/// back and faults it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if !cicerone::cli::cpu::serves() {
        return ExitCode::FAILURE;
    }
    cicerone::cli::run(std::env::args_os())
}
