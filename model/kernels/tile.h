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
constexpr int ROWS = 6;  // at most, in one tile
#if defined(__AVX512F__)
constexpr int ACCUMULATORS = 24;
#else
constexpr int ACCUMULATORS = 12;  // of 16 registers
#endif

constexpr int panels_at_once(int rows) {
    int most = ACCUMULATORS / (rows * NV);
    return most < 1 ? 1 : most > 4 ? 4 : most;
}

struct F32 {  // [panel][k][PANEL] fp32
    typedef float X;
    static constexpr int X_STEP = 1;  // k's in one item of x
    static constexpr int64_t K_BLOCK = 64;
    static constexpr int STEP = 1;
    static constexpr int64_t bytes(int64_t k) { return k * PANEL * 4; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* const (&x)[M], int64_t k, const void*, int64_t) {
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                vf weight = load(reinterpret_cast<const float*>(w + p * panel + bytes(k)) + v * LANES);
                for (int m = 0; m < M; m++) acc[m][p][v] += weight * x[m][k];
            }
    }
};

struct BF16 {  // [panel][k / 2][PANEL][2] bf16
    typedef PairX X;
    static constexpr int X_STEP = PAIR;
    static constexpr int64_t K_BLOCK = 1024;
    static constexpr int STEP = 2;
    static constexpr int64_t bytes(int64_t k) { return k * PANEL * 2; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* const (&x)[M], int64_t k, const void*, int64_t) {
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                vi pair = *reinterpret_cast<const vi*>(w + p * panel + bytes(k) + v * LANES * 4);
#if defined(__AVX512BF16__)
                for (int m = 0; m < M; m++)
                    acc[m][p][v] = (vf)_mm512_dpbf16_ps((__m512)acc[m][p][v], (__m512bh)(__m512i)pair,
                                                        (__m512bh)_mm512_set1_epi32((int)x[m][k / 2]));
#else
                vf even = as_floats(pair << 16), odd = as_floats(pair & (int32_t)0xFFFF0000);
                for (int m = 0; m < M; m++) acc[m][p][v] += even * x[m][k];
                for (int m = 0; m < M; m++) acc[m][p][v] += odd * x[m][k + 1];
#endif
            }
    }
};

struct INT8 {  // [panel][k][PANEL] int8, one scale per output, applied at the end
    typedef float X;
    static constexpr int X_STEP = 1;  // k's in one item of x
    static constexpr int64_t K_BLOCK = 1024;
    static constexpr int STEP = 1;
    static constexpr int64_t bytes(int64_t k) { return k * PANEL; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* const (&x)[M], int64_t k, const void*, int64_t) {
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                vf weight = floats(widen(reinterpret_cast<const int8_t*>(w + p * panel + bytes(k) + v * LANES)));
                for (int m = 0; m < M; m++) acc[m][p][v] += weight * x[m][k];
            }
    }
};

constexpr int GROUP = 32;  // k's that share an int4 scale

static inline vf load_bf16(const uint16_t* p) { return as_floats(widen(p) << 16); }

// [panel][k / 2][PANEL] two nibbles, even k low; scales [panel][k / GROUP][PANEL] bf16; w = (nibble - 8) scale
struct INT4 {
    typedef float X;
    static constexpr int X_STEP = 1;  // k's in one item of x
    static constexpr int64_t K_BLOCK = 1024;
    static constexpr int STEP = GROUP;
    static constexpr int64_t bytes(int64_t k) { return k * PANEL / 2; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* const (&x)[M], int64_t k, const void* scales, int64_t scale_panel) {
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                const uint16_t* at = static_cast<const uint16_t*>(scales) + p * scale_panel + k / GROUP * PANEL;
                vf scale = load_bf16(at + v * LANES), zero = scale * -8.f;
                for (int64_t j = k; j < k + GROUP; j += 2) {
                    vi both = widen(reinterpret_cast<const uint8_t*>(w + p * panel + bytes(j) + v * LANES));
                    vf even = floats(both & 15) * scale + zero, odd = floats(both >> 4) * scale + zero;
                    for (int m = 0; m < M; m++) acc[m][p][v] += even * x[m][j];
                    for (int m = 0; m < M; m++) acc[m][p][v] += odd * x[m][j + 1];
                }
            }
    }
};

// y[m][p * PANEL ...] (+)= x[m] · panel p, for k in [from, to); `add`: go on from what y holds.
template <class F, int M, int P>
static void tile(const char* w, int64_t panel, const typename F::X* const* rows, float* const* y, int64_t from, int64_t to,
                 bool add, const void* scales, int64_t scale_panel) {
    vf acc[M][P][NV];
    const typename F::X* x[M];
    for (int m = 0; m < M; m++) {
        x[m] = rows[m];
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) acc[m][p][v] = vf{};
    }
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
static void strip(const char* w, int64_t panel, const typename F::X* const* rows, float* const* y, int64_t panels, int64_t from,
                  int64_t to, bool add, const void* scales, int64_t scale_panel) {
    constexpr int P = panels_at_once(M);
    float* at[M];
    for (int m = 0; m < M; m++) at[m] = y[m];
    int64_t p = 0;
    for (; p + P <= panels; p += P) {
        tile<F, M, P>(w + p * panel, panel, rows, at, from, to, add, at_scale(scales, p * scale_panel), scale_panel);
        for (int m = 0; m < M; m++) at[m] += P * PANEL;
    }
    for (; p < panels; p++) {
        tile<F, M, 1>(w + p * panel, panel, rows, at, from, to, add, at_scale(scales, p * scale_panel), scale_panel);
        for (int m = 0; m < M; m++) at[m] += PANEL;
    }
}

template <class F>
static void strip_of(int m, const char* w, int64_t panel, const typename F::X* const* rows, float* const* y, int64_t panels,
                     int64_t from, int64_t to, bool add, const void* scales = nullptr, int64_t scale_panel = 0) {
    switch (m) {
        case 1: return strip<F, 1>(w, panel, rows, y, panels, from, to, add, scales, scale_panel);
        case 2: return strip<F, 2>(w, panel, rows, y, panels, from, to, add, scales, scale_panel);
        case 3: return strip<F, 3>(w, panel, rows, y, panels, from, to, add, scales, scale_panel);
        case 4: return strip<F, 4>(w, panel, rows, y, panels, from, to, add, scales, scale_panel);
        case 5: return strip<F, 5>(w, panel, rows, y, panels, from, to, add, scales, scale_panel);
        default: return strip<F, 6>(w, panel, rows, y, panels, from, to, add, scales, scale_panel);
    }
}

static inline void to_x(const float* from, float* to, int64_t n) { std::memcpy(to, from, n * 4); }
static inline void to_x(const float* from, uint32_t* to, int64_t n) {  // n is even
    for (int64_t i = 0; i < n / 2; i++) to[i] = to_bf16(from[2 * i]) | (uint32_t)to_bf16(from[2 * i + 1]) << 16;
}
