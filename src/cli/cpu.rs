//! Sees that this processor has what the program was compiled for, so that an older one gets a sentence instead of an
//! illegal instruction.

/// Whether the program can run here; where it cannot, stderr is told why.
///
/// Everything that this calls is compiled without the instructions it asks for: the text is written as it stands, by a
/// function of the standard library. Whatever is put together here (a list, a number) would end in the very illegal
/// instruction.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[must_use]
pub fn serves() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max};
    use std::io::Write;
    // Asked of the processor itself: `is_x86_feature_detected!` is a constant for what was compiled in.
    let (highest, _) = __get_cpuid_max(0);
    let basic = __cpuid(1).ecx;
    let extended = if highest >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    let (avx2, fma, f16c) = (extended >> 5 & 1 == 1, basic >> 12 & 1 == 1, basic >> 29 & 1 == 1);
    if (avx2 || !cfg!(target_feature = "avx2"))
        && (fma || !cfg!(target_feature = "fma"))
        && (f16c || !cfg!(target_feature = "f16c"))
    {
        return true;
    }
    const TOLD: &[u8] =
        b"error: this processor lacks AVX2, FMA or F16C, which this program was compiled for\n  hint: build it for any \
        x86-64 machine (slower): RUSTFLAGS=\"-C target-cpu=x86-64\" cargo build --release\n";
    // A closed stderr leaves nobody to tell.
    let _ = std::io::stderr().write_all(TOLD);
    false
}

/// Other architectures are compiled for their baseline.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn serves() -> bool {
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_that_runs_this_test_can_run_the_program() {
        assert!(super::serves());
    }
}
