// Vectors of floats by the compiler's own extension: the same source for AVX2, AVX-512, NEON and plain SSE.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_ROWS = 12, TILE_VECTORS = 2;
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_ROWS = 6, TILE_VECTORS = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE_ROWS = 8, TILE_VECTORS = 3;
#else
constexpr int LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 2;
#endif
// Columns of a tile of the matrix product. Rows times vectors is what the registers hold, with room for the operands.
constexpr int TILE_COLUMNS = LANES * TILE_VECTORS;

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

static inline vec load(const float* p) {
  vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

static inline void store(float* p, vec v) { std::memcpy(p, &v, sizeof v); }

// Taking zero away changes no number, and compilers make one broadcast of it; of a loop over the lanes they do not.
static inline vec splat(float s) { return s - vec{}; }

static inline vec minimum(vec a, vec b) { return a < b ? a : b; }
static inline vec maximum(vec a, vec b) { return a > b ? a : b; }

static inline float total(vec v) {
  float sum = 0;
  for (int i = 0; i < LANES; ++i) sum += v[i];
  return sum;
}

// bfloat16 as its bits: the upper half of a float.
struct bf16 {
  uint16_t bits;
};

static inline float widen(float x) { return x; }

static inline float widen(bf16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

static inline void narrow(float x, float* to) { *to = x; }

// To the nearest, ties to even; NaN stays NaN.
static inline void narrow(float x, bf16* to) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <typename T>
static inline void widen_row(const T* from, long n, float* to) {
#pragma omp simd
  for (long i = 0; i < n; ++i) to[i] = widen(from[i]);
}

template <typename T>
static inline void narrow_row(const float* from, long n, T* to) {
#pragma omp simd
  for (long i = 0; i < n; ++i) narrow(from[i], to + i);
}
