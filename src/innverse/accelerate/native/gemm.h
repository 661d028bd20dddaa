// Products of small matrices by one thread, C = A B + bias, C in float32.
//
// The kernels that include this give every thread a block of rows that stays in its cache, so only
// one level of blocking is left: a tile of C in registers. It reaches the processor's peak, and no
// size has to divide by anything; but B is read up to the next multiple of LANES in every row.
//
// A and B hold words: numbers in float32, or pairs in bfloat16 (words.h) of which one product
// sums both. So the depth of a product in bfloat16 is counted in pairs.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace gemm {

#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32, WIDEST = 4;
#else
constexpr int LANES = 8, REGISTERS = 16, WIDEST = 2;
#endif
constexpr int AHEAD = 4;
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// Two bfloat16 numbers that follow each other along the sum of a product
struct Pair {
    uint16_t even, odd;
};

template <class Word> inline Vec load(const Word* p) { return *(const Unaligned*)p; }
template <class Word> inline void store(Word* p, Vec v) { *(Unaligned*)p = v; }
inline int64_t round_up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

inline void add_product(Vec& sum, float a, Vec b) { sum += a * b; }
#if defined(__AVX512BF16__)
inline void add_product(Vec& sum, Pair a, Vec b) {
    int32_t both;
    std::memcpy(&both, &a, sizeof both);
    sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)b, (__m512bh)_mm512_set1_epi32(both));
}
#endif

enum class A { by_rows, by_columns };  // the layout of A: a[i lda + k] or a[k lda + i]

// How C begins: at a row of biases, at zero (bias = null), or at what it holds; and whether max(., 0) of
// the sum is stored
struct Start {
    const float* bias = nullptr;
    bool add = false, relu = false;
};

// M rows and NV vectors of C, of which `columns` numbers are stored
template <int M, int NV, A layout, class Word>
inline __attribute__((always_inline)) void tile(int64_t depth, const Word* a, int64_t lda,
                                                const Word* b, int64_t ldb, float* c, int64_t ldc,
                                                int columns, Start start) {
    Vec sum[M][NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
        const Vec first = start.bias ? load(start.bias + j * LANES) : Vec{};
#pragma GCC unroll 32
        for (int i = 0; i < M; ++i) sum[i][j] = first;
    }
    // a pointer for every third row, since x86 reaches two more by its scaled index
    constexpr int POINTERS = (M + 2) / 3;
    const Word* row[POINTERS];
    for (int i = 0; i < POINTERS; ++i) row[i] = a + (layout == A::by_rows ? 3 * i * lda : 3 * i);
    for (int64_t k = 0; k < depth; ++k, b += ldb) {
        Vec v[NV];
#pragma GCC unroll 8
        for (int j = 0; j < NV; ++j) v[j] = load(b + j * LANES);
#pragma GCC unroll 32
        for (int i = 0; i < M; ++i) {
            const Word s = layout == A::by_rows ? row[i / 3][i % 3 * lda] : a[i];
#pragma GCC unroll 8
            for (int j = 0; j < NV; ++j) add_product(sum[i][j], s, v[j]);
        }
        if (layout == A::by_columns) a += lda;
#pragma GCC unroll 16
        for (int i = 0; i < POINTERS; ++i) ++row[i];
    }
    if (start.relu) {
#pragma GCC unroll 32
        for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
            for (int j = 0; j < NV; ++j) sum[i][j] = sum[i][j] < 0 ? Vec{} : sum[i][j];  // NaN stays
    }
#pragma GCC unroll 32
    for (int i = 0; i < M; ++i) {
        float* to = c + i * ldc;
        if (columns == NV * LANES) {
#pragma GCC unroll 8
            for (int j = 0; j < NV; ++j)
                store(to + j * LANES, start.add ? load(to + j * LANES) + sum[i][j] : sum[i][j]);
        } else {
            float part[NV * LANES];
            std::memcpy(part, sum[i], sizeof part);
            for (int j = 0; j < columns; ++j) to[j] = start.add ? to[j] + part[j] : part[j];
        }
    }
}

template <int NV, A layout, class Word>
void panel(int64_t m, int64_t depth, const Word* a, int64_t lda, const Word* b, int64_t ldb,
           float* c, int64_t ldc, int columns, Start start) {
    constexpr int M = (REGISTERS - NV - 2) / NV / 3 * 3;  // the registers hold the tile and a row of B
    const int64_t step = layout == A::by_rows ? lda : 1;
    int64_t i = 0;
    for (; i + M <= m; i += M)
        tile<M, NV, layout>(depth, a + i * step, lda, b, ldb, c + i * ldc, ldc, columns, start);
    for (; i < m; ++i)
        tile<1, NV, layout>(depth, a + i * step, lda, b, ldb, c + i * ldc, ldc, columns, start);
}

