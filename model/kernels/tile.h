// The inner product of everything here: a few rows of x times a few panels of a packed matrix, for each way to pack.
//
// A panel holds PANEL outputs side by side for every k. Each output is the sum of one chain of multiply-adds for every
// K_BLOCK of k's, in order, whatever the number of rows, so a row's result does not depend on its neighbours, bit for
// bit. (Short chains also round less: in fp32 they are what keeps logits within 1e-4 of the oracle's.)
#pragma once
#include "simd.h"

#if defined(__AVX512BF16__)
typedef uint32_t PairX;  // two bf16 of x, for vdpbf16ps
constexpr int PAIR = 2;
#else
typedef float PairX;
constexpr int PAIR = 1;
#endif
// Rows of a tile, as many as keep their sums in registers: with two more of 16 registers GCC 12 spills them (40 GFLOP/s
// instead of 75 on a Zen 3 core).
#if defined(__AVX512F__)
constexpr int FEW_ROWS = 6, ACCUMULATORS = 24;
#else
constexpr int FEW_ROWS = 4, ACCUMULATORS = 8;
#endif
constexpr int MAX_ROWS = 6;

constexpr int panels_at_once(int rows) {
    int most = ACCUMULATORS / (rows * NV);
    return most < 1 ? 1 : most > 4 ? 4 : most;
}

struct F32 {  // [panel][k][PANEL] fp32
    typedef float X;
    static constexpr bool CONVERTS = false;  // x of a single row is read as it is
    static constexpr int64_t items(int64_t k) { return k; }  // of x
    static constexpr int64_t K_BLOCK = 64;
    static constexpr int ROWS = FEW_ROWS;
    static constexpr int STEP = 1;
    static constexpr int64_t bytes(int64_t k) { return k * PANEL * 4; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* x, int64_t k, const void*, int64_t) {
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                vf weight = load(reinterpret_cast<const float*>(w + p * panel + bytes(k)) + v * LANES);
                for (int m = 0; m < M; m++) acc[m][p][v] += weight * x[k * M + m];
            }
    }
};

struct BF16 {  // [panel][k / 2][PANEL][2] bf16
    typedef PairX X;
    static constexpr bool CONVERTS = PAIR > 1;
    static constexpr int64_t items(int64_t k) { return k / PAIR; }
    static constexpr int64_t K_BLOCK = 1024;
    static constexpr int ROWS = FEW_ROWS;
    static constexpr int STEP = 2;
    static constexpr int64_t bytes(int64_t k) { return k * PANEL * 2; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* x, int64_t k, const void*, int64_t) {
        for (int p = 0; p < P; p++) {
            const vi* pairs = reinterpret_cast<const vi*>(w + p * panel + bytes(k));
#if defined(__AVX512BF16__)
            for (int v = 0; v < NV; v++)
                for (int m = 0; m < M; m++)
                    acc[m][p][v] = (vf)_mm512_dpbf16_ps((__m512)acc[m][p][v], (__m512bh)(__m512i)pairs[v],
                                                        (__m512bh)_mm512_set1_epi32((int)x[k / 2 * M + m]));
#else
            vf half[NV];  // even k's, then odd ones: as many rows as possible keep their sums in registers
            for (int v = 0; v < NV; v++) half[v] = as_floats(pairs[v] << 16);
            for (int m = 0; m < M; m++)
                for (int v = 0; v < NV; v++) acc[m][p][v] += half[v] * x[k * M + m];
            for (int v = 0; v < NV; v++) half[v] = as_floats(pairs[v] & (int32_t)0xFFFF0000);
            for (int m = 0; m < M; m++)
                for (int v = 0; v < NV; v++) acc[m][p][v] += half[v] * x[(k + 1) * M + m];
#endif
        }
    }
};

// y[m][p * PANEL ...] (+)= row m of x · panel p, for k in [from, to); `add`: go on from what y holds. The rows of x lie
// interleaved, [k][M], so that one pointer serves them all: six would not leave registers for anything else.
template <class F, int M, int P>
static void tile(const char* w, int64_t panel, const typename F::X* x, float* const* y, int64_t from, int64_t to,
                 bool add, const void* scales, int64_t scale_panel) {
    vf acc[M][P][NV];
    for (int m = 0; m < M; m++)
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) acc[m][p][v] = vf{};
    for (int64_t k = from; k < to; k += F::STEP) F::template add<M, P>(acc, w, panel, x, k, scales, scale_panel);
    for (int m = 0; m < M; m++)
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                float* at = y[m] + p * PANEL + v * LANES;
                store(at, add ? load(at) + acc[m][p][v] : acc[m][p][v]);
            }
}

static inline const void* at_scale(const void* scales, int64_t items) {
    return scales ? static_cast<const uint16_t*>(scales) + items : nullptr;
}

// M rows over `panels` panels, as many at once as there are registers for.
template <class F, int M>
static void strip(const char* w, int64_t panel, const typename F::X* x, float* const* y, int64_t panels, int64_t from,
                  int64_t to, bool add, const void* scales, int64_t scale_panel) {
    constexpr int P = panels_at_once(M);
    float* at[M];
    for (int m = 0; m < M; m++) at[m] = y[m];
    int64_t p = 0;
    for (; p + P <= panels; p += P) {
        tile<F, M, P>(w + p * panel, panel, x, at, from, to, add, at_scale(scales, p * scale_panel), scale_panel);
        for (int m = 0; m < M; m++) at[m] += P * PANEL;
    }
    for (; p < panels; p++) {
        tile<F, M, 1>(w + p * panel, panel, x, at, from, to, add, at_scale(scales, p * scale_panel), scale_panel);
        for (int m = 0; m < M; m++) at[m] += PANEL;
    }
}

template <class F>
static void strip_of(int m, const char* w, int64_t panel, const typename F::X* x, float* const* y, int64_t panels,
                     int64_t from, int64_t to, bool add, const void* scales = nullptr, int64_t scale_panel = 0) {
    switch (m) {
        case 1: return strip<F, 1>(w, panel, x, y, panels, from, to, add, scales, scale_panel);
        case 2: return strip<F, 2>(w, panel, x, y, panels, from, to, add, scales, scale_panel);
        case 3: return strip<F, 3>(w, panel, x, y, panels, from, to, add, scales, scale_panel);
        case 4: return strip<F, 4>(w, panel, x, y, panels, from, to, add, scales, scale_panel);
        case 5: return strip<F, 5>(w, panel, x, y, panels, from, to, add, scales, scale_panel);
        default: return strip<F, 6>(w, panel, x, y, panels, from, to, add, scales, scale_panel);
    }
}

// Row m of M into its place of an interleaved x: [n][M], or [n / 2][M] pairs.
static inline void to_x(const float* from, float* to, int64_t n, int64_t rows, int64_t m) {
    for (int64_t i = 0; i < n; i++) to[i * rows + m] = from[i];
}
static inline void to_x(const float* from, uint32_t* to, int64_t n, int64_t rows, int64_t m) {  // n is even
    for (int64_t i = 0; i < n / 2; i++)
        to[i * rows + m] = to_bf16(from[2 * i]) | (uint32_t)to_bf16(from[2 * i + 1]) << 16;
}
