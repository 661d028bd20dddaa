// The affine map of a coupling, its inverse, and the gradients of both, each in one pass over memory.
//
//     z = x exp(s) + t,  s = u / sqrt(1 + (u / bound)^2),  on the mapped channels; the others stay
//
// x, z: rows of C channels; p: rows of the raw scales u and the shifts t of the mapped channels; an
// item has `positions` rows. The mathematics is that of bijections/elementwise.py.

#include <cmath>
#include <vector>

#include "functions.h"
#include "parallel.h"

namespace {

constexpr int64_t TOGETHER = 1024;  // numbers whose scales are computed in one go

struct Affine {
    int64_t items, positions, channels, mapped;
    int32_t mapped_first, threads;
    float bound, unused;

    int64_t rows() const { return items * positions; }
    int64_t map_at() const { return mapped_first ? 0 : channels - mapped; }
    int64_t keep_at() const { return mapped_first ? mapped : 0; }
    void keep(const float* from, float* to) const {
        const int64_t at = keep_at(), n = channels - mapped;
        for (int64_t i = at; i < at + n; ++i) to[i] = from[i];  // too short for memcpy to pay
    }
};

struct Scales {
    float s[TOGETHER], factor[TOGETHER], slope[TOGETHER];  // s, exp(+-s), ds/du

    void compute(int64_t count, float bound, float sign) {  // from u, which lies in s
        const float inverse = 1 / (bound * bound);
        for (int64_t i = 0; i < count; ++i) {
            const float r = 1 / std::sqrt(1 + s[i] * s[i] * inverse);
            s[i] *= r;
            slope[i] = r * r * r;
            factor[i] = exp_(sign * s[i]);
        }
    }
};

// each(row, item, c0, n, scales, i): the scales of channels c0 to c0 + n of the row start at i
template <int M, class Each>  // M: the number of mapped channels where the compiler may know it, or 0
void for_rows_of(const Affine& a, const float* p, float sign, Each each) {
    const int64_t m = M ? M : a.mapped, wide = m <= TOGETHER ? m : TOGETHER, together = TOGETHER / wide;
    const int threads = a.rows() * m < (1 << 12) ? 1 : a.threads;
#pragma omp parallel num_threads(threads)
    {
        const Share mine(a.rows());
        static thread_local Scales scales;
        for (int64_t first = mine.first; first < mine.end; first += together) {
            const int64_t end = first + together < mine.end ? first + together : mine.end;
            for (int64_t c0 = 0; c0 < m; c0 += wide) {  // more than TOGETHER channels: piece by piece
                const int64_t n = M ? M : m - c0 < wide ? m - c0 : wide;
                for (int64_t row = first; row < end; ++row)
                    for (int64_t i = 0; i < n; ++i) scales.s[(row - first) * n + i] = p[row * 2 * m + c0 + i];
                scales.compute((end - first) * n, a.bound, sign);
                int64_t item = first / a.positions, next = (item + 1) * a.positions;
                for (int64_t row = first; row < end; ++row) {
                    if (row == next) { ++item; next += a.positions; }
                    each(row, item, c0, n, scales, (row - first) * n);
                }
            }
        }
    }
}

// The first levels of an image flow have few channels and many rows: short loops of a known length
template <class Each>
void for_rows(const Affine& a, const float* p, float sign, Each each) {
    switch (a.mapped) {
        case 2: return for_rows_of<2>(a, p, sign, each);
        case 6: return for_rows_of<6>(a, p, sign, each);
        case 12: return for_rows_of<12>(a, p, sign, each);
        case 24: return for_rows_of<24>(a, p, sign, each);
        default: return for_rows_of<0>(a, p, sign, each);
    }
}

// Log-determinants: sums of s over the rows of each item, which threads may share
struct Sums {
    const Affine& a;
    std::vector<float> parts;
    explicit Sums(const Affine& a) : a(a), parts(a.items * a.threads) {}
    void add(int64_t item, const float* s, int64_t n) {
        float sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += s[i];
        parts[this_thread() * a.items + item] += sum;
    }
    void store(float sign, float* logdet) const {
        for (int64_t b = 0; b < a.items; ++b) {
            float sum = 0;
            for (int64_t t = 0; t < a.threads; ++t) sum += parts[t * a.items + b];
            logdet[b] = sign * sum;
        }
    }
};

}  // namespace

