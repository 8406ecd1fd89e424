// Norms, the gated activation, the final soft cap and the embedding.
#pragma once
#include "linear.h"

// Gemma's RMSNorm: out = x / rms(x) * (1 + w); with `add`, out += that. width is a multiple of LANES.
static void rms_norm(const float* x, const float* w, float* out, int64_t rows, int64_t width, float eps, bool add, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && rows > 4)
    for (int64_t r = 0; r < rows; r++) {
        const float* row = x + r * width;
        vf squares = vf{};
        for (int64_t i = 0; i < width; i += LANES) squares += load(row + i) * load(row + i);
        const float inverse = 1.f / std::sqrt(sum(squares) / static_cast<float>(width) + eps);
        float* to = out + r * width;
        for (int64_t i = 0; i < width; i += LANES) {
            const vf y = load(row + i) * inverse * (1.f + load(w + i));
            store(to + i, add ? load(to + i) + y : y);
        }
    }
}

// GeLU in its tanh form (D. Hendrycks, K. Gimpel, 2016) of the gate, times up; in place of the gate.
static void geglu(float* gate, const float* up, int64_t rows, int64_t width, int threads) {
    const int64_t chunk = 512, chunks = (rows * width + chunk - 1) / chunk;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && chunks > 8)
    for (int64_t c = 0; c < chunks; c++)
        for (int64_t i = c * chunk; i < std::min(rows * width, (c + 1) * chunk); i += LANES) {
            const vf g = load(gate + i);
            const vf inner = 0.7978845608f * (g + 0.044715f * g * g * g);
            store(gate + i, 0.5f * g * (1.f + vtanh(inner)) * load(up + i));
        }
}

static void soft_cap(float* x, int64_t count, float cap, int threads) {  // count is a multiple of LANES
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && count > 16384)
    for (int64_t i = 0; i < count / LANES; i++) store(x + i * LANES, vtanh(load(x + i * LANES) / cap) * cap);
}

static void embed(const int64_t* ids, int kind, const void* w, const void* scales, float* out, int64_t rows, int64_t width,
                  float normaliser, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && rows > 4)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) out[r * width + i] = weight_at(kind, w, scales, width, ids[r], i) * normaliser;
}
