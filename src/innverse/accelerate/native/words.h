// Matrices as products take them (gemm.h), in float32 and in bfloat16.
//
// In bfloat16 a number shares its word with its neighbour along the sum: with the next column where
// columns are summed over, with the next row where rows are. Odd sizes end with a zero.

#pragma once

#include <cstdint>
#include <cstring>

#include "gemm.h"

using gemm::Pair;

struct BFloat16 {
    uint16_t bits;
    BFloat16() = default;
    BFloat16(float f) {  // to the nearest, ties to even
        uint32_t all;
        std::memcpy(&all, &f, sizeof all);
        const uint32_t rounded = all + 0x7fff + (all >> 16 & 1);
        bits = (uint16_t)((f != f ? all | 0x400000 : rounded) >> 16);
    }
    operator float() const {
        const uint32_t all = (uint32_t)bits << 16;
        float f;
        std::memcpy(&f, &all, sizeof f);
        return f;
    }
};

template <class Word> struct Type;
template <> struct Type<float> { using Number = float; };
template <> struct Type<Pair> { using Number = BFloat16; };
template <class Word> using Number = typename Type<Word>::Number;

template <class Word> const Number<Word>* numbers(const Word* words) { return (const Number<Word>*)words; }

// How many hold a row of n numbers
template <class Word> constexpr int64_t words(int64_t n) {
    return sizeof(Number<Word>) == sizeof(Word) ? n : (n + 1) / 2;
}

// Words from the beginning of a row of n numbers to that of the next, in a block of rows of which
// products read columns: at a distance of half kilobytes such words would all fall into a few sets of
// the cache
template <class Word> constexpr int64_t spread(int64_t n) {
    return words<Word>(n) % 128 ? words<Word>(n) : words<Word>(n) + gemm::LANES;
}

// n numbers to words(n)
template <class Word> void narrow(int64_t n, const float* from, Word* words) {
    auto to = (Number<Word>*)words;
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
    if (sizeof *to < sizeof(Word) && n % 2) to[n] = 0.0f;
}

// Where a product finds a matrix whose columns are summed over, and where one whose rows are; `apart`
// words from row to row, or from pair to pair
template <class Word> struct Operand {
    const Word* rows;
    int64_t rows_apart;
    const Word* pairs;
    int64_t pairs_apart;
};

// From m rows of n numbers in words, `apart` from each other, with room for (m + 1) / 2 pairs of rows
inline Operand<float> operand(int64_t, int64_t, const float* rows, int64_t apart, float*, int64_t) {
    return {rows, apart, rows, apart};
}
inline Operand<Pair> operand(int64_t m, int64_t n, const Pair* rows, int64_t apart, Pair* pairs, int64_t pairs_apart) {
    typedef uint32_t Both __attribute__((may_alias));
    for (int64_t i = 0; i < m; i += 2) {
        const auto *even = (const BFloat16*)(rows + i * apart), *odd = even + 2 * apart;
        auto both = (Both*)(pairs + i / 2 * pairs_apart);
        if (i + 1 < m) for (int64_t j = 0; j < n; ++j) both[j] = even[j].bits | (uint32_t)odd[j].bits << 16;
        else for (int64_t j = 0; j < n; ++j) both[j] = even[j].bits;
    }
    return {rows, apart, pairs, pairs_apart};
}

// From m rows of n numbers in float32, with room for them in words and for their pairs
inline Operand<float> operand(int64_t, int64_t, const float* from, int64_t apart, float*, float*) {
    return {from, apart, from, apart};
}
inline Operand<Pair> operand(int64_t m, int64_t n, const float* from, int64_t apart, Pair* rows, Pair* pairs) {
    for (int64_t i = 0; i < m; ++i) narrow(n, from + i * apart, rows + i * spread<Pair>(n));
    return operand(m, n, rows, spread<Pair>(n), pairs, spread<float>(n));
}
