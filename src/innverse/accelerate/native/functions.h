// exp, log and what is made of them, to about one unit in the last place, as in Cephes, but without
// branches, so that a loop over them becomes vector instructions.

#pragma once

#include <cstdint>
#include <cstring>

inline float bits_to_float(int32_t b) { float f; std::memcpy(&f, &b, 4); return f; }
inline int32_t float_to_bits(float f) { int32_t b; std::memcpy(&b, &f, 4); return b; }

inline float exp_(float v) {
    v = v < -87.0f ? -87.0f : (v > 88.0f ? 88.0f : v);
    float n = v * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
    n -= 12582912.0f;
    float r = v - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return y * bits_to_float(((int32_t)n + 127) << 23);
}

inline float log_(float v) {  // of normal positive numbers
    int32_t b = float_to_bits(v);
    int32_t e = ((b - 0x3f3504f3) >> 23);  // so that the fraction is in [sqrt(1/2), sqrt(2))
    float n = (float)e;
    float f = bits_to_float(b - (e << 23)) - 1.0f;
    float s = f * f;
    float y = 7.0376836292e-2f;
    y = y * f - 1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f - 1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f - 1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f - 2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * f * s - n * 2.12194440e-4f - 0.5f * s;
    return f + y + n * 0.693359375f;
}

inline float softplus(float v) {
    float e = exp_(v < 0 ? v : -v);
    float l = e < 1e-3f ? e - 0.5f * e * e : log_(1.0f + e);
    return (v > 0 ? v : 0.0f) + l;
}

inline float sigmoid(float v) {
    float e = exp_(v < 0 ? v : -v);
    float s = 1.0f / (1.0f + e);
    return v < 0 ? e * s : s;
}

