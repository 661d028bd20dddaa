// A perceptron on rows, value and gradient; every thread carries blocks of rows through all layers.
//
//     h_0 = the row,  u_l = W_l h_(l-1) + b_l,  h_l = act(u_l),  and u_L is the result
//
// Images: a 3x3 - 1x1 - ... - 3x3 convolution network is a perceptron from the neighbourhood of a
// pixel to contributions to the neighbourhoods of its result, which are then added up (images.h).
//
// What backward needs is kept by forward: h_l with ReLU, u_l with SiLU. Both are (rows, size) with
// room for some numbers more.

#include <cstddef>

#include "functions.h"
#include "gemm.h"
#include "images.h"
#include "parallel.h"

using gemm::A;
using gemm::multiply;

namespace {

constexpr int64_t BLOCK = 96;  // rows; their activations stay in the second-level cache
constexpr int MOST = 8;        // layers

struct Perceptron {
    int64_t rows, height, width;  // height = 0: vectors
    int32_t layers, silu, threads, unused;
    int64_t size[MOST + 1];  // channels of the input, the hidden layers and the output

    bool image() const { return height > 0; }
    int64_t batch() const { return image() ? rows / (height * width) : rows; }
    Images images(int l) const { return {batch(), height, width, size[l]}; }
    // columns of W_(l+1) or rows of W_l
    int64_t n(int l) const { return size[l] * (image() && (l == 0 || l == layers) ? 9 : 1); }
    int64_t widest() const {
        int64_t most = 0;
        for (int l = 0; l <= layers; ++l) most = n(l) > most ? n(l) : most;
        return most;
    }
    // Two threads cost some microseconds, which small products do not take
    int useful_threads() const {
        int64_t work = 0;
        for (int l = 0; l < layers; ++l) work += rows * n(l) * n(l + 1);
        return work < (1 << 18) ? 1 : threads;
    }
    // Row i of the matrix W_l: in the last layer of images (neighbour, channel), where the result
    // of a pixel contributes to neighbour t with the weight that its own patch has at 8 - t
    const float* row(int l, int64_t i, const float* w) const {
        if (!image() || l < layers) return w + i * n(l - 1);
        const int64_t t = i / size[l], channel = i % size[l];
        return w + (channel * 9 + 8 - t) * n(l - 1);
    }
};

// Hands out pieces of a buffer; without one it only counts
struct Buffer {
    float* base;
    int64_t used = 0;
    float* take(int64_t n) {
        float* piece = base ? base + used : nullptr;
        used += gemm::round_up(n + gemm::LANES);
        return piece;
    }
};

struct ThreadBuffers {
    float *patches, *hidden[2], *g_patches, *g[2], *g_w[MOST + 1], *g_b[MOST + 1];
};

struct Forward {
    float *packed[MOST + 1], *bias[MOST + 1], *bordered, *rows, *patches, *hidden[2];
    int64_t per_thread;

    Forward(const Perceptron& n, Buffer& b) {
        for (int l = 1; l <= n.layers; ++l) {
            packed[l] = b.take(gemm::packed_size(n.n(l - 1), n.n(l)));
            bias[l] = b.take(gemm::round_up(n.n(l)));
        }
        bordered = b.take(n.image() ? n.images(0).bordered_size() : 0);
        rows = b.take(n.image() ? n.rows * n.n(n.layers) : 0);
        const int64_t before = b.used;
        patches = b.take(n.image() ? BLOCK * n.n(0) : 0);
        for (auto& h : hidden) h = b.take(BLOCK * n.widest());
        per_thread = b.used - before;
        b.used += (n.threads - 1) * per_thread;
    }
};

struct Backward {
    float *packed[MOST + 1], *bordered, *g_bordered, *rows;
    float *patches, *g_patches, *hidden, *g[2], *g_w[MOST + 1], *g_b[MOST + 1];
    int64_t per_thread;

