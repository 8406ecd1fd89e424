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
struct Product {  // y [m][n] = x W^T; x lies in tiles of rows, interleaved
    const char* w;
    const void* scales;
    const typename F::X* x;
    float* y;
    int64_t m, k, n;
    int tile_rows;
    int64_t scale_panel() const { return k / GROUP * PANEL; }
};

// Rows as tiles read them.
template <class F>
static std::vector<typename F::X> interleave(const float* x, int64_t m, int64_t k, int tile_rows, int threads) {
    std::vector<typename F::X> out(m * F::items(k));
    const int64_t tiles = (m + tile_rows - 1) / tile_rows;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tiles > 1)
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t row = t * tile_rows, rows = std::min<int64_t>(tile_rows, m - row);
        for (int64_t i = 0; i < rows; i++) to_x(x + (row + i) * k, out.data() + row * F::items(k), k, rows, i);
    }
    return out;
}

// k's [from, to) of some panels for every row. G reads them where `weights` begins with k `base` of panel `first`.
template <class G, class F>
static void add_strips(const Product<F>& o, const char* weights, int64_t panel, int64_t first, int64_t count, int64_t base, int64_t from,
                       int64_t to) {
    for (int64_t row = 0; row < o.m; row += o.tile_rows) {
        const int rows = static_cast<int>(std::min<int64_t>(o.tile_rows, o.m - row));
        float* out[MAX_ROWS];
        for (int i = 0; i < rows; i++) out[i] = o.y + (row + i) * o.n + first * PANEL;
        strip_of<G>(rows, weights, panel, o.x + row * F::items(o.k) + F::items(base) * rows, out, count, from - base, to - base, from > 0,
                    at_scale(o.scales, first * o.scale_panel() + base / GROUP * PANEL), o.scale_panel());
    }
}

template <class F>
static void add_panels(const Product<F>& o, int64_t first, int64_t count, char*) {
    for (int64_t k = 0; k < o.k; k += F::K_BLOCK)
        add_strips<F>(o, o.w + first * F::bytes(o.k), F::bytes(o.k), first, count, 0, k, std::min(o.k, k + F::K_BLOCK));
}

// What many rows read is opened once, into `opened`.
static void add_panels(const Product<INT4>& o, int64_t first, int64_t count, char* opened) {
    if (o.m <= INT4::ROWS) return add_panels<INT4>(o, first, count, opened);
    for (int64_t k = 0; k < o.k; k += INT4::K_BLOCK) {
        const int64_t to = std::min(o.k, k + INT4::K_BLOCK), panel = OPEN4::bytes(to - k);
        for (int64_t p = 0; p < count; p++) INT4::open(o.w + (first + p) * INT4::bytes(o.k), k, to, opened + p * panel);
        add_strips<OPEN4>(o, opened, panel, first, count, k, k, to);
    }
}

template <class F>
static void linear(const float* x, const void* w, const void* scales, float* y, int64_t m, int64_t k, int64_t n, int threads) {
    if (m == 0) return;
    std::vector<typename F::X> tiles;
    Product<F> o{static_cast<const char*>(w), scales, reinterpret_cast<const typename F::X*>(x), y, m, k, n, even_rows(m, F::ROWS)};
    if (F::CONVERTS || m > 1) {
        tiles = interleave<F>(x, m, k, o.tile_rows, threads);
        o.x = tiles.data();
    }
    const int64_t panels = n / PANEL, chunk = m <= F::ROWS ? 4 : PANEL_CHUNK, chunks = (panels + chunk - 1) / chunk;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<char> opened(std::is_same<F, INT4>::value ? chunk * OPEN4::bytes(F::K_BLOCK) : 0);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < chunks; c++) {
            const int64_t first = c * chunk, count = std::min(chunk, panels - first);
            add_panels(o, first, count, opened.data());
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
