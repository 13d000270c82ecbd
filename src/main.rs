//! Parses, initialises, dispatches, and turns the outcome into an exit code.

use std::process::ExitCode;

/// Tensors come and go by the hundred megabytes; this allocator keeps their pages, where the system's gives every one
/// back and faults it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the crate does not name: milliseconds until pages that nothing uses go back to the system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // By default ten: less than a pass over a batch or a step of training, so that each would fault its pages in again.
    // The call writes one number, before any other thread runs.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 10_000);
    }
    if !cicerone::cli::cpu::serves() {
        return ExitCode::FAILURE;
    }
    cicerone::cli::run(std::env::args_os())
}
