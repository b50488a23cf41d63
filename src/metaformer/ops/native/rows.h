// Rows of features, (token, channel) with the channels together, on their way into and out of a matrix product.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <unistd.h>

#include "vector.h"

static inline long round_up(long n, long step) { return (n + step - 1) / step * step; }

// Room for floats that a thread keeps from call to call: fresh memory costs a page fault every 4 KiB. What is in it is
// whatever was there before. A slot is one buffer; a function and those it calls use different slots.
static inline float* scratch(int slot, long floats) {
  static thread_local std::vector<float> rooms[5];
  if (long(rooms[slot].size()) < floats) rooms[slot].resize(floats);
  return rooms[slot].data();
}

enum Norm { NO_NORM = 0, SAMPLE_NORM = 1, TOKEN_NORM = 2 };

// How rows are normalised on the way in; weight and bias are folded into the product that follows.
struct NormSpec {
  int kind;
  const float* moments;  // SAMPLE_NORM: mean and variance of each sample
  float eps;
};

static inline float sum_row(const float* x, long n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (long i = 0; i < n; ++i) sum += x[i];
  return sum;
}

static inline float sum_squares(const float* x, long n, float mean) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (long i = 0; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

static inline void normalise(float* x, long n, float mean, float rstd) {
#pragma omp simd
  for (long i = 0; i < n; ++i) x[i] = (x[i] - mean) * rstd;
}

// One row of `sample`, widened to float and normalised.
template <typename T>
static inline void read_row(const T* from, long channels, long sample, const NormSpec& norm, float* to) {
  widen_row(from, channels, to);
  if (norm.kind == SAMPLE_NORM) {
    const float variance = norm.moments[2 * sample + 1];
    normalise(to, channels, norm.moments[2 * sample], 1.0f / std::sqrt(variance + norm.eps));
  } else if (norm.kind == TOKEN_NORM) {
    const float mean = sum_row(to, channels) / channels;
    const float variance = sum_squares(to, channels, mean) / channels;
    normalise(to, channels, mean, 1.0f / std::sqrt(variance + norm.eps));
  }
}

// A layer norm over the channels of each result.
struct PostNorm {
  const float* weight = nullptr;  // null: no norm
  const float* bias = nullptr;    // null: none
  float eps = 0;
};

static inline void apply(const PostNorm& norm, float* values, long channels) {
  const float mean = sum_row(values, channels) / channels;
  const float variance = sum_squares(values, channels, mean) / channels;
  normalise(values, channels, mean, 1.0f / std::sqrt(variance + norm.eps));
  for (long c = 0; c < channels; ++c) values[c] = values[c] * norm.weight[c] + (norm.bias ? norm.bias[c] : 0.0f);
}

// What happens to a row of results: res_scale * residual + row, written in the storage type; and its sums.
template <typename T>
struct Finish {
  T* out;
  const T* residual;       // null: none
  const float* res_scale;  // null: 1
  float* row_sums;         // null, or sum and sum of squares of each row
  long channels;
  PostNorm post_norm;

  // Where results may be written directly: they are floats, and only to be copied.
  float* nothing_left_to_do() const {
    if constexpr (sizeof(T) == sizeof(float))
      return residual || row_sums || post_norm.weight ? nullptr : out;
    else
      return nullptr;
  }

  void row(float* values, long index) const {
    if (post_norm.weight) apply(post_norm, values, channels);
    if constexpr (sizeof(T) == sizeof(float))
      in_one_pass(values, index);
    else
      step_by_step(values, index);
  }

  void in_one_pass(float* values, long index) const {
    const float* from = residual ? residual + index * channels : nullptr;
    float* to = out + index * channels;
    vec sums = splat(0.0f), squares = splat(0.0f);
    long c = 0;
    for (; c + LANES <= channels; c += LANES) {
      vec v = load(values + c);
      if (from) v += res_scale ? load(res_scale + c) * load(from + c) : load(from + c);
      store(to + c, v);
      sums += v;
      squares += v * v;
    }
    float sum = total(sums), square = total(squares);
    for (; c < channels; ++c) {
      float v = values[c];
      if (from) v += res_scale ? res_scale[c] * from[c] : from[c];
      to[c] = v;
      sum += v;
      square += v * v;
    }
    if (row_sums) {
      row_sums[2 * index] = sum;
      row_sums[2 * index + 1] = square;
    }
  }

  void step_by_step(float* values, long index) const {
    if (residual) {
      const T* from = residual + index * channels;
      if (res_scale) {
#pragma omp simd
        for (long c = 0; c < channels; ++c) values[c] += res_scale[c] * widen(from[c]);
      } else {
#pragma omp simd
        for (long c = 0; c < channels; ++c) values[c] += widen(from[c]);
      }
    }
    narrow_row(values, channels, out + index * channels);
    if (row_sums) {
      // Of what was written, rounding included.
      widen_row(out + index * channels, channels, values);
      row_sums[2 * index] = sum_row(values, channels);
      row_sums[2 * index + 1] = sum_squares(values, channels, 0.0f);
    }
  }
};

// Mean and variance of each sample from the sums of its rows; in double, in a fixed order.
static inline void finish_moments(const float* row_sums, long batch, long rows, long channels, float* moments) {
  const double count = double(rows) * double(channels);
  for (long b = 0; b < batch; ++b) {
    double sum = 0, squares = 0;
    for (long r = b * rows; r < (b + 1) * rows; ++r) {
      sum += row_sums[2 * r];
      squares += row_sums[2 * r + 1];
    }
    const double mean = sum / count;
    moments[2 * b] = float(mean);
    moments[2 * b + 1] = float(std::max(0.0, squares / count - mean * mean));
  }
}

// How many floats a core's own cache holds, with a quarter left for weights on their way through.
static inline long cache_floats() {
  static const long floats = [] {
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return std::clamp(bytes, 256L << 10, 2L << 20) * 3 / 4 / long(sizeof(float));
  }();
  return floats;
}

// How many rows a thread takes at a time: few enough for its cache, many enough to be worth the weights it reads,
// and, where there are few, the same for every thread.
static inline long rows_at_a_time(long rows, long floats_per_row, long threads) {
  constexpr long MOST = 128;
  if (rows == 0) return 1;
  const long fitting = std::clamp(cache_floats() / floats_per_row / TILE_ROWS * TILE_ROWS, 4L * TILE_ROWS, MOST);
  const long tasks = round_up((rows + fitting - 1) / fitting, threads);
  const long even = (rows + tasks - 1) / tasks;
  return rows > 4 * threads * fitting ? fitting : std::max(even, 1L);
}

// How many rows of a grid a thread takes at a time, of a batch of grids.
static inline long band_of(long batch, long height, long row_floats, long threads) {
  const long even = (batch * height + 2 * threads - 1) / (2 * threads);
  return std::clamp(std::min(cache_floats() / row_floats, even), 1L, height);
}