extern "C" {

void affine_forward(const Affine* settings, const float* x, const float* p, float* z, float* logdet) {
    const Affine& a = *settings;
    Sums sums(a);
    for_rows(a, p, 1, [&](int64_t row, int64_t item, int64_t c0, int64_t n, const Scales& v, int64_t at) {
        const float *from = x + row * a.channels, *t = p + (2 * row + 1) * a.mapped + c0;
        float* to = z + row * a.channels;
        if (c0 == 0) a.keep(from, to);
        from += a.map_at() + c0;
        to += a.map_at() + c0;
        for (int64_t i = 0; i < n; ++i) to[i] = from[i] * v.factor[at + i] + t[i];
        sums.add(item, v.s + at, n);
    });
    sums.store(1, logdet);
}

void affine_inverse(const Affine* settings, const float* z, const float* p, float* x, float* logdet) {
    const Affine& a = *settings;
    Sums sums(a);
    for_rows(a, p, -1, [&](int64_t row, int64_t item, int64_t c0, int64_t n, const Scales& v, int64_t at) {
        const float *from = z + row * a.channels, *t = p + (2 * row + 1) * a.mapped + c0;
        float* to = x + row * a.channels;
        if (c0 == 0) a.keep(from, to);
        from += a.map_at() + c0;
        to += a.map_at() + c0;
        for (int64_t i = 0; i < n; ++i) to[i] = (from[i] - t[i]) * v.factor[at + i];
        sums.add(item, v.s + at, n);
    });
    sums.store(-1, logdet);
}

// g_z and g_l (items) to g_x and g_p
void affine_backward(const Affine* settings, const float* x, const float* p, const float* g_z,
                     const float* g_l, float* g_x, float* g_p) {
    const Affine& a = *settings;
    for_rows(a, p, 1, [&](int64_t row, int64_t item, int64_t c0, int64_t n, const Scales& v, int64_t at) {
        const float *g = g_z + row * a.channels, *from = x + row * a.channels + a.map_at() + c0;
        float *to = g_x + row * a.channels, *g_u = g_p + 2 * row * a.mapped + c0, *g_t = g_u + a.mapped;
        if (c0 == 0) a.keep(g, to);
        g += a.map_at() + c0;
        to += a.map_at() + c0;
        const float l = g_l[item];
        for (int64_t i = 0; i < n; ++i) {
            to[i] = g[i] * v.factor[at + i];
            g_t[i] = g[i];
            g_u[i] = (to[i] * from[i] + l) * v.slope[at + i];
        }
    });
}

// g_x and g_l to g_z and g_p; x is the result of the inverse
void affine_inverse_backward(const Affine* settings, const float* x, const float* p, const float* g_x,
                             const float* g_l, float* g_z, float* g_p) {
    const Affine& a = *settings;
    for_rows(a, p, -1, [&](int64_t row, int64_t item, int64_t c0, int64_t n, const Scales& v, int64_t at) {
        const float *g = g_x + row * a.channels, *from = x + row * a.channels + a.map_at() + c0;
        float *to = g_z + row * a.channels, *g_u = g_p + 2 * row * a.mapped + c0, *g_t = g_u + a.mapped;
        if (c0 == 0) a.keep(g, to);
        g += a.map_at() + c0;
        to += a.map_at() + c0;
        const float l = g_l[item];
        for (int64_t i = 0; i < n; ++i) {
            to[i] = g[i] * v.factor[at + i];
            g_t[i] = -to[i];
            g_u[i] = -(g[i] * from[i] + l) * v.slope[at + i];
        }
    });
}
}
