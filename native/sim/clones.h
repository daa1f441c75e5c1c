// Run-time dispatch of vectorised loops: the same source compiled for several levels of the instruction set.
#pragma once

// Sanitizers cannot run the resolvers of cloned functions, other compilers and machines need not know the levels.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define TAPEOUT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TAPEOUT_CLONES
#endif

// What a cloned function calls must be inlined into each clone.
#define TAPEOUT_INLINE inline __attribute__((always_inline))
#define TAPEOUT_LAMBDA __attribute__((always_inline))
