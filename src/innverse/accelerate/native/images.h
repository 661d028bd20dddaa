// 3x3 convolutions as products: patches of an image as rows, and rows of contributions added up.
//
// Images are (B, H, W, C) with C innermost. The nine neighbours of a pixel are numbered row by row,
// and the opposite of neighbour t is 8 - t.

#pragma once

#include <cstdint>
#include <cstring>

#include "gemm.h"
#include "parallel.h"
#include "words.h"

struct Images {
    int64_t batch, height, width, channels;

    int64_t patch() const { return 9 * channels; }
    int64_t line_size() const { return width * patch(); }
    template <class Word> int64_t bordered_size() const {
        return words<Word>(batch * (height + 2) * (width + 2) * channels) + gemm::LANES;
    }
};

// Line `line` of all lines of all images, with a border of zeros, from pixels that lie `ld` apart
template <class Word>
void add_border(const Images& s, int64_t line, const float* from, int64_t ld, Word* bordered) {
    const int64_t y = line % (s.height + 2), image = line / (s.height + 2);
    auto to = (Number<Word>*)bordered + line * (s.width + 2) * s.channels;
    std::memset(to, 0, sizeof *to * (s.width + 2) * s.channels);
    if (y == 0 || y == s.height + 1) return;
    from += (image * s.height + y - 1) * s.width * ld;
    for (int64_t x = 0; x < s.width; ++x) {
        to += s.channels;
        for (int64_t c = 0; c < s.channels; ++c) to[c] = from[x * ld + c];
    }
}

// Rows of 9 C numbers, the neighbourhoods of `count` pixels from `first` on; writes LANES words more
template <class Word>
void patches(const Images& s, int64_t first, int64_t count, const Word* bordered, Word* rows) {
    using N = Number<Word>;
    constexpr int64_t AT_ONCE = gemm::LANES * sizeof(Word) / sizeof(N);
    const int64_t line = (s.width + 2) * s.channels, segment = 3 * s.channels;
    const int64_t apart = words<Word>(s.patch()) * sizeof(Word) / sizeof(N);
    int64_t x = first % s.width, y = first / s.width % s.height, image = first / s.width / s.height;
    auto to = (N*)rows;
    for (int64_t i = 0; i < count; ++i, to += apart) {
        auto from = (const N*)bordered + ((image * (s.height + 2) + y) * (s.width + 2) + x) * s.channels;
        for (int k = 0; k < 3; ++k, from += line)
            for (int64_t j = 0; j < segment; j += AT_ONCE)
                gemm::store(to + k * segment + j, gemm::load(from + j));
        if (apart > s.patch()) to[s.patch()] = 0.0f;
        if (++x == s.width) {
            x = 0;
            if (++y == s.height) { y = 0; ++image; }
        }
    }
}

// The pixels of one line of the result: sum over t of what the pixel's neighbour 8 - t contributes as
// its t. The lines above, of and below the pixels may be null; `bias` too.
inline void add_up(const Images& s, const float* above, const float* same, const float* below,
                   const float* bias, bool add, float* to, int64_t ld) {
    const float* lines[3] = {below, same, above};
    for (int64_t x = 0; x < s.width; ++x, to += ld) {
        const int last = x == 0 ? 1 : 2;  // neighbours t % 3 = 0, 1, 2 lie at x + 1, x, x - 1
        for (int64_t c0 = 0; c0 < s.channels; c0 += gemm::LANES) {
            gemm::Vec sum{};
            for (int k = 0; k < 3; ++k) {
                if (!lines[k]) continue;
                const float* from = lines[k] + x * s.patch() + 3 * k * s.channels + c0;
                if (x + 1 < s.width) sum += gemm::load(from + s.patch());
                sum += gemm::load(from + s.channels);
                if (last == 2) sum += gemm::load(from - s.patch() + 2 * s.channels);
            }
            float part[gemm::LANES];
            gemm::store(part, sum);
            const int64_t n = s.channels - c0 < gemm::LANES ? s.channels - c0 : gemm::LANES;
            for (int64_t c = 0; c < n; ++c)
                to[c0 + c] = part[c] + (bias ? bias[c0 + c] : 0.0f) + (add ? to[c0 + c] : 0.0f);
        }
    }
}

// How many lines are computed in one go: about 96 pixels, in whole tiles if that is easy
inline int64_t lines_together(int64_t width) {
    const int64_t n = width > 96 ? 1 : 96 / width;
    return n * width % 6 && 3 * n * width <= 192 ? 3 * n : n;
}

// A thread's lines of contributions (numbered through all images), of which only those that are still
// to be added up are stored, and what they are added up to (null: nothing). Where two threads share an image, each
// needs one line of the other's.
struct Contributions {
    Images s;
    Share lines;
    float *ring, *edges;  // edges: the first and last line of every thread
    const float* bias;
    bool add;
    float* to;
    int64_t ld;

    static int64_t kept(int64_t together) { return together == 1 ? 4 : 2 * together; }
    static int64_t ring_size(const Images& s) { return kept(lines_together(s.width)) * s.line_size(); }
    static int64_t edges_size(const Images& s, int threads) { return 2 * threads * s.line_size(); }

    float* line(int64_t i) const {
        return ring + (i - lines.first) % kept(lines_together(s.width)) * s.line_size();
    }
    // Lines from `begin` to `end` have been written: adds up all those that now can be
    void written(int64_t begin, int64_t end) const {
        if (!to) return;
        const size_t bytes = sizeof(float) * s.line_size();
        if (begin == lines.first) std::memcpy(edge(this_thread(), 0), line(begin), bytes);
        if (end == lines.end) std::memcpy(edge(this_thread(), 1), line(end - 1), bytes);
        for (int64_t i = begin > lines.first ? begin - 1 : begin; i < (end < lines.end ? end - 1 : end); ++i)
            add_up(s, i > lines.first && !at_top(i) ? line(i - 1) : nullptr, line(i),
                   i + 1 < lines.end && !at_top(i + 1) ? line(i + 1) : nullptr, bias, add, result(i), ld);
    }
    // What the lines of other threads contribute, when these are done
    void exchange() const {
        if (lines.first == lines.end) return;
        if (!at_top(lines.first))
            add_up(s, edge(this_thread() - 1, 1), nullptr, nullptr, nullptr, true, result(lines.first), ld);
        if (!at_top(lines.end))
            add_up(s, nullptr, nullptr, edge(this_thread() + 1, 0), nullptr, true, result(lines.end - 1), ld);
    }

  private:
    bool at_top(int64_t i) const { return i % s.height == 0; }
    float* edge(int thread, int which) const { return edges + (2 * thread + which) * s.line_size(); }
    float* result(int64_t i) const { return to + i * s.width * ld; }
};
