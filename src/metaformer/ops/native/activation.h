// Activations on vectors. The numbers of the kinds are those of ACTIVATION_KINDS in ops/native/library.py.
#pragma once

#include <type_traits>

#include "vector.h"

enum Activation { NO_ACTIVATION = 0, GELU = 1, RELU = 2, SILU = 3, SQUARED_RELU = 4 };

// erf(x) = x P(x^2) / Q(x^2) on [-4, 4], where erf is 1 in float beyond; a few units in the last place.
// Source: the rational approximation of Eigen's float erf.
static inline vec erf_vec(vec x) {
  x = minimum(maximum(x, splat(-4.0f)), splat(4.0f));
  const vec s = x * x;
  vec p = splat(-2.72614225801306e-10f);
  p = p * s + 2.77068142495902e-08f;
  p = p * s + -2.10102402082508e-06f;
  p = p * s + -5.69250639462346e-05f;
  p = p * s + -7.34990630326855e-04f;
  p = p * s + -2.95459980854025e-03f;
  p = p * s + -1.60960333262415e-02f;
  vec q = splat(-1.45660718464996e-05f);
  q = q * s + -2.13374055278905e-04f;
  q = q * s + -1.68282697438203e-03f;
  q = q * s + -7.37332916720468e-03f;
  q = q * s + -1.42647390514189e-02f;
  return x * p / q;
}

// exp(x) = 2^n exp(r), |r| <= ln(2)/2, by a polynomial; ends at the range of normal floats.
static inline vec exp_vec(vec x) {
  x = minimum(maximum(x, splat(-87.0f)), splat(88.0f));
  // Adding and taking away 1.5 * 2^23 rounds to a whole number.
  const vec rounder = splat(12582912.0f);
  const vec shifted = x * 1.44269504088896341f + rounder;
  const vec n = shifted - rounder;
  vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const ivec power = ((ivec)shifted << 23) + (127 << 23);
  return p * (vec)power;
}

template <int KIND>
static inline vec activate(vec x) {
  if constexpr (KIND == GELU) {
    const vec half = x * 0.5f;
    return half * erf_vec(x * 0.70710678118654752f) + half;
  } else if constexpr (KIND == RELU) {
    return x < 0.0f ? splat(0.0f) : x;
  } else if constexpr (KIND == SQUARED_RELU) {
    const vec y = x < 0.0f ? splat(0.0f) : x;
    return y * y;
  } else if constexpr (KIND == SILU) {
    return x / (1.0f + exp_vec(-x));
  } else {
    return x;
  }
}

struct ValueAndSlope {
  vec value, slope;
};

// The activation and its derivative, what they share computed once.
template <int KIND>
static inline ValueAndSlope activate_with_slope(vec x) {
  if constexpr (KIND == GELU) {
    const vec share = 0.5f + 0.5f * erf_vec(x * 0.70710678118654752f);
    return {x * share, share + x * 0.39894228040143268f * exp_vec(x * x * -0.5f)};
  } else if constexpr (KIND == RELU) {
    return {activate<RELU>(x), x > 0.0f ? splat(1.0f) : splat(0.0f)};
  } else if constexpr (KIND == SQUARED_RELU) {
    return {activate<SQUARED_RELU>(x), 2.0f * activate<RELU>(x)};
  } else if constexpr (KIND == SILU) {
    const vec share = 1.0f / (1.0f + exp_vec(-x));
    return {x * share, share * (1.0f + x * (1.0f - share))};
  } else {
    return {x, splat(1.0f)};
  }
}

// Calls `run(std::integral_constant<int, KIND>)` for a kind that is known at run time.
template <typename Run>
static inline void with_activation(int kind, Run&& run) {
  switch (kind) {
    case GELU: return run(std::integral_constant<int, GELU>{});
    case RELU: return run(std::integral_constant<int, RELU>{});
    case SILU: return run(std::integral_constant<int, SILU>{});
    case SQUARED_RELU: return run(std::integral_constant<int, SQUARED_RELU>{});
    default: return run(std::integral_constant<int, NO_ACTIVATION>{});
  }
}
