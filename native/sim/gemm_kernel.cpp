#include "sim/gemm_kernel.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define TAPEOUT_X86 1
#include <immintrin.h>
#else
#define TAPEOUT_X86 0
#endif
#include <cmath>

namespace tapeout::sim {

namespace {

// One body for all levels; only the vector type differs. The level's `target` attribute cannot be a template's
// parameter, so a macro carries it.
#define TAPEOUT_TILE_KERNEL(LEVEL, TARGET)                                                                             \
    template <int rows, int vectors>                                                                                   \
    TARGET void tile_##LEVEL(const float* a, int64_t a_stride, const float* b, int64_t depth, float* out) {            \
        using V = Vector_##LEVEL;                                                                                      \
        typename V::Type sums[rows][vectors];                                                                          \
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; ++r) {                                                      \
            _Pragma("GCC unroll 16") for (int v = 0; v < vectors; ++v) sums[r][v] = V::zero();                         \
        }                                                                                                              \
        for (int64_t k = 0; k < depth; ++k) {                                                                          \
            typename V::Type right[vectors];                                                                           \
            _Pragma("GCC unroll 16") for (int v = 0; v < vectors; ++v) right[v] =                                      \
                V::load(b + (k * vectors + v) * V::kLanes);                                                            \
            _Pragma("GCC unroll 16") for (int r = 0; r < rows; ++r) {                                                  \
                const typename V::Type left = V::repeat(a[r * a_stride + k]);                                          \
                _Pragma("GCC unroll 16") for (int v = 0; v < vectors; ++v) sums[r][v] =                                \
                    V::fma(left, right[v], sums[r][v]);                                                                \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; ++r) {                                                      \
            _Pragma("GCC unroll 16") for (int v = 0; v < vectors; ++v)                                                 \
                V::store(out + (r * vectors + v) * V::kLanes, sums[r][v]);                                             \
        }                                                                                                              \
    }

#if TAPEOUT_X86
#define TAPEOUT_V4 __attribute__((target("avx512f")))
#define TAPEOUT_V3 __attribute__((target("avx2,fma")))

struct Vector_v4 {
    using Type = __m512;
    static constexpr int kLanes = 16;
    TAPEOUT_V4 static inline Type zero() { return _mm512_setzero_ps(); }
    TAPEOUT_V4 static inline Type load(const float* p) { return _mm512_loadu_ps(p); }
    TAPEOUT_V4 static inline Type repeat(float x) { return _mm512_set1_ps(x); }
    TAPEOUT_V4 static inline Type fma(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
    TAPEOUT_V4 static inline void store(float* p, Type x) { _mm512_storeu_ps(p, x); }
};

struct Vector_v3 {
    using Type = __m256;
    static constexpr int kLanes = 8;
    TAPEOUT_V3 static inline Type zero() { return _mm256_setzero_ps(); }
    TAPEOUT_V3 static inline Type load(const float* p) { return _mm256_loadu_ps(p); }
    TAPEOUT_V3 static inline Type repeat(float x) { return _mm256_set1_ps(x); }
    TAPEOUT_V3 static inline Type fma(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }
    TAPEOUT_V3 static inline void store(float* p, Type x) { _mm256_storeu_ps(p, x); }
};

TAPEOUT_TILE_KERNEL(v4, TAPEOUT_V4)
TAPEOUT_TILE_KERNEL(v3, TAPEOUT_V3)
#endif

// Any machine: the same fused steps, one number at a time.
struct Vector_any {
    using Type = float;
    static constexpr int kLanes = 1;
    static Type zero() { return 0; }
    static Type load(const float* p) { return *p; }
    static Type repeat(float x) { return x; }
    static Type fma(Type a, Type b, Type c) { return std::fma(a, b, c); }
    static void store(float* p, Type x) { *p = x; }
};
TAPEOUT_TILE_KERNEL(any, )

#define TAPEOUT_TILES(LEVEL, V)                                                                                        \
    {nullptr,                                                                                                          \
     tile_##LEVEL<1, V>,                                                                                               \
     tile_##LEVEL<2, V>,                                                                                               \
     nullptr,                                                                                                          \
     tile_##LEVEL<4, V>,                                                                                               \
     nullptr,                                                                                                          \
     tile_##LEVEL<6, V>,                                                                                               \
     nullptr,                                                                                                          \
     nullptr,                                                                                                          \
     nullptr,                                                                                                          \
     nullptr,                                                                                                          \
     nullptr,                                                                                                          \
     nullptr}

constexpr TileKernels kAny = {"any", 6, 8, TAPEOUT_TILES(any, 8), TAPEOUT_TILES(any, 4)};
#if TAPEOUT_X86
constexpr TileKernels kV3 = {"x86-64-v3", 6, 16, TAPEOUT_TILES(v3, 2), TAPEOUT_TILES(v3, 1)};
constexpr TileKernels kV4 = {"x86-64-v4",
                             12,
                             32,
                             {nullptr, tile_v4<1, 2>, tile_v4<2, 2>, nullptr, tile_v4<4, 2>, nullptr, tile_v4<6, 2>,
                              nullptr, tile_v4<8, 2>, nullptr, nullptr, nullptr, tile_v4<12, 2>},
                             {nullptr, tile_v4<1, 1>, tile_v4<2, 1>, nullptr, tile_v4<4, 1>, nullptr, tile_v4<6, 1>,
                              nullptr, tile_v4<8, 1>, nullptr, nullptr, nullptr, tile_v4<12, 1>}};
#endif

} // namespace

const TileKernels& tile_kernels() {
#if TAPEOUT_X86
    if (__builtin_cpu_supports("avx512f"))
        return kV4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return kV3;
#endif
    return kAny;
}

} // namespace tapeout::sim
