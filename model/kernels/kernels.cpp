// The functions that Python calls, with plain C names. Pointers are checked on the other side.
#include "attention.h"
#include "elementwise.h"
#include "linear.h"

enum Kind { FP32 = 0, BFLOAT16 = 1, EIGHT = 2, FOUR = 3 };

extern "C" {

int64_t gemmule_panel() { return PANEL; }
int64_t gemmule_group() { return GROUP; }

void gemmule_pack(int kind, const float* w, void* out, void* scales, int64_t rows, int64_t k, int threads) {
    switch (kind) {
        case FP32: return pack_f32(w, static_cast<float*>(out), rows, k, threads);
        case BFLOAT16: return pack_bf16(w, static_cast<uint16_t*>(out), rows, k, threads);
        case EIGHT: return pack_int8(w, static_cast<int8_t*>(out), static_cast<float*>(scales), rows, k, threads);
        default: return pack_int4(w, static_cast<uint16_t*>(out), static_cast<uint16_t*>(scales), rows, k, threads);
    }
}

void gemmule_linear(int kind, const float* x, const void* w, const void* scales, float* y, int64_t m, int64_t k, int64_t n, int threads) {
    switch (kind) {
        case FP32: return linear<F32>(x, w, scales, y, m, k, n, threads);
        case BFLOAT16: return linear<BF16>(x, w, scales, y, m, k, n, threads);
        case EIGHT: return linear<INT8>(x, w, scales, y, m, k, n, threads);
        default: return linear<INT4>(x, w, scales, y, m, k, n, threads);
    }
}

void gemmule_embed(const int64_t* ids, int kind, const void* w, const void* scales, float* out, int64_t rows, int64_t width,
                   float normaliser, int threads) {
    embed(ids, kind, w, scales, out, rows, width, normaliser, threads);
}

void gemmule_rms_norm(const float* x, const float* w, float* out, int64_t rows, int64_t width, float eps, int add, int threads) {
    rms_norm(x, w, out, rows, width, eps, add != 0, threads);
}

void gemmule_geglu(float* gate, const float* up, int64_t rows, int64_t width, int threads) { geglu(gate, up, rows, width, threads); }

void gemmule_soft_cap(float* x, int64_t count, float cap, int threads) { soft_cap(x, count, cap, threads); }

void gemmule_store_kv(int kind, float* q, const float* k, const float* v, const float* cosine, const float* sine, void* keys,
                      void* values, const int32_t* starts, const int32_t* positions, const int32_t* tables, int64_t spans,
                      int64_t table_width, int64_t query_heads, int64_t kv_heads, int64_t dim, int threads) {
    const Spans s{starts, positions, tables, spans, table_width};
    const Heads h{query_heads, kv_heads, dim};
    if (kind == FP32)
        store_kv<F32, float>(q, k, v, cosine, sine, static_cast<char*>(keys), static_cast<char*>(values), s, h, threads);
    else
        store_kv<BF16, uint16_t>(q, k, v, cosine, sine, static_cast<char*>(keys), static_cast<char*>(values), s, h, threads);
}

void gemmule_attend(int kind, const float* q, void* keys, void* values, float* out, const int32_t* starts, const int32_t* positions,
                    const int32_t* tables, int64_t spans, int64_t table_width, int64_t query_heads, int64_t kv_heads, int64_t dim,
                    float scale, float cap, int64_t window, int threads) {
    const Spans s{starts, positions, tables, spans, table_width};
    const Heads h{query_heads, kv_heads, dim};
    if (kind == FP32)
        attend<F32>(q, static_cast<char*>(keys), static_cast<char*>(values), out, s, h, scale, cap, window, threads);
    else
        attend<BF16>(q, static_cast<char*>(keys), static_cast<char*>(values), out, s, h, scale, cap, window, threads);
}
}