    Backward(const Perceptron& n, Buffer& b) {
        for (int l = 1; l <= n.layers; ++l) packed[l] = b.take(gemm::packed_size(n.n(l), n.n(l - 1)));
        bordered = b.take(n.image() ? n.images(0).bordered_size() : 0);
        g_bordered = b.take(n.image() ? n.images(n.layers).bordered_size() : 0);
        rows = b.take(n.image() ? n.rows * n.n(0) : 0);
        const int64_t before = b.used;
        patches = b.take(n.image() ? BLOCK * n.n(0) : 0);
        g_patches = b.take(n.image() ? BLOCK * n.n(n.layers) : 0);
        hidden = b.take(n.silu ? BLOCK * n.widest() : 0);
        for (auto& piece : g) piece = b.take(BLOCK * n.widest());
        for (int l = 1; l <= n.layers; ++l) {
            g_w[l] = b.take(n.n(l) * gemm::round_up(n.n(l - 1)) + n.n(l - 1) * gemm::round_up(n.n(l)));
            g_b[l] = b.take(n.n(l));
        }
        per_thread = b.used - before;
        b.used += (n.threads - 1) * per_thread;
    }
};

// B = W_l, or W_l^T, shared out among the threads
void pack(const Perceptron& n, int l, const float* w, bool transposed, float* packed) {
    const int64_t depth = transposed ? n.n(l - 1) : n.n(l), columns = transposed ? n.n(l) : n.n(l - 1);
    const int64_t vectors = gemm::round_up(columns) / gemm::LANES;
    int64_t count = 0;
    for (int64_t j = 0; j < vectors; j += gemm::panel_width(j, vectors), ++count) {
        if (count % team_size() != this_thread()) continue;
        gemm::pack_panel(j, depth, columns, transposed, [&](int64_t i) { return n.row(l, i, w); }, packed);
    }
}

void activate(bool silu, int64_t count, const float* from, float* to) {
    if (silu) for (int64_t i = 0; i < count; ++i) to[i] = from[i] * sigmoid(from[i]);
    else for (int64_t i = 0; i < count; ++i) to[i] = from[i] < 0 ? 0 : from[i];  // NaN stays
}

// g times act', from u with SiLU or h with ReLU
void through_activation(bool silu, int64_t count, const float* kept, float* g) {
    if (silu) {
        for (int64_t i = 0; i < count; ++i) {
            const float s = sigmoid(kept[i]);
            g[i] *= s * (1 + kept[i] * (1 - s));
        }
    } else {
        for (int64_t i = 0; i < count; ++i) g[i] = kept[i] > 0 ? g[i] : 0;
    }
}

void add_columns(int64_t m, int64_t n, const float* g, int64_t ld, float* sum) {
    for (int64_t i = 0; i < m; ++i, g += ld)
        for (int64_t j = 0; j < n; ++j) sum[j] += g[j];
}

void add_to(int64_t count, const float* from, int64_t apart, bool first, float* to) {
    if (first) for (int64_t i = 0; i < count; ++i) to[i] = from[i * apart];
    else for (int64_t i = 0; i < count; ++i) to[i] += from[i * apart];
}

}  // namespace

