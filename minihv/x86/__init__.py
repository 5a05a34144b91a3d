"""x86 facts as data and pure functions: state, registers, segments, paging, CPUID."""
