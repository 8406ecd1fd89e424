// Vectors of fp32 that any compiler target can lower, and the few functions that Gemma 2 needs on them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;  // where registers are narrower the compiler uses several
#endif
constexpr int PANEL = 16;  // outputs that lie side by side in a packed weight
constexpr int NV = PANEL / LANES;

typedef float vf __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int8_t vi8 __attribute__((vector_size(LANES), aligned(1)));
typedef uint8_t vu8 __attribute__((vector_size(LANES), aligned(1)));
typedef uint16_t vu16 __attribute__((vector_size(LANES * 2), aligned(2)));

static inline vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
static inline void store(float* p, vf x) { *reinterpret_cast<vf*>(p) = x; }
static inline vf splat(float x) { return vf{} + x; }
static inline vf floats(vi x) { return __builtin_convertvector(x, vf); }
static inline vf as_floats(vi x) { return (vf)x; }  // the same bits
static inline vi as_ints(vf x) { return (vi)x; }
static inline vf select(vi mask, vf a, vf b) { return as_floats((as_ints(a) & mask) | (as_ints(b) & ~mask)); }
static inline vf vmin(vf a, vf b) { return select(a < b, a, b); }
static inline vf vmax(vf a, vf b) { return select(a > b, a, b); }

// One fixed tree, so that a sum does not depend on who adds it.
static inline float sum(vf x) {
    float lane[LANES];
    std::memcpy(lane, &x, sizeof lane);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return lane[0];
}

// e^x to about 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r, n added to the exponent
// (W. J. Cody, W. Waite, Software Manual for the Elementary Functions, 1980; the split of ln 2 keeps r exact).
static inline vf vexp(vf x) {
    x = vmin(vmax(x, splat(-87.3f)), splat(88.3f));
    vf shifted = x * 1.44269504f + 12582912.f;  // 1.5 * 2^23: the sum's low bits are the rounded integer
    vf n = shifted - 12582912.f;
    vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    vi exponent = __builtin_convertvector(n, vi);
    return as_floats(as_ints(p) + (exponent << 23));
}

// tanh(x) = sign(x) (1 - 2 / (e^{2|x|} + 1)); near zero the difference cancels, so a series takes over.
static inline vf vtanh(vf x) {
    vi sign = as_ints(x) & INT32_MIN;
    vf a = as_floats(as_ints(x) ^ sign);
    vf large = 1.f - 2.f / (vexp(a * 2.f) + 1.f);
    vf s = a * a;
    vf small = a + a * s * (-0.333333333f + s * (0.133333333f + s * (-0.053968254f + s * 0.021869488f)));
    return as_floats(as_ints(select(a < 0.15f, small, large)) | sign);
}

// Small integers, widened. GCC 12 takes many steps where the processor has one, so that one is named.
static inline vi widen(const int8_t* p) {
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
    return __builtin_convertvector(*reinterpret_cast<const vi8*>(p), vi);
#endif
}
static inline vi widen(const uint8_t* p) {
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
    return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
    return __builtin_convertvector(*reinterpret_cast<const vu8*>(p), vi);
#endif
}
static inline vi widen(const uint16_t* p) {
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
    return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    return __builtin_convertvector(*reinterpret_cast<const vu16*>(p), vi);
#endif
}

static inline uint16_t to_bf16(float x) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
static inline float from_bf16(uint16_t x) {
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
