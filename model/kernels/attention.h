// Soft-capped attention over a block table: each query sees its own positions, in one fixed order.
//
// A block holds PANEL tokens of one KV head for one layer. Keys lie as a panel (tokens are its outputs, head dimensions
// its k), values as HEAD / PANEL panels (dimensions are outputs, tokens k), so scores and sums are both tiles.
#pragma once
#include <algorithm>
#include <vector>

#include "tile.h"

struct Spans {  // one step's sequences; token t belongs to the span with starts[s] <= t < starts[s + 1]
    const int32_t* starts;     // [S + 1]
    const int32_t* positions;  // [T]
    const int32_t* tables;     // [S][table_width] block of each run of PANEL positions
    int64_t count, table_width;
};

struct Heads {
    int64_t query, kv, dim;  // dim is a multiple of PANEL
};

template <class F>
static char* block_at(char* cache, int64_t block, int64_t head, const Heads& h) {
    return cache + (block * h.kv + head) * F::bytes(h.dim);  // one panel of keys is as large as one block of values
}

static inline void put(float* to, float x) { *to = x; }
static inline void put(uint16_t* to, float x) { *to = to_bf16(x); }

// Rotate queries in place, rotate keys, and write keys and values to their blocks (RoPE halves as transformers does).
template <class F, class E>
static void store_kv(float* q, const float* k, const float* v, const float* cosine, const float* sine, char* keys, char* values,
                     const Spans& s, const Heads& h, int threads) {
    const int64_t half = h.dim / 2, pair = F::STEP;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < s.starts[s.count]; t++) {
        const float *c = cosine + t * half, *n = sine + t * half;
        for (int64_t head = 0; head < h.query; head++) {
            float* x = q + (t * h.query + head) * h.dim;
            for (int64_t i = 0; i < half; i++) {
                const float a = x[i], b = x[i + half];
                x[i] = a * c[i] - b * n[i];
                x[i + half] = b * c[i] + a * n[i];
            }
        }
        const int64_t span = std::upper_bound(s.starts, s.starts + s.count + 1, t) - s.starts - 1;
        const int64_t position = s.positions[t], slot = position % PANEL;
        const int64_t block = s.tables[span * s.table_width + position / PANEL];
        for (int64_t head = 0; head < h.kv; head++) {
            E* key = reinterpret_cast<E*>(block_at<F>(keys, block, head, h));
            E* value = reinterpret_cast<E*>(block_at<F>(values, block, head, h));
            const float *x = k + (t * h.kv + head) * h.dim, *y = v + (t * h.kv + head) * h.dim;
            for (int64_t i = 0; i < h.dim; i++) {
                const float turned = i < half ? x[i] * c[i] - x[i + half] * n[i] : x[i] * c[i - half] + x[i - half] * n[i - half];
                put(key + (i / pair * PANEL + slot) * pair + i % pair, turned);
                put(value + i / PANEL * PANEL * PANEL + (slot / pair * PANEL + i % PANEL) * pair + slot % pair, y[i]);
            }
        }
    }
}

struct Item {
    int64_t span, head, token, tokens;  // the tile's tokens
};

// out [T][query][dim]; window 0: everything before is seen, else the last `window` positions, the token's own included.
template <class F>
static void attend(const float* q, char* keys, char* values, float* out, const Spans& s, const Heads& h, float scale, float cap,
                   int64_t window, int threads) {
    typedef typename F::X X;
    const int64_t group = h.query / h.kv, per_tile = std::max<int64_t>(1, F::ROWS / group);
    std::vector<Item> items;
    for (int64_t span = 0; span < s.count; span++)
        for (int64_t head = 0; head < h.kv; head++)
            for (int64_t t = s.starts[span]; t < s.starts[span + 1]; t += per_tile)
                items.push_back({span, head, t, std::min<int64_t>(per_tile, s.starts[span + 1] - t)});
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<float> scores;
        std::vector<X> query(MAX_ROWS * h.dim), weights(MAX_ROWS * PANEL);
#pragma omp for schedule(dynamic)
        for (size_t n = 0; n < items.size(); n++) {
            const Item& item = items[n];
            const int32_t* table = s.tables + item.span * s.table_width;
            const int64_t first = s.positions[item.token], last = first + item.tokens - 1;
            const int64_t from_block = window ? std::max<int64_t>(0, first - window + 1) / PANEL : 0, to_block = last / PANEL + 1;
            const int64_t width = (to_block - from_block) * PANEL;
            for (int64_t g0 = 0; g0 < group; g0 += F::ROWS) {  // one turn, but for groups wider than a tile
                const int64_t heads = std::min<int64_t>(F::ROWS, group - g0), rows = heads * item.tokens;
                scores.resize(rows * width);
                float* y[MAX_ROWS];
                for (int64_t r = 0; r < rows; r++) {
                    const int64_t at = (item.token + r / heads) * h.query + item.head * group + g0 + r % heads;
                    to_x(q + at * h.dim, query.data(), h.dim, rows, r);
                }
                for (int64_t b = from_block; b < to_block; b++) {
                    for (int64_t r = 0; r < rows; r++) y[r] = scores.data() + r * width + (b - from_block) * PANEL;
                    strip_of<F>(rows, block_at<F>(keys, table[b], item.head, h), 0, query.data(), y, 1, 0, h.dim, false);
                }
                for (int64_t r = 0; r < rows; r++) {
                    const int64_t position = first + r / heads, base = from_block * PANEL;
                    const int64_t low = window ? std::max<int64_t>(0, position - window + 1) : 0;
                    float* row = scores.data() + r * width;
                    vf most = splat(-INFINITY), total = vf{};
                    vi lane;
                    for (int i = 0; i < LANES; i++) lane[i] = i;
                    const int64_t begin = (low - base) / LANES * LANES;  // a whole vector before this holds nothing seen
                    for (int64_t i = begin; i < width; i += LANES) {
                        const vi at = lane + static_cast<int32_t>(base + i);
                        const vi seen = (at >= static_cast<int32_t>(low)) & (at <= static_cast<int32_t>(position));
                        vf z = load(row + i) * scale;
                        if (cap > 0.f) z = vtanh(z / cap) * cap;
                        z = select(seen, z, splat(-INFINITY));
                        most = vmax(most, z);
                        store(row + i, z);
                    }
                    float top = most[0];
                    for (int i = 1; i < LANES; i++) top = std::max(top, most[i]);
                    for (int64_t i = 0; i < begin; i++) row[i] = 0.f;
                    for (int64_t i = begin; i < width; i += LANES) {
                        const vf z = load(row + i);
                        const vf e = select(z > splat(-INFINITY), vexp(z - top), vf{});
                        store(row + i, e);
                        // A lane is chosen by position, and a vector of zeros changes no sum: chunks do not matter.
                        total += e;
                    }
                    const vf inverse = splat(1.f / sum(total));
                    for (int64_t i = begin; i < width; i += LANES) store(row + i, load(row + i) * inverse);
                }
                for (int64_t r = 0; r < rows; r++)
                    y[r] = out + ((item.token + r / heads) * h.query + item.head * group + g0 + r % heads) * h.dim;
                for (int64_t b = from_block; b < to_block; b++) {
                    for (int64_t r = 0; r < rows; r++)
                        to_x(scores.data() + r * width + (b - from_block) * PANEL, weights.data(), PANEL, rows, r);
                    strip_of<F>(rows, block_at<F>(values, table[b], item.head, h), F::bytes(PANEL), weights.data(), y, h.dim / PANEL, 0, PANEL,
                                b > from_block);
                }
            }
        }
    }
}