extern "C" {

// Numbers of scratch that the calls below need
int64_t perceptron_forward_scratch(const Perceptron* n) {
    Buffer b{nullptr};
    Forward{*n, b};
    return b.used;
}

int64_t perceptron_backward_scratch(const Perceptron* n) {
    Buffer b{nullptr};
    Backward{*n, b};
    return b.used;
}

// x: rows ldx apart; w[l - 1], b[l - 1]: of layer l; kept[l - 1]: what backward needs, or null;
// out: (rows, size) dense
void perceptron_forward(const Perceptron* network, float* scratch, const float* x, int64_t ldx,
                        const float* const* w, const float* const* b, float* const* kept, float* out) {
    const Perceptron& n = *network;
    Buffer buffer{scratch};
    const Forward work(n, buffer);
    const int last = n.layers;
#pragma omp parallel num_threads(n.useful_threads())
    {
        for (int l = 1; l <= last; ++l) {
            pack(n, l, w[l - 1], true, work.packed[l]);
            if (this_thread() == 0)
                for (int64_t i = 0; i < gemm::round_up(n.n(l)); ++i)
                    work.bias[l][i] = i < n.size[l] ? b[l - 1][i] : 0;
        }
        if (n.image()) {
            const Images images = n.images(0);
            const Share lines(images.batch * (images.height + 2));
            for (int64_t i = lines.first; i < lines.end; ++i) add_border(images, i, x, ldx, work.bordered);
        }
#pragma omp barrier
        const Share mine(n.rows, 6);
        const int64_t offset = this_thread() * work.per_thread;
        for (int64_t r = mine.first; r < mine.end; r += BLOCK) {
            const int64_t m = mine.end - r < BLOCK ? mine.end - r : BLOCK;
            const float* in = x + r * ldx;
            int64_t ld = ldx;
            if (n.image()) {
                patches(n.images(0), r, m, work.bordered, work.patches + offset);
                in = work.patches + offset;
                ld = n.n(0);
            }
            for (int l = 1; l <= last; ++l) {
                const int64_t size = n.n(l);
                float* hidden = work.hidden[l % 2] + offset;
                float* to = l == last ? (n.image() ? work.rows : out) + r * size
                          : kept[l - 1] ? kept[l - 1] + r * size : hidden;
                const bool biased = l < last || !n.image();  // else add_up does it
                multiply<A::by_rows>(m, n.n(l - 1), size, in, ld, work.packed[l], 0, to, size,
                                     {biased ? work.bias[l] : nullptr, false});
                if (l == last) break;
                in = n.silu ? hidden : to;
                ld = size;
                activate(n.silu, m * size, to, n.silu ? hidden : to);
            }
        }
        if (n.image()) {
#pragma omp barrier
            const Share pixels(n.rows);
            add_up(n.images(last), pixels.first, pixels.end - pixels.first, work.rows, b[last - 1],
                   false, out, n.size[last]);
        }
    }
}

// Adds the gradient of the input to g_x (rows ldgx apart; or null), and writes those of the weights
// and biases (null: not wanted), from that of the result, g (rows, size) dense
void perceptron_backward(const Perceptron* network, float* scratch, const float* x, int64_t ldx,
                         const float* const* w, const float* const* kept, const float* g,
                         float* g_x, int64_t ldgx, float* const* g_w, float* const* g_b) {
    const Perceptron& n = *network;
    Buffer buffer{scratch};
    const Backward work(n, buffer);
    const int last = n.layers;
    int lowest = g_x ? 1 : last + 1;  // the lowest layer through whose weights the gradient must go
    for (int l = last; l >= 1; --l)
        if (g_w[l - 1] || g_b[l - 1]) lowest = g_x ? 1 : l + 1;
    int team = 1;
#pragma omp parallel num_threads(n.useful_threads())
    {
        if (this_thread() == 0) team = team_size();
        for (int l = lowest; l <= last; ++l) pack(n, l, w[l - 1], false, work.packed[l]);
        if (n.image()) {
            const Images in = n.images(0), out = n.images(last);
            const Share lines(in.batch * (in.height + 2));
            for (int64_t i = lines.first; i < lines.end; ++i) {
                if (g_w[0]) add_border(in, i, x, ldx, work.bordered);
                add_border(out, i, g, out.channels, work.g_bordered);
            }
        }
        const int64_t offset = this_thread() * work.per_thread;
        for (int l = 1; l <= last; ++l) {
            if (g_w[l - 1]) std::memset(work.g_w[l] + offset, 0, sizeof(float) * n.n(l) * n.n(l - 1));
            if (g_b[l - 1]) std::memset(work.g_b[l] + offset, 0, sizeof(float) * n.size[l]);
        }
#pragma omp barrier
        const Share mine(n.rows, 6);
        for (int64_t r = mine.first; r < mine.end; r += BLOCK) {
            const int64_t m = mine.end - r < BLOCK ? mine.end - r : BLOCK;
            const float* from = g + r * n.size[last];
            if (n.image()) {
                patches(n.images(last), r, m, work.g_bordered, work.g_patches + offset);
                from = work.g_patches + offset;
            }
            for (int l = last; l >= 1; --l) {
                const int64_t size = n.n(l), below = n.n(l - 1);
                if (g_b[l - 1])  // of the contributions, those of a pixel to itself
                    add_columns(m, n.size[l], from + (n.image() && l == last ? 4 * n.size[l] : 0), size,
                                work.g_b[l] + offset);
                const float* k = l > 1 ? kept[l - 2] + r * below : nullptr;
                if (g_w[l - 1] && l == 1) {  // as (input, hidden): the hidden layer fills the vectors
                    const float* in = x + r * ldx;
                    if (n.image()) {
                        patches(n.images(0), r, m, work.bordered, work.patches + offset);
                        in = work.patches + offset;
                    }
                    multiply<A::by_columns>(below, m, size, in, n.image() ? below : ldx, from, size,
                                            work.g_w[1] + offset, size, {nullptr, true});
                } else if (g_w[l - 1]) {
                    const float* h = k;
                    if (n.silu) {
                        activate(true, m * below, k, work.hidden + offset);
                        h = work.hidden + offset;
                    }
                    multiply<A::by_columns>(size, m, below, from, size, h, below,
                                            work.g_w[l] + offset, below, {nullptr, true});
                }
                if (l < lowest) break;
                const bool to_input = l == 1 && !n.image();
                float* to = to_input ? g_x + r * ldgx
                          : l == 1 ? work.rows + r * below : work.g[l % 2] + offset;
                multiply<A::by_rows>(m, size, below, from, size, work.packed[l], 0, to,
                                     to_input ? ldgx : below, {nullptr, to_input});
                if (l == 1) break;
                through_activation(n.silu, m * below, k, to);
                from = to;
            }
        }
#pragma omp barrier
        if (g_x && n.image()) {
            const Share pixels(n.rows);
            add_up(n.images(0), pixels.first, pixels.end - pixels.first, work.rows, nullptr, true, g_x, ldgx);
        }
        for (int l = 1; l <= last; ++l) {
            const int64_t size = n.n(l), below = n.n(l - 1);
            if (g_w[l - 1]) {
                const Share some(size);
                for (int64_t i = some.first; i < some.end; ++i) {
                    float* to = g_w[l - 1] + (n.row(l, i, w[l - 1]) - w[l - 1]);
                    for (int t = 0; t < team; ++t) {
                        const float* part = work.g_w[l] + t * work.per_thread;
                        if (l == 1) add_to(below, part + i, size, t == 0, to);
                        else add_to(below, part + i * below, 1, t == 0, to);
                    }
                }
            }
            for (int t = 0; g_b[l - 1] && this_thread() == 0 && t < team; ++t)
                add_to(n.size[l], work.g_b[l] + t * work.per_thread, 1, t == 0, g_b[l - 1]);
        }
    }
}
}
