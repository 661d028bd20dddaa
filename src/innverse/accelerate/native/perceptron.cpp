// A perceptron on rows, value and gradient; every thread carries blocks of rows through all layers.
//
//     h_0 = the row,  u_l = W_l h_(l-1) + b_l,  h_l = act(u_l),  and u_L is the result
//
// Images: a 3x3 - 1x1 - ... - 3x3 convolution network is a perceptron from the neighbourhood of a
// pixel to contributions to the neighbourhoods of its result, which are then added up (images.h).
//
// What backward needs is kept by forward: h_l with ReLU, u_l with SiLU; rows of words, `spread` apart,
// with room for some more. If the weights need no gradient, ReLU's signs do: a byte for each number.
// Word is float, or Pair: the products take bfloat16, everything else float32.

#include <cstddef>
#include <type_traits>

#include "functions.h"
#include "network.h"

using gemm::A;
using gemm::multiply;

namespace {

// The rows of this thread, in blocks: each(row, count, c) for at most MOST_ROWS, whose contributions
// (images only) go to c
template <class Each>
void for_blocks(const Perceptron& n, const Contributions& lines, Each each) {
    if (!n.image()) {
        const Share mine(n.rows, 6);
        for (int64_t r = mine.first; r < mine.end; r += BLOCK)
            each(r, mine.end - r < BLOCK ? mine.end - r : BLOCK, nullptr);
        return;
    }
    const int64_t together = lines_together(n.width), patch = lines.s.patch();
    for (int64_t i = lines.lines.first; i < lines.lines.end; i += together) {
        const int64_t next = i + together < lines.lines.end ? i + together : lines.lines.end;
        const int64_t first = i * n.width, end = next * n.width;
        for (int64_t r = first; r < end; r += MOST_ROWS)
            each(r, end - r < MOST_ROWS ? end - r : MOST_ROWS, lines.line(i) + (r - first) * patch);
        lines.written(i, next);
    }
}

// act(u) of n numbers
template <class N> void activate(bool silu, int64_t n, const N* u, float* h) {
    if (silu) {
        for (int64_t i = 0; i < n; ++i) {
            const float v = u[i];
            h[i] = v * sigmoid(v);
        }
    } else {
        for (int64_t i = 0; i < n; ++i) {
            const float v = u[i];
            h[i] = v < 0 ? 0 : v;  // NaN stays
        }
    }
}

// g times act', from u with SiLU or h with ReLU
template <class N> void through_activation(bool silu, int64_t n, const N* kept, float* g) {
    if (silu) {
        for (int64_t i = 0; i < n; ++i) {
            const float u = kept[i], s = sigmoid(u);
            g[i] *= s * (1 + u * (1 - s));
        }
    } else {
        for (int64_t i = 0; i < n; ++i) g[i] = kept[i] > 0.0f ? g[i] : 0;
    }
}

void through_signs(int64_t n, const uint8_t* positive, float* g) {
    for (int64_t i = 0; i < n; ++i) g[i] = positive[i] ? g[i] : 0;
}

void add_columns(int64_t m, int64_t n, const float* g, int64_t apart, float* sum) {
    for (int64_t i = 0; i < m; ++i, g += apart)
        for (int64_t j = 0; j < n; ++j) sum[j] += g[j];
}

void add_to(int64_t count, const float* from, int64_t apart, bool first, float* to) {
    if (first) for (int64_t i = 0; i < count; ++i) to[i] = from[i * apart];
    else for (int64_t i = 0; i < count; ++i) to[i] += from[i * apart];
}

// The activations of a hidden layer in words from its sums u, which are kept or not: for float32 the
// sums already lie where they are kept, and the product has taken ReLU of them
template <class Word>
const Word* hidden_layer(const Perceptron& n, int64_t m, int64_t size, float* u, Word* kept,
                         uint8_t* signs, Word* hidden) {
    const int64_t from = spread<float>(size), apart = spread<Word>(size);
    for (int64_t i = 0; signs && i < m; ++i)
        for (int64_t j = 0; j < size; ++j) signs[i * size + j] = u[i * from + j] > 0;
    if constexpr (std::is_same_v<Word, float>) {
        if (!n.silu) return u;
        for (int64_t i = 0; i < m; ++i) activate(true, size, u + i * from, hidden + i * apart);
        return hidden;
    } else {
        for (int64_t i = 0; kept && n.silu && i < m; ++i) narrow(size, u + i * from, kept + i * apart);
        Word* to = kept && !n.silu ? kept : hidden;
        for (int64_t i = 0; i < m; ++i) {
            activate(n.silu, size, u + i * from, u + i * from);
            narrow(size, u + i * from, to + i * apart);
        }
        return to;
    }
}

template <class Word>
void forward(const Perceptron& n, float* scratch, const float* x, int64_t ldx, const float* const* w,
             const float* const* b, void* const* kept, float* out) {
    Buffer buffer{scratch};
    const Forward<Word> work(n, buffer);
    const int last = n.layers;
#pragma omp parallel num_threads(n.useful_threads())
    {
        for (int l = 1; l <= last; ++l) {
            to_words(n, l, w[l - 1], work.matrix[l]);
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
        for (int l = 1; l <= last; ++l) pack_transposed(n, l, w[l - 1], work.matrix[l], work.packed[l]);
#pragma omp barrier
        const int64_t offset = this_thread() * work.per_thread;
        const Share lines(n.image() ? n.batch() * n.height : 0);
        const Contributions contributions{n.images(last), lines, work.ring + offset, work.edges,
                                          b[last - 1], false, out, n.size[last]};
        for_blocks(n, contributions, [&](int64_t r, int64_t m, float* contributed) {
            const Word* in = work.in + offset;
            int64_t ld = words<Word>(n.n(0));
            if (n.image()) {
                patches(n.images(0), r, m, work.bordered, work.in + offset);
            } else if constexpr (std::is_same_v<Word, float>) {
                in = x + r * ldx;
                ld = ldx;
            } else {
                for (int64_t i = 0; i < m; ++i) narrow(n.n(0), x + (r + i) * ldx, work.in + offset + i * ld);
            }
            for (int l = 1; l <= last; ++l) {
                const int64_t size = n.n(l);
                Word* hidden = work.hidden[l % 2] + offset;
                void* row = nullptr;
                if (l < last && kept[l - 1]) row = (char*)kept[l - 1] + r * n.kept_row<Word>(l);
                Word* keep = n.signs ? nullptr : (Word*)row;
                float* to = l < last ? work.sums + offset : n.image() ? contributed : out + r * size;
                if constexpr (std::is_same_v<Word, float>)
                    if (l < last) to = keep ? keep : hidden;
                const bool biased = l < last || !n.image();  // else the contributions are, added up
                const bool relu = std::is_same_v<Word, float> && l < last && !n.silu;
                multiply<A::by_rows>(m, words<Word>(n.n(l - 1)), size, in, ld, work.packed[l], 0, to,
                                     l < last ? spread<float>(size) : size,
                                     {biased ? work.bias[l] : nullptr, false, relu});
                if (l == last) break;
                in = hidden_layer(n, m, size, to, keep, n.signs ? (uint8_t*)row : nullptr, hidden);
                ld = spread<Word>(size);
            }
        });
        if (n.image()) {
#pragma omp barrier
            contributions.exchange();
        }
    }
}

template <class Word>
void backward(const Perceptron& n, float* scratch, const float* x, int64_t ldx, const float* const* w,
              const void* const* kept, const float* g, float* g_x, int64_t ldgx, float* const* g_w,
              float* const* g_b) {
    Buffer buffer{scratch};
    const Backward<Word> work(n, buffer);
    const int last = n.layers;
    int lowest = g_x ? 1 : last + 1;  // the lowest layer through whose weights the gradient must go
    for (int l = last; l >= 1; --l)
        if (g_w[l - 1] || g_b[l - 1]) lowest = g_x ? 1 : l + 1;
    int team = 1;
#pragma omp parallel num_threads(n.useful_threads())
    {
        if (this_thread() == 0) team = team_size();
        for (int l = lowest; l <= last; ++l) to_words(n, l, w[l - 1], work.matrix[l]);
        if (n.image()) {
            const Images in = n.images(0), out = n.images(last);
            const Share lines(in.batch * (in.height + 2));
            for (int64_t i = lines.first; i < lines.end; ++i) {
                if (g_w[0]) add_border(in, i, x, ldx, work.bordered);
                add_border(out, i, g, out.channels, work.g_bordered);
            }
        }
        const int64_t offset = this_thread() * work.per_thread;
        for (int l = 1; l <= last; ++l)
            if (g_b[l - 1]) std::memset(work.g_b[l] + offset, 0, sizeof(float) * n.size[l]);
#pragma omp barrier
        for (int l = lowest; l <= last; ++l) pack_plain(n, l, w[l - 1], work.matrix[l], work.packed[l]);
#pragma omp barrier
        Word *const in[2] = {work.in[0] + offset, work.in[1] + offset};
        Word *const g_words[2] = {work.g[0] + offset, work.g[1] + offset};
        Word *const h_words[2] = {work.h[0] + offset, work.h[1] + offset};
        const Share lines(n.image() ? n.batch() * n.height : 0);
        const Contributions contributions{n.images(0), lines, work.ring + offset, work.edges, nullptr,
                                          true, g_x, ldgx};
        bool begun = false;  // this thread's gradients of weights, which the first block writes
        for_blocks(n, contributions, [&](int64_t r, int64_t m, float* contributed) {
            const int64_t pairs = words<Word>(m);
            const float* plain = g + r * n.size[last];
            int64_t plain_apart = n.size[last];
            Operand<Word> from;
            if (n.image()) {
                patches(n.images(last), r, m, work.g_bordered, g_words[0]);
                from = operand(m, n.n(last), g_words[0], words<Word>(n.n(last)), g_words[1], n.n(last));
            } else {
                from = operand(m, n.n(last), plain, n.n(last), g_words[0], g_words[1]);
            }
            for (int l = last; l >= 1; --l) {
                const int64_t size = n.n(l), below = n.n(l - 1);
                if (g_b[l - 1]) add_columns(m, n.size[l], plain, plain_apart, work.g_b[l] + offset);
                const int64_t apart = spread<Word>(below), plain_below = spread<float>(below);
                const void* row = l > 1 ? (const char*)kept[l - 2] + r * n.kept_row<Word>(l - 1) : nullptr;
                const Word* k = (const Word*)row;
                if (g_w[l - 1] && l == 1) {  // as (input, hidden): the hidden layer fills the vectors
                    Operand<Word> h;
                    if (n.image()) {
                        patches(n.images(0), r, m, work.bordered, in[0]);
                        h = operand(m, below, in[0], words<Word>(below), in[1], below);
                    } else {
                        h = operand(m, below, x + r * ldx, ldx, in[0], in[1]);
                    }
                    multiply<A::by_columns>(below, pairs, size, h.pairs, h.pairs_apart, from.pairs,
                                            from.pairs_apart, work.g_w[1] + offset, size, {nullptr, begun});
                } else if (g_w[l - 1]) {
                    Operand<Word> h;
                    if (n.silu) {
                        float* hidden = work.hidden + offset;
                        for (int64_t i = 0; i < m; ++i)
                            activate(true, below, numbers(k + i * apart), hidden + i * plain_below);
                        h = operand(m, below, hidden, plain_below, h_words[0], h_words[1]);
                    } else {
                        h = operand(m, below, k, apart, h_words[1], plain_below);
                    }
                    multiply<A::by_columns>(size, pairs, below, from.pairs, from.pairs_apart, h.pairs,
                                            h.pairs_apart, work.g_w[l] + offset, below, {nullptr, begun});
                }
                if (l < lowest) break;
                const bool to_input = l == 1 && !n.image();
                float* to = to_input ? g_x + r * ldgx
                          : l == 1 ? contributed : work.g_hidden[l % 2] + offset;
                multiply<A::by_rows>(m, words<Word>(size), below, from.rows, from.rows_apart, work.packed[l],
                                     0, to, to_input ? ldgx : l == 1 ? below : plain_below, {nullptr, to_input});
                if (l == 1) break;
                for (int64_t i = 0; i < m; ++i)
                    if (n.signs) through_signs(below, (const uint8_t*)row + i * below, to + i * plain_below);
                    else through_activation(n.silu, below, numbers(k + i * apart), to + i * plain_below);
                plain = to, plain_apart = plain_below;
                from = operand(m, below, plain, plain_apart, g_words[0], g_words[1]);
            }
            begun = true;
        });
        for (int l = 1; l <= last && !begun; ++l)
            if (g_w[l - 1]) std::memset(work.g_w[l] + offset, 0, sizeof(float) * n.n(l) * n.n(l - 1));
#pragma omp barrier
        if (g_x && n.image()) contributions.exchange();
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

// f<Pair> where that is compiled and asked for
#if defined(__AVX512BF16__)
#define IN_WORDS(half, ...) if (half) { using Word = Pair; __VA_ARGS__; } else { using Word = float; __VA_ARGS__; }
#else
#define IN_WORDS(half, ...) { using Word = float; __VA_ARGS__; }
#endif

}  // namespace

extern "C" {

// Whether `half` is served
int32_t perceptron_bfloat16() {
#if defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}

// Whether the processor has AMX, which PyTorch's own products use
int32_t perceptron_amx() {
#if defined(__AMX_BF16__)
    return 1;
#else
    return 0;
#endif
}

// Numbers of scratch that the calls below need
int64_t perceptron_forward_scratch(const Perceptron* n) {
    Buffer b{nullptr};
    IN_WORDS(n->half, Forward<Word>(*n, b))
    return b.used;
}

int64_t perceptron_backward_scratch(const Perceptron* n) {
    Buffer b{nullptr};
    IN_WORDS(n->half, Backward<Word>(*n, b))
    return b.used;
}

// Numbers in float32 that forward keeps of a hidden layer, and some that its last row may be read beyond
int64_t perceptron_kept(const Perceptron* n, int32_t layer) {
    int64_t bytes = 0;
    IN_WORDS(n->half, bytes = n->rows * n->kept_row<Word>(layer))
    return (bytes + 3) / 4 + gemm::LANES;
}

// x: rows ldx apart; w[l - 1], b[l - 1]: of layer l; kept[l - 1]: what backward needs, or null;
// out: (rows, size) dense
void perceptron_forward(const Perceptron* n, float* scratch, const float* x, int64_t ldx,
                        const float* const* w, const float* const* b, void* const* kept, float* out) {
    IN_WORDS(n->half, forward<Word>(*n, scratch, x, ldx, w, b, kept, out))
}

// Adds the gradient of the input to g_x (rows ldgx apart; or null), and writes those of the weights
// and biases (null: not wanted), from that of the result, g (rows, size) dense
void perceptron_backward(const Perceptron* n, float* scratch, const float* x, int64_t ldx,
                         const float* const* w, const void* const* kept, const float* g,
                         float* g_x, int64_t ldgx, float* const* g_w, float* const* g_b) {
    IN_WORDS(n->half, backward<Word>(*n, scratch, x, ldx, w, kept, g, g_x, ldgx, g_w, g_b))
}
}
