// What a perceptron is (see perceptron.cpp), where its scratch lies, and its weights made ready for
// products.

#pragma once

#include <cstdint>

#include "gemm.h"
#include "images.h"
#include "parallel.h"
#include "words.h"

namespace {

constexpr int64_t BLOCK = 96, MOST_ROWS = 192;  // in one go: their activations stay in the cache
constexpr int MOST = 8;                          // layers

struct Perceptron {
    int64_t rows, height, width;  // height = 0: vectors
    int32_t layers, silu, threads, half, signs, unused;
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
    // Of a hidden layer, in bytes
    template <class Word> int64_t kept_row(int l) const {
        return signs ? size[l] : spread<Word>(size[l]) * sizeof(Word);
    }
    // The widest rows that a thread has room for
    int64_t room() const { return MOST_ROWS * (widest() + gemm::LANES); }
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
    template <class Word> Word* take(int64_t n) {
        float* piece = base ? base + used : nullptr;
        used += gemm::round_up(n + gemm::LANES);
        return (Word*)piece;
    }
};

template <class Word> struct Forward {
    Word *matrix[MOST + 1], *packed[MOST + 1], *bordered, *in, *hidden[2];
    float *bias[MOST + 1], *edges, *ring, *sums;
    int64_t per_thread;

    Forward(const Perceptron& n, Buffer& b) {
        for (int l = 1; l <= n.layers; ++l) {
            matrix[l] = b.take<Word>(n.half ? n.n(l) * words<Word>(n.n(l - 1)) : 0);
            packed[l] = b.take<Word>(gemm::packed_size(words<Word>(n.n(l - 1)), n.n(l)));
            bias[l] = b.take<float>(gemm::round_up(n.n(l)));
        }
        bordered = b.take<Word>(n.image() ? n.images(0).bordered_size<Word>() : 0);
        const Images out = n.images(n.layers);
        edges = b.take<float>(n.image() ? Contributions::edges_size(out, n.threads) : 0);
        const int64_t before = b.used;
        ring = b.take<float>(n.image() ? Contributions::ring_size(out) : 0);
        in = b.take<Word>(n.image() || n.half ? MOST_ROWS * words<Word>(n.n(0)) : 0);
        for (auto& h : hidden) h = b.take<Word>(n.room());
        sums = b.take<float>(n.half ? n.room() : 0);
        per_thread = b.used - before;
        b.used += (n.threads - 1) * per_thread;
    }
};

template <class Word> struct Backward {
    Word *matrix[MOST + 1], *packed[MOST + 1], *bordered, *g_bordered;
    Word *in[2], *h[2], *g[2];  // operands: their rows and their pairs of rows
    float *edges, *ring, *hidden, *g_hidden[2], *g_w[MOST + 1], *g_b[MOST + 1];
    int64_t per_thread;

    Backward(const Perceptron& n, Buffer& b) {
        for (int l = 1; l <= n.layers; ++l) {
            matrix[l] = b.take<Word>(n.half ? n.n(l) * (words<Word>(n.n(l - 1)) + n.n(l - 1)) : 0);
            packed[l] = b.take<Word>(gemm::packed_size(words<Word>(n.n(l)), n.n(l - 1)));
        }
        bordered = b.take<Word>(n.image() ? n.images(0).bordered_size<Word>() : 0);
        g_bordered = b.take<Word>(n.image() ? n.images(n.layers).bordered_size<Word>() : 0);
        const Images input = n.images(0);
        edges = b.take<float>(n.image() ? Contributions::edges_size(input, n.threads) : 0);
        const int64_t before = b.used;
        ring = b.take<float>(n.image() ? Contributions::ring_size(input) : 0);
        const int64_t most = n.room();
        for (int i = 0; i < 2; ++i) {
            in[i] = b.take<Word>(n.image() || n.half ? most : 0);
            h[i] = b.take<Word>(n.half ? most : 0);
            g[i] = b.take<Word>(n.image() || n.half ? most : 0);
            g_hidden[i] = b.take<float>(most);
        }
        hidden = b.take<float>(n.silu ? most : 0);
        for (int l = 1; l <= n.layers; ++l) {
            g_w[l] = b.take<float>(n.n(l) * gemm::round_up(n.n(l - 1)) + n.n(l - 1) * gemm::round_up(n.n(l)));
            g_b[l] = b.take<float>(n.n(l));
        }
        per_thread = b.used - before;
        b.used += (n.threads - 1) * per_thread;
    }
};

// The rows of W_l in words, some of them by each thread; float32 stays where it is
void to_words(const Perceptron&, int, const float*, float*) {}
void to_words(const Perceptron& n, int l, const float* w, Pair* matrix) {
    const int64_t apart = words<Pair>(n.n(l - 1));
    const Share some(n.n(l));
    for (int64_t i = some.first; i < some.end; ++i) narrow(n.n(l - 1), n.row(l, i, w), matrix + i * apart);
}

// B = W_l, or W_l^T, shared out among the threads; the rows are in words
template <class Word, class Row>
void pack(int64_t depth, int64_t columns, bool transposed, Row row, Word* packed) {
    const int64_t vectors = gemm::round_up(columns) / gemm::LANES;
    int64_t count = 0;
    for (int64_t j = 0; j < vectors; j += gemm::panel_width(j, vectors), ++count)
        if (count % team_size() == this_thread()) gemm::pack_panel(j, depth, columns, transposed, row, packed);
}

void pack_transposed(const Perceptron& n, int l, const float* w, float*, float* packed) {
    pack(n.n(l - 1), n.n(l), true, [&](int64_t i) { return n.row(l, i, w); }, packed);
}
void pack_transposed(const Perceptron& n, int l, const float*, Pair* matrix, Pair* packed) {
    const int64_t apart = words<Pair>(n.n(l - 1));
    pack(apart, n.n(l), true, [&](int64_t i) { return (const Pair*)matrix + i * apart; }, packed);
}

void pack_plain(const Perceptron& n, int l, const float* w, float*, float* packed) {
    pack(n.n(l), n.n(l - 1), false, [&](int64_t i) { return n.row(l, i, w); }, packed);
}
void pack_plain(const Perceptron& n, int l, const float*, Pair* matrix, Pair* packed) {
    const int64_t below = n.n(l - 1);
    Pair* pairs = matrix + n.n(l) * words<Pair>(below);
    const Share some(n.n(l), 2);
    if (some.first < some.end)
        operand(some.end - some.first, below, matrix + some.first * words<Pair>(below), words<Pair>(below),
                pairs + some.first / 2 * below, below);
#pragma omp barrier
    pack(words<Pair>(n.n(l)), below, false, [&](int64_t i) { return (const Pair*)pairs + i * below; }, packed);
}

}  // namespace
