// y = x W^T with W packed in panels, and how W is packed. Threads share the panels; each reads its weights once.
#pragma once
#include <algorithm>
#include <vector>

#include "integer.h"

constexpr int64_t PANEL_CHUNK = 8;    // panels of a strip: weights stay in L2 while all rows pass

static inline int even_rows(int64_t m, int64_t most) {  // rows of a tile, so that the last is not a sliver
    int64_t tiles = (m + most - 1) / most;
    return static_cast<int>((m + tiles - 1) / tiles);
}

template <class F>
static void linear(const float* x, const void* w, const void* scales, float* y, int64_t m, int64_t k, int64_t n, int threads) {
    if (m == 0) return;
    typedef typename F::X X;
    const int64_t items = F::items(k), panels = n / PANEL, panel = F::bytes(k), scale_panel = k / GROUP * PANEL;
    const int tile_rows = even_rows(m, F::ROWS);
    std::vector<X> interleaved;
    const X* xs = reinterpret_cast<const X*>(x);
    if (F::CONVERTS || m > 1) {
        interleaved.resize(m * items);
        const int64_t tiles = (m + tile_rows - 1) / tile_rows;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tiles > 1)
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t row = t * tile_rows, rows = std::min<int64_t>(tile_rows, m - row);
            for (int64_t i = 0; i < rows; i++) to_x(x + (row + i) * k, interleaved.data() + row * items, k, rows, i);
        }
        xs = interleaved.data();
    }
    const int64_t chunk = m <= F::ROWS ? 4 : PANEL_CHUNK, chunks = (panels + chunk - 1) / chunk;
    const bool opens = std::is_same<F, INT4>::value && m > F::ROWS;  // many rows read what is unpacked once
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<char> bytes(opens ? chunk * OPEN4::bytes(F::K_BLOCK) : 0);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < chunks; c++) {
            const int64_t first = c * chunk, count = std::min(chunk, panels - first);
            const char* weights = static_cast<const char*>(w) + first * panel;
            for (int64_t from = 0; from < k; from += F::K_BLOCK) {
                const int64_t to = std::min(k, from + F::K_BLOCK), opened = OPEN4::bytes(to - from);
                if constexpr (std::is_same<F, INT4>::value)
                    for (int64_t p = 0; opens && p < count; p++) INT4::open(weights + p * panel, from, to, bytes.data() + p * opened);
                for (int64_t row = 0; row < m; row += tile_rows) {
                    const int rows = static_cast<int>(std::min<int64_t>(tile_rows, m - row));
                    float* out[MAX_ROWS];
                    for (int i = 0; i < rows; i++) out[i] = y + (row + i) * n + first * PANEL;
                    if constexpr (std::is_same<F, INT4>::value)
                        if (opens) {
                            strip_of<OPEN4>(rows, bytes.data(), opened, xs + row * items + F::items(from) * rows, out, count, 0, to - from, from > 0,
                                            at_scale(scales, first * scale_panel + from / GROUP * PANEL), scale_panel);
                            continue;
                        }
                    strip_of<F>(rows, weights, panel, xs + row * items, out, count, from, to, from > 0, at_scale(scales, first * scale_panel),
                                scale_panel);
                }
            }
            if (std::is_same<F, INT8>::value)
                for (int64_t row = 0; row < m; row++)
                    for (int64_t i = first * PANEL; i < (first + count) * PANEL; i++) y[row * n + i] *= static_cast<const float*>(scales)[i];
        }
    }
}

// Every row of W and its place in a panel; where the rows end inside one, zeros fill it.
template <class Put>
static void for_each_weight(int64_t rows, int threads, Put put) {
    const int64_t panels = (rows + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t j = 0; j < PANEL; j++) put(p, j, p * PANEL + j, p * PANEL + j < rows);
}

