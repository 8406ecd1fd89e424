// int8 and int4 weights, multiplied as integers: two 16-bit products and their sum are one instruction.
//
// x is rounded to 16 bits, GROUP k's of a row sharing a scale: 128 times finer than bf16 at the group's largest value. A
// group's sum is an exact integer (below 32 * 127 * 32767 < 2^27), scaled and added to the row's one chain of sums.
#pragma once
#include "tile.h"

constexpr int GROUP = 32;           // k's that share a scale of x, and one of an int4 weight
constexpr int PAIRS = GROUP / 2;
constexpr int ITEMS = PAIRS + 2;    // of a group of x: pairs, the sum's start for nibbles, the scale

typedef int16_t vs __attribute__((vector_size(LANES * 4), aligned(2)));   // LANES pairs
typedef uint16_t vus __attribute__((vector_size(LANES * 4), aligned(2)));

// sum[j] + w[j][0] x[0] + w[j][1] x[1]
static inline vi add_pairs(vi sum, vs w, int32_t x) {
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(x));
#elif defined(__AVX512BW__)
    return sum + (vi)_mm512_madd_epi16((__m512i)w, _mm512_set1_epi32(x));
#elif defined(__AVX2__) && !defined(__AVX512F__)
    return sum + (vi)_mm256_madd_epi16((__m256i)w, _mm256_set1_epi32(x));
#else
    return sum + (((vi)w << 16) >> 16) * (int32_t)(int16_t)x + ((vi)w >> 16) * (x >> 16);
#endif
}

static inline vs widen_pairs(const char* p) {
#if defined(__AVX512BW__)
    return (vs)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
    return (vs)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    typedef int8_t bytes __attribute__((vector_size(LANES * 2), aligned(1)));
    return __builtin_convertvector(*reinterpret_cast<const bytes*>(p), vs);
#endif
}

static inline void narrow_pairs(vs pairs, char* to) {
    typedef int8_t bytes __attribute__((vector_size(LANES * 2), aligned(1)));
    *reinterpret_cast<bytes*>(to) = __builtin_convertvector(pairs, bytes);
}

static inline vf load_bf16(const uint16_t* p) { return as_floats(widen(p) << 16); }

template <int M>
static inline float scale_of(const int32_t* group, int m) {
    float value;
    std::memcpy(&value, group + (PAIRS + 1) * M + m, 4);
    return value;
}

struct Integer {
    typedef int32_t X;  // [k / GROUP][ITEMS][rows]
    static constexpr bool CONVERTS = true;
    static constexpr int64_t items(int64_t k) { return k / GROUP * ITEMS; }
    static constexpr int64_t K_BLOCK = 1024;
    static constexpr int ROWS = FEW_ROWS;
    static constexpr int STEP = GROUP;
};

// sums += a group's products; `weights` gives a vector of pairs: the i'th of panel p, vector v.
template <int M, int P, class Weights>
static inline void add_group(vi (&sums)[M][P][NV], const int32_t* group, Weights weights) {
    for (int i = 0; i < PAIRS; i++)
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                const vs weight = weights(i, p, v);
                for (int m = 0; m < M; m++) sums[m][p][v] = add_pairs(sums[m][p][v], weight, group[i * M + m]);
            }
}

struct INT8 : Integer {  // [panel][k / 2][PANEL][2] int8, one scale per output, applied at the end
    static constexpr int64_t bytes(int64_t k) { return k * PANEL; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* x, int64_t k, const void*, int64_t) {
        const X* group = x + items(k) * M;
        vi sums[M][P][NV] = {};
        add_group(sums, group, [=](int i, int p, int v) { return widen_pairs(w + p * panel + bytes(k + 2 * i) + v * LANES * 2); });
        for (int m = 0; m < M; m++)
            for (int p = 0; p < P; p++)
                for (int v = 0; v < NV; v++) acc[m][p][v] += floats(sums[m][p][v]) * scale_of<M>(group, m);
    }
};

