//! Sees that this processor has what the program was compiled for, so that an older one gets a sentence instead of an
//! illegal instruction.

/// The instructions that are missing, in words.
///
/// # Errors
/// A message for the person, with the command that builds a program for this machine.
#[cfg(target_arch = "x86_64")]
pub fn check() -> Result<(), String> {
    use std::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max};
    // Asked of the processor itself: `is_x86_feature_detected!` is a constant for what was compiled in.
    let (highest, _) = __get_cpuid_max(0);
    let basic = __cpuid(1);
    let extended = if highest >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    let needs = [
        (cfg!(target_feature = "avx2"), extended >> 5 & 1 == 1, "AVX2"),
        (cfg!(target_feature = "fma"), basic.ecx >> 12 & 1 == 1, "FMA"),
        (cfg!(target_feature = "f16c"), basic.ecx >> 29 & 1 == 1, "F16C"),
    ];
    let missing: Vec<&str> =
        needs.iter().filter(|(compiled, there, _)| *compiled && !there).map(|(_, _, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this processor lacks {}, which this program was compiled for\n  \
         hint: build it for any x86-64 machine (slower): RUSTFLAGS=\"-C target-cpu=x86-64\" cargo build --release",
        missing.join(", ")
    ))
}

/// Other architectures are compiled for their baseline.
///
/// # Errors
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub fn check() -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    #[test]
    fn the_machine_that_runs_this_test_can_run_the_program() {
        super::check().unwrap();
    }
}