// Columns are taken in panels of at most WIDEST vectors, of about one width. The one that starts
// at vector j of n:
inline int panel_width(int64_t j, int64_t n) {
    const int64_t left = n - j;
    return left >= 2 * WIDEST ? WIDEST : left > WIDEST ? (int)(left + 1) / 2 : (int)left;
}

// C (m, n) from A (m, depth) and B (depth, n). With ldb = 0, B was packed by `pack_panel`.
template <A layout, class Word>
void multiply(int64_t m, int64_t depth, int64_t n, const Word* a, int64_t lda, const Word* b,
              int64_t ldb, float* c, int64_t ldc, Start start = {}) {
    const int64_t vectors = round_up(n) / LANES;
    for (int64_t j = 0; j < vectors;) {
        const int width = panel_width(j, vectors);
        const int64_t first = j * LANES, end = first + width * LANES;
        const int columns = (int)((end < n ? end : n) - first);
        const Word* from = ldb ? b + first : b + first * depth;
        const int64_t ld = ldb ? ldb : width * LANES;
        const Start here{start.bias ? start.bias + first : nullptr, start.add, start.relu};
        switch (width) {
            case 1: panel<1, layout>(m, depth, a, lda, from, ld, c + first, ldc, columns, here); break;
            case 2: panel<2, layout>(m, depth, a, lda, from, ld, c + first, ldc, columns, here); break;
#if defined(__AVX512F__)
            case 3: panel<3, layout>(m, depth, a, lda, from, ld, c + first, ldc, columns, here); break;
            case 4: panel<4, layout>(m, depth, a, lda, from, ld, c + first, ldc, columns, here); break;
#endif
        }
        j += width;
    }
}

// Words that `pack_panel` writes for all panels
inline int64_t packed_size(int64_t depth, int64_t n) { return depth * round_up(n); }

// to[k ldt + i] = rows[i][k] for LANES rows and as many k: interleaving the halves of a list as often
// as its length doubles from 1 transposes it
template <class Word>
void transpose(const Word* const* rows, Word* to, int64_t ldt) {
    typedef int32_t Index __attribute__((vector_size(4 * LANES)));
    Index low, high;
    for (int i = 0; i < LANES; ++i) {
        low[i] = i / 2 + i % 2 * LANES;
        high[i] = low[i] + LANES / 2;
    }
    Vec a[LANES], b[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) a[i] = load(rows[i]);
#pragma GCC unroll 4
    for (int n = 1; n < LANES; n *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES / 2; ++i) {
            b[2 * i] = __builtin_shuffle(a[i], a[i + LANES / 2], low);
            b[2 * i + 1] = __builtin_shuffle(a[i], a[i + LANES / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) a[i] = b[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) store(to + i * ldt, a[i]);
}

// The panel of B that starts at vector j, filled up with zeros: B[k, i] = row(k)[i], or with
// `transposed` row(i)[k].
template <class Row, class Word>
void pack_panel(int64_t j, int64_t depth, int64_t n, bool transposed, Row row, Word* packed) {
    const int width = panel_width(j, round_up(n) / LANES) * LANES;
    const int64_t first = j * LANES;
    const int columns = (int)(n - first < width ? n - first : width);
    Word* to = packed + first * depth;
    const Word* rows[WIDEST * LANES];
    for (int i = 0; transposed && i < columns; ++i) rows[i] = row(first + i);
    int64_t k = 0;
    if (transposed && columns == width)
        for (; k + LANES <= depth; k += LANES, to += LANES * width)
            for (int i = 0; i < width; i += LANES) {
                for (int r = i; r < i + LANES; ++r) __builtin_prefetch(rows[r] + AHEAD * LANES);
                transpose(rows + i, to + i, width);
                for (int r = i; r < i + LANES; ++r) rows[r] += LANES;
            }
    const int64_t done = k;
    for (; k < depth; ++k, to += width) {
        if (transposed) for (int i = 0; i < columns; ++i) to[i] = rows[i][k - done];
        else {
            if (k + 2 * AHEAD < depth)
                for (int i = 0; i < columns; i += LANES) __builtin_prefetch(row(k + 2 * AHEAD) + first + i);
            std::memcpy(to, row(k) + first, sizeof(Word) * columns);
        }
        for (int i = columns; i < width; ++i) to[i] = {};
    }
}

}  // namespace gemm