static void pack_f32(const float* w, float* out, int64_t rows, int64_t k, int threads) {
    for_each_weight(rows, threads, [=](int64_t p, int64_t j, int64_t row, bool real) {
        for (int64_t i = 0; i < k; i++) out[(p * k + i) * PANEL + j] = real ? w[row * k + i] : 0.f;
    });
}
static void pack_bf16(const float* w, uint16_t* out, int64_t rows, int64_t k, int threads) {
    for_each_weight(rows, threads, [=](int64_t p, int64_t j, int64_t row, bool real) {
        for (int64_t i = 0; i < k; i++)
            out[((p * k / 2 + i / 2) * PANEL + j) * 2 + i % 2] = real ? to_bf16(w[row * k + i]) : 0;
    });
}
static void pack_int8(const float* w, int8_t* out, float* scales, int64_t rows, int64_t k, int threads) {
    for_each_weight(rows, threads, [=](int64_t p, int64_t j, int64_t row, bool real) {
        float most = 0.f;
        if (real)
            for (int64_t i = 0; i < k; i++) most = std::max(most, std::fabs(w[row * k + i]));
        const float scale = most / 127.f, inverse = most > 0.f ? 127.f / most : 0.f;
        scales[p * PANEL + j] = scale;
        for (int64_t i = 0; i < k; i++)
            out[((p * k / 2 + i / 2) * PANEL + j) * 2 + i % 2] = real ? static_cast<int8_t>(std::lrintf(w[row * k + i] * inverse)) : 0;
    });
}
static inline int nibble_at(int64_t i) { return static_cast<int>(i % 8 / 2 * 4); }
// The extreme value of a group becomes -8, so all sixteen steps are used.
static void pack_int4(const float* w, uint16_t* out, uint16_t* scales, int64_t rows, int64_t k, int threads) {
    for_each_weight(rows, threads, [=](int64_t p, int64_t j, int64_t row, bool real) {
        for (int64_t group = 0; group < k / GROUP; group++) {
            const float* at = w + row * k + group * GROUP;
            float extreme = 0.f;
            if (real)
                for (int64_t i = 0; i < GROUP; i++)
                    if (std::fabs(at[i]) > std::fabs(extreme)) extreme = at[i];
            const uint16_t scale = to_bf16(extreme / -8.f);
            const float inverse = scale & 0x7FFF ? 1.f / from_bf16(scale) : 0.f;
            scales[(p * (k / GROUP) + group) * PANEL + j] = scale;
            uint16_t* to = out + (p * k + group * GROUP) / 8 * PANEL * 2 + j * 2;
            for (int64_t i = 0; i < GROUP; i++) {
                const int step = real ? std::clamp(static_cast<int>(std::lrintf(at[i] * inverse)) + 8, 0, 15) : 8;
                uint16_t* four = to + i / 8 * PANEL * 2 + i % 2;
                *four = static_cast<uint16_t>((i % 8 < 2 ? 0 : *four) | step << nibble_at(i));
            }
        }
    });
}

// One weight of a packed matrix; the embedding is looked up in the head that it is tied to.
static inline float weight_at(int kind, const void* w, const void* scales, int64_t k, int64_t row, int64_t i) {
    const int64_t p = row / PANEL, j = row % PANEL;
    switch (kind) {
        case 0: return static_cast<const float*>(w)[(p * k + i) * PANEL + j];
        case 1: return from_bf16(static_cast<const uint16_t*>(w)[((p * k / 2 + i / 2) * PANEL + j) * 2 + i % 2]);
        case 2: return static_cast<const int8_t*>(w)[((p * k / 2 + i / 2) * PANEL + j) * 2 + i % 2] * static_cast<const float*>(scales)[row];
        default: {
            const uint16_t four = static_cast<const uint16_t*>(w)[((p * k + i) / 8 * PANEL + j) * 2 + i % 2];
            const uint16_t scale = static_cast<const uint16_t*>(scales)[(p * (k / GROUP) + i / GROUP) * PANEL + j];
            return ((four >> nibble_at(i) & 15) - 8) * from_bf16(scale);
        }
    }
}