// Nibbles, opened to bytes: what many rows read. [panel][k / 2][PANEL][2]
struct OPEN4 : Integer {
    static constexpr int64_t bytes(int64_t k) { return k * PANEL; }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* x, int64_t k, const void* scales, int64_t scale_panel) {
        const X* group = x + items(k) * M;
        add_scaled(acc, group, scales, scale_panel, k, [=](vi (&sums)[M][P][NV]) {
            add_group(sums, group, [=](int i, int p, int v) { return widen_pairs(w + p * panel + bytes(k + 2 * i) + v * LANES * 2); });
        });
    }
    // The eights that a nibble is too large by come off where the sum starts.
    template <int M, int P, class Add>
    static inline void add_scaled(vf (&acc)[M][P][NV], const X* group, const void* scales, int64_t scale_panel, int64_t k, Add add_products) {
        vi sums[M][P][NV];
        for (int m = 0; m < M; m++)
            for (int p = 0; p < P; p++)
                for (int v = 0; v < NV; v++) sums[m][p][v] = vi{} + group[PAIRS * M + m];
        add_products(sums);
        for (int p = 0; p < P; p++)
            for (int v = 0; v < NV; v++) {
                const vf scale = load_bf16(static_cast<const uint16_t*>(scales) + p * scale_panel + k / GROUP * PANEL + v * LANES);
                for (int m = 0; m < M; m++) acc[m][p][v] += floats(sums[m][p][v]) * (scale * scale_of<M>(group, m));
            }
    }
};

// [panel][k / 8][PANEL][2] four nibbles, two k's apart, the first lowest; scales [panel][k / GROUP][PANEL] bf16;
// w = (nibble - 8) scale
struct INT4 : Integer {
    static constexpr int64_t bytes(int64_t k) { return k * PANEL / 2; }
    static inline vs nibbles(vus fours, int n) { return (vs)((fours >> static_cast<uint16_t>(4 * n)) & static_cast<uint16_t>(15)); }
    static inline vus fours_at(const char* w, int64_t k, int v) { return *reinterpret_cast<const vus*>(w + bytes(k) + v * LANES * 4); }
    template <int M, int P>
    static inline void add(vf (&acc)[M][P][NV], const char* w, int64_t panel, const X* x, int64_t k, const void* scales, int64_t scale_panel) {
        const X* group = x + items(k) * M;
        OPEN4::add_scaled(acc, group, scales, scale_panel, k, [=](vi (&sums)[M][P][NV]) {
            for (int i = 0; i < PAIRS; i += 4)
                for (int p = 0; p < P; p++)
                    for (int v = 0; v < NV; v++) {
                        const vus fours = fours_at(w + p * panel, k + 2 * i, v);  // loaded once: one row waits for memory
                        for (int n = 0; n < 4; n++)
                            for (int m = 0; m < M; m++)
                                sums[m][p][v] = add_pairs(sums[m][p][v], nibbles(fours, n), group[(i + n) * M + m]);
                    }
        });
    }
    static void open(const char* w, int64_t from, int64_t to, char* out) {  // one panel's k's
        for (int64_t k = from; k < to; k += 8)
            for (int i = 0; i < 4; i++)
                for (int v = 0; v < NV; v++, out += LANES * 2) narrow_pairs(nibbles(fours_at(w, k, v), i), out);
    }
};

// To the nearest whole number, for |x| < 2^22: the low bits of 1.5 * 2^23 + x.
static inline vi rounded(vf x) { return as_ints(x + 12582912.f) - as_ints(splat(12582912.f)); }

// Row m of M into its place of an interleaved x. What is not finite makes the scale so, and with it the row's outputs.
static inline void to_x(const float* from, int32_t* to, int64_t n, int64_t rows, int64_t m) {
    for (; n; n -= GROUP, from += GROUP, to += ITEMS * rows) {
        vf largest = vf{}, broken = vf{};
        for (int i = 0; i < GROUP; i += LANES) {
            const vf x = load(from + i);
            largest = vmax(largest, as_floats(as_ints(x) & INT32_MAX));
            broken += x * 0.f;
        }
        float most = largest[0];
        for (int i = 1; i < LANES; i++) most = std::max(most, largest[i]);
        const float scale = most / 32767.f + sum(broken), inverse = most > 1e-30f ? 32767.f / most : 0.f;
        int32_t whole[GROUP];
        vi totals = vi{};
        for (int i = 0; i < GROUP; i += LANES) {
            const vi part = rounded(load(from + i) * inverse);
            totals += part;
            *reinterpret_cast<vi*>(whole + i) = part;
        }
        int32_t total = 0;
        for (int i = 0; i < LANES; i++) total += totals[i];
        for (int i = 0; i < PAIRS; i++)
            to[i * rows + m] = static_cast<int32_t>(static_cast<uint32_t>(whole[2 * i + 1]) << 16 | (whole[2 * i] & 0xFFFF));
        to[PAIRS * rows + m] = -8 * total;
        std::memcpy(to + (PAIRS + 1) * rows + m, &scale, 4);
    }
}
