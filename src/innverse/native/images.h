// 3x3 convolutions as products: patches of an image as rows, and rows of contributions added up.
//
// Images are (B, H, W, C) with C innermost. The nine neighbours of a pixel are numbered row by row,
// and the opposite of neighbour t is 8 - t.

#pragma once

#include <cstdint>
#include <cstring>

#include "gemm.h"
#include "words.h"

struct Images {
    int64_t batch, height, width, channels;

    int64_t pixels() const { return batch * height * width; }
    int64_t patch() const { return 9 * channels; }
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

// What the neighbours of a pixel contribute to it: sum over t of rows[neighbour 8 - t][t], plus
// `bias` (or nothing), written to, or added to, pixels that lie `ld` apart
inline void add_up(const Images& s, int64_t first, int64_t count, const float* rows,
                   const float* bias, bool add, float* to, int64_t ld) {
    const int64_t c_end = s.channels;
    int64_t x = first % s.width, y = first / s.width % s.height;
    for (int64_t p = first; p < first + count; ++p) {
        for (int64_t c0 = 0; c0 < c_end; c0 += gemm::LANES) {
            gemm::Vec sum{};
            for (int t = 0; t < 9; ++t) {
                const int64_t dy = 1 - t / 3, dx = 1 - t % 3;
                if (y + dy < 0 || y + dy >= s.height || x + dx < 0 || x + dx >= s.width) continue;
                sum += gemm::load(rows + (p + dy * s.width + dx) * s.patch() + t * s.channels + c0);
            }
            float part[gemm::LANES];
            gemm::store(part, sum);
            const int64_t n = c_end - c0 < gemm::LANES ? c_end - c0 : gemm::LANES;
            float* out = to + p * ld + c0;
            for (int64_t c = 0; c < n; ++c)
                out[c] = part[c] + (bias ? bias[c0 + c] : 0.0f) + (add ? out[c] : 0.0f);
        }
        if (++x == s.width) { x = 0; y = y + 1 == s.height ? 0 : y + 1; }
    }
}
