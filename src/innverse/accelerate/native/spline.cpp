// The rational-quadratic spline of Durkan et al. 2019, value and gradient in one pass over memory.
//
// x, z, l: (B, M); p: (B, 3 K - 1, M), both contiguous float32. The mathematics is that of
// bijections/elementwise.py and bijections/spline.py. Elements are taken LANES at a time, so that
// every inner loop is one vector instruction.

#include <cstdint>

#include "functions.h"

namespace {

constexpr int LANES = 16, MAX_BINS = 32;
using Lane = float[LANES];

#define EACH for (int i = 0; i < LANES; ++i)

struct Spline {
    int64_t batch, inner;
    int bins;
    float bound, min_bin, min_derivative, one;  // softplus(one) + min_derivative = 1
    float scale() const { return (1.0f - min_bin * bins) * 2.0f * bound; }
};

// LANES elements that may cross from one row of p to the next
struct Block {
    const Spline& s;
    int64_t first;
    int count;
    int64_t at[LANES];    // index of the element in x
    int64_t base[LANES];  // index of its first parameter

    Block(const Spline& s, int64_t first, int64_t total) : s(s), first(first) {
        count = total - first < LANES ? (int)(total - first) : LANES;
        const int64_t rows = 3 * s.bins - 1;
        int64_t b = first / s.inner, m = first % s.inner;
        EACH {
            at[i] = b * s.inner + m;
            base[i] = b * rows * s.inner + m;
            if (i + 1 < count && ++m == s.inner) { m = 0; ++b; }
        }
    }
    bool dense() const { return count == LANES && at[LANES - 1] - at[0] == LANES - 1
                                && base[LANES - 1] - base[0] == LANES - 1; }
    void load(const float* x, Lane& v) const { EACH v[i] = x[at[i]]; }
    void store(float* x, const Lane& v) const { for (int i = 0; i < count; ++i) x[at[i]] = v[i]; }
    void parameter(const float* p, int j, Lane& v) const {
        const float* q = p + j * s.inner;
        if (dense()) { EACH v[i] = q[base[0] + i]; }
        else { EACH v[i] = q[base[i]]; }
    }
    void set_parameter(float* p, int j, const Lane& v) const {
        float* q = p + j * s.inner;
        if (dense()) { EACH q[base[0] + i] = v[i]; }
        else { for (int i = 0; i < count; ++i) q[base[i]] = v[i]; }
    }
};

// softmax of bins parameters, starting with parameter j0
inline void fractions(const Block& k, const float* p, int j0, Lane* soft) {
    const int n = k.s.bins;
    Lane top, total;
    for (int j = 0; j < n; ++j) {
        k.parameter(p, j0 + j, soft[j]);
        if (j == 0) { EACH top[i] = soft[0][i]; }
        else { EACH top[i] = top[i] > soft[j][i] ? top[i] : soft[j][i]; }
    }
    EACH total[i] = 0;
    for (int j = 0; j < n; ++j) EACH { soft[j][i] = exp_(soft[j][i] - top[i]); total[i] += soft[j][i]; }
    EACH total[i] = 1.0f / total[i];
    for (int j = 0; j < n; ++j) EACH soft[j][i] *= total[i];
}

// The piece that holds each element: left edge, width, lower edge, height, knot derivatives
struct Piece {
    Lane soft_w[MAX_BINS], soft_h[MAX_BINS];
    Lane x0, w, y0, h, d0, d1, raw0, raw1;
    int32_t bin[LANES];

