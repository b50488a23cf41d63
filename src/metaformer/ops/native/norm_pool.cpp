// out = res_scale * x + scale * (pool(n) - n) with n = norm(x) without weight and bias; and the moments of out.
#include <omp.h>

#include "rows.h"

namespace {

struct Grid {
  long batch, height, width, channels;
  long tokens() const { return height * width; }
};

// Sums over the rows of the window, for every token and channel of one row of the grid.
void add_rows(const float* first, long num, long row_floats, float* to) {
  std::copy(first, first + row_floats, to);
  for (long r = 1; r < num; ++r) {
    const float* row = first + r * row_floats;
#pragma omp simd
    for (long i = 0; i < row_floats; ++i) to[i] += row[i];
  }
}

// scale * (mean of the window - n) for one token.
void mix_token(const float* columns, long num_columns, long num_rows, const float* n, const float* scale,
               long channels, float* values) {
  // Three columns, the usual window, in one pass.
  if (num_columns == 3) {
    const float *b = columns + channels, *c = b + channels;
#pragma omp simd
    for (long i = 0; i < channels; ++i) values[i] = columns[i] + b[i] + c[i];
  } else {
    add_rows(columns, num_columns, channels, values);
  }
  // The count times the token, not the sum over the count: a constant map gives exactly zero.
  const float count = float(num_columns * num_rows), share = 1.0f / count;
#pragma omp simd
  for (long i = 0; i < channels; ++i) values[i] = (values[i] - count * n[i]) * (share * scale[i]);
}

template <typename T>
void run(const T* x, const Finish<T>& finish, const NormSpec& norm, const float* scale, const Grid& grid, long reach,
         int threads) {
  const long row_floats = grid.width * grid.channels;
  // A band of rows at a time, so that a row is read and normalised about once.
  const long band = band_of(grid.batch, grid.height, row_floats, threads);
  const long bands = (grid.height + band - 1) / band;
#pragma omp parallel num_threads(threads)
  {
    float *rows = scratch(0, (band + 2 * reach) * row_floats), *columns = scratch(1, row_floats);
    float* values = scratch(2, grid.channels);
#pragma omp for schedule(dynamic, 1)
    for (long task = 0; task < grid.batch * bands; ++task) {
      const long sample = task / bands, top = task % bands * band, bottom = std::min(top + band, grid.height);
      const long first = std::max(top - reach, 0L), last = std::min(bottom + reach, grid.height);
      const T* from = x + sample * grid.tokens() * grid.channels;
      for (long token = first * grid.width; token < last * grid.width; ++token)
        read_row(from + token * grid.channels, grid.channels, sample, norm,
                 rows + (token - first * grid.width) * grid.channels);
      for (long i = top; i < bottom; ++i) {
        const long above = std::max(i - reach, 0L), below = std::min(i + reach + 1, grid.height);
        add_rows(rows + (above - first) * row_floats, below - above, row_floats, columns);
        for (long j = 0; j < grid.width; ++j) {
          const long left = std::max(j - reach, 0L), right = std::min(j + reach + 1, grid.width);
          mix_token(columns + left * grid.channels, right - left, below - above,
                    rows + (i - first) * row_floats + j * grid.channels, scale, grid.channels, values);
          finish.row(values, sample * grid.tokens() + i * grid.width + j);
        }
      }
    }
  }
}

template <typename T>
void start(const T* x, T* out, float* moments_out, const float* res_scale, const NormSpec& norm, const float* scale,
           const Grid& grid, long pool_size, int threads) {
  float* row_sums = moments_out ? scratch(4, 2 * grid.batch * grid.tokens()) : nullptr;
  const Finish<T> finish{out, x, res_scale, row_sums, grid.channels, {}};
  run(x, finish, norm, scale, grid, pool_size / 2, threads);
  if (moments_out) finish_moments(row_sums, grid.batch, grid.tokens(), grid.channels, moments_out);
}

}  // namespace

extern "C" void mf_norm_pool(int is_bf16, const void* x, void* out, float* moments_out, const float* res_scale,
                             int norm_kind, const float* moments, float eps, const float* scale, long batch,
                             long height, long width, long channels, long pool_size, int threads) {
  const Grid grid{batch, height, width, channels};
  const NormSpec norm{norm_kind, moments, eps};
  if (is_bf16)
    start(static_cast<const bf16*>(x), static_cast<bf16*>(out), moments_out, res_scale, norm, scale, grid, pool_size,
          threads);
  else
    start(static_cast<const float*>(x), static_cast<float*>(out), moments_out, res_scale, norm, scale, grid,
          pool_size, threads);
}
