#!/bin/sh
# Cargo calls this in place of rustc (see .cargo/config.toml): `rustc-wrapper.sh RUSTC ARGS…`.
# It passes everything through but for two cases:
#
# 1. qdrant-edge 0.9 uses the library feature `assert_matches`, stable from rustc 1.96. On an older
#    compiler that one crate is built with the feature switched on.
# 2. The program is compiled for x86-64-v3 (AVX2, FMA, F16C), since quantised kernels use those only
#    when they are compiled in. Where the building machine has no AVX2, build scripts could not run,
#    so the flag is left out and the result is a plain x86-64 program.
set -eu

rustc=$1
shift

case " $* " in
*" --crate-name qdrant_edge "*)
    minor=$("$rustc" --version | sed -n 's/^rustc 1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -lt 96 ]; then
        RUSTC_BOOTSTRAP=1
        export RUSTC_BOOTSTRAP
        set -- "$@" "-Zcrate-attr=feature(assert_matches)"
    fi
    ;;
esac

case " $* " in
*" target-cpu=x86-64-v3 "*)
    if [ -r /proc/cpuinfo ] && ! grep -qw avx2 /proc/cpuinfo; then
        # `set --` inside the loop rebuilds the argument list without the flag.
        for arg do
            shift
            [ "$arg" = "target-cpu=x86-64-v3" ] && arg="target-cpu=x86-64"
            set -- "$@" "$arg"
        done
    fi
    ;;
esac

exec "$rustc" "$@"