    void find(const Block& k, const float* p, const Lane& at, bool by_height) {
        const Spline& s = k.s;
        const int n = s.bins;
        const float scale = s.scale(), least = s.min_bin * 2.0f * s.bound;
        fractions(k, p, 0, soft_w);
        fractions(k, p, n, soft_h);
        Lane left, low, raw;
        EACH {
            left[i] = low[i] = x0[i] = y0[i] = -s.bound;
            w[i] = least + scale * soft_w[0][i];
            h[i] = least + scale * soft_h[0][i];
            raw0[i] = 0;
            bin[i] = 0;
        }
        k.parameter(p, 2 * n, raw1);
        for (int j = 1; j < n; ++j) {
            Lane next;
            if (j + 1 < n) k.parameter(p, 2 * n + j, next);
            else EACH next[i] = 0;
            k.parameter(p, 2 * n + j - 1, raw);
            EACH {
                left[i] += least + scale * soft_w[j - 1][i];
                low[i] += least + scale * soft_h[j - 1][i];
                const bool beyond = at[i] >= (by_height ? low[i] : left[i]);
                x0[i] = beyond ? left[i] : x0[i];
                y0[i] = beyond ? low[i] : y0[i];
                w[i] = beyond ? least + scale * soft_w[j][i] : w[i];
                h[i] = beyond ? least + scale * soft_h[j][i] : h[i];
                raw0[i] = beyond ? raw[i] : raw0[i];
                raw1[i] = beyond ? next[i] : raw1[i];
                bin[i] = beyond ? j : bin[i];
            }
        }
        EACH {  // the outermost knots have derivative 1
            raw0[i] += s.one;
            raw1[i] += s.one;
            d0[i] = bin[i] > 0 ? s.min_derivative + softplus(raw0[i]) : 1.0f;
            d1[i] = bin[i] < n - 1 ? s.min_derivative + softplus(raw1[i]) : 1.0f;
        }
    }
};

inline bool is_inside(float v, float bound) { return v > -bound && v < bound; }

void forward_block(const Block& k, const float* x, const float* p, float* z, float* l) {
    Lane in, v, out, log_d;
    k.load(x, in);
    EACH v[i] = is_inside(in[i], k.s.bound) ? in[i] : 0.0f;
    Piece q;
    q.find(k, p, v, false);
    EACH {
        const float s = q.h[i] / q.w[i], t = (v[i] - q.x0[i]) / q.w[i], u = t * (1 - t);
        const float below = s + (q.d0[i] + q.d1[i] - 2 * s) * u;
        const float value = q.y0[i] + q.h[i] * (s * t * t + q.d0[i] * u) / below;
        const float top = q.d1[i] * t * t + 2 * s * u + q.d0[i] * (1 - t) * (1 - t);
        const float ld = 2 * log_(s) + log_(top) - 2 * log_(below);
        const bool inside = is_inside(in[i], k.s.bound);
        out[i] = inside ? value : in[i];
        log_d[i] = inside ? ld : 0.0f;
    }
    k.store(z, out);
    k.store(l, log_d);
}

void inverse_block(const Block& k, const float* z, const float* p, float* x, float* l) {
    Lane in, v, out, log_d;
    k.load(z, in);
    EACH v[i] = is_inside(in[i], k.s.bound) ? in[i] : 0.0f;
    Piece q;
    q.find(k, p, v, true);
    EACH {
        const float s = q.h[i] / q.w[i], rise = v[i] - q.y0[i];
        const float mix = rise * (q.d0[i] + q.d1[i] - 2 * s);
        const float a = q.h[i] * (s - q.d0[i]) + mix, b = q.h[i] * q.d0[i] - mix, c = -s * rise;
        float square = b * b - 4 * a * c;
        square = square > 0 ? square : 0;
        float t = 2 * c / (-b - __builtin_sqrtf(square));  // the root that does not cancel
        t = t < 0 ? 0 : (t > 1 ? 1 : t);
        const float u = t * (1 - t), below = s + (q.d0[i] + q.d1[i] - 2 * s) * u;
        const float top = q.d1[i] * t * t + 2 * s * u + q.d0[i] * (1 - t) * (1 - t);
        const float ld = 2 * log_(below) - 2 * log_(s) - log_(top);
        const bool inside = is_inside(in[i], k.s.bound);
        out[i] = inside ? q.x0[i] + t * q.w[i] : in[i];
        log_d[i] = inside ? ld : 0.0f;
    }
    k.store(x, out);
    k.store(l, log_d);
}

// What the size of bin j gets: the gradient of the edge if it lies before the element's bin, that of
// the size if it is the bin. Values, not references: a load behind a condition stops vectorization.
inline float of_bin(int j, int bin, float edge, float size) {
    const float here = bin == j ? size : 0.0f;
    return bin > j ? edge : here;
}

// The gradient of widths (or heights) through the softmax
void store_fractions(const Block& k, float* g_p, int j0, const Lane* soft, const Piece& q,
                     const Lane& g_edge, const Lane& g_size) {
    const int n = k.s.bins;
    const float scale = k.s.scale();
    Lane mean, g;
    EACH mean[i] = 0;
    for (int j = 0; j < n; ++j) {
        EACH mean[i] += soft[j][i] * of_bin(j, q.bin[i], g_edge[i], g_size[i]);
    }
    for (int j = 0; j < n; ++j) {
        EACH {
            const float own = of_bin(j, q.bin[i], g_edge[i], g_size[i]);
            g[i] = scale * soft[j][i] * (own - mean[i]);
        }
        k.set_parameter(g_p, j0 + j, g);
    }
}

void backward_block(const Block& k, const float* x, const float* p, const float* g_z,
                    const float* g_l, float* g_x, float* g_p) {
    Lane in, v, gz, gl;
    k.load(x, in);
    k.load(g_z, gz);
    k.load(g_l, gl);
    EACH v[i] = is_inside(in[i], k.s.bound) ? in[i] : 0.0f;
    Piece q;
    q.find(k, p, v, false);
    Lane g_in, g_x0, g_w, g_y0, g_h, g_d0, g_d1;
    EACH {
        const bool inside = is_inside(in[i], k.s.bound);
        const float a = inside ? gz[i] : 0.0f, b = inside ? gl[i] : 0.0f;
        const float w = q.w[i], h = q.h[i], d0 = q.d0[i], d1 = q.d1[i];
        const float s = h / w, t = (v[i] - q.x0[i]) / w, u = t * (1 - t), m = d0 + d1 - 2 * s;
        const float below = s + m * u, over = 1.0f / below, rise = s * t * t + d0 * u;
        const float top = d1 * t * t + 2 * s * u + d0 * (1 - t) * (1 - t);
        const float g_rise = a * h * over, g_below = -(a * h * rise * over + 2 * b) * over;
        const float g_top = b / top;
        const float g_u = g_rise * d0 + g_below * m + 2 * g_top * s;
        const float g_t = 2 * g_rise * s * t + 2 * g_top * (d1 * t - d0 * (1 - t)) + g_u * (1 - 2 * t);
        const float g_s = 2 * b / s + g_rise * t * t + g_below * (1 - 2 * u) + 2 * g_top * u;
        g_d0[i] = (g_rise + g_below) * u + g_top * (1 - t) * (1 - t);
        g_d1[i] = g_below * u + g_top * t * t;
        g_in[i] = inside ? g_t / w : gz[i];
        g_x0[i] = -g_t / w;
        g_w[i] = -(g_t * t + g_s * s) / w;
        g_y0[i] = a;
        g_h[i] = a * rise * over + g_s / w;
    }
    k.store(g_x, g_in);
    store_fractions(k, g_p, 0, q.soft_w, q, g_x0, g_w);
    store_fractions(k, g_p, k.s.bins, q.soft_h, q, g_y0, g_h);
    EACH {
        g_d0[i] *= sigmoid(q.raw0[i]);
        g_d1[i] *= sigmoid(q.raw1[i]);
    }
    for (int j = 0; j < k.s.bins - 1; ++j) {  // parameter j belongs to the knot between j and j + 1
        Lane g;
        EACH {
            const float left = g_d0[i], right = g_d1[i];
            const float first = q.bin[i] == j ? right : 0.0f;
            g[i] = q.bin[i] == j + 1 ? left : first;
        }
        k.set_parameter(g_p, 2 * k.s.bins + j, g);
    }
}

template <class F>
void blocks(const Spline& s, int threads, F each) {
    const int64_t total = s.batch * s.inner, n = (total + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n >= 32)
    for (int64_t b = 0; b < n; ++b) each(Block(s, b * LANES, total));
}

}  // namespace

extern "C" {

void spline_forward(const Spline* s, int threads, const float* x, const float* p, float* z, float* l) {
    blocks(*s, threads, [=](const Block& k) { forward_block(k, x, p, z, l); });
}

void spline_inverse(const Spline* s, int threads, const float* z, const float* p, float* x, float* l) {
    blocks(*s, threads, [=](const Block& k) { inverse_block(k, z, p, x, l); });
}

void spline_backward(const Spline* s, int threads, const float* x, const float* p, const float* g_z,
                     const float* g_l, float* g_x, float* g_p) {
    blocks(*s, threads, [=](const Block& k) { backward_block(k, x, p, g_z, g_l, g_x, g_p); });
}
}
