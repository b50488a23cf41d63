// The multiply-add peak: registers only, nothing from memory.
#include <omp.h>

#include <chrono>

#include "vector.h"

namespace {

constexpr int CHAINS = TILE_ROWS * TILE_VECTORS;

float run(long rounds) {
  vec sum[CHAINS];
  for (int i = 0; i < CHAINS; ++i) sum[i] = splat(float(i));
  // Values that the compiler cannot know and that neither grow nor vanish.
  volatile float factor = 0.999f, shift = 0.001f;
  const vec b = splat(factor), c = splat(shift);
  for (long k = 0; k < rounds; ++k)
#pragma GCC unroll 32
    for (int i = 0; i < CHAINS; ++i) sum[i] = sum[i] * b + c;
  float all = 0;
  for (int i = 0; i < CHAINS; ++i) all += sum[i][0];
  return all;
}

}  // namespace

// Billions of floating-point operations a second of that many threads, two for each multiply-add; the sum of the
// results goes to `sink`, so that they are computed.
extern "C" double mf_peak(long rounds, int threads, float* sink) {
  float all = 0;
  const auto started = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : all)
  all += run(rounds);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  *sink = all;
  return 2.0 * rounds * CHAINS * LANES * threads / seconds / 1e9;
}
