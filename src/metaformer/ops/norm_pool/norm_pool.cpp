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
  if (num == 3) {
    const float *b = first + row_floats, *c = b + row_floats;
#pragma omp simd
    for (long i = 0; i < row_floats; ++i) to[i] = first[i] + b[i] + c[i];
    return;
  }
  std::copy(first, first + row_floats, to);
  for (long r = 1; r < num; ++r) {
    const float* row = first + r * row_floats;
#pragma omp simd
    for (long i = 0; i < row_floats; ++i) to[i] += row[i];
  }
}

// scale * (mean of the window - n) for one token.
void mix_token(const float* columns, long num_columns, long num_rows, const float* n, const float* scale, float gain,
               long channels, float* values) {
  // The count times the token, not the sum over the count: a constant map gives exactly zero.
  const float count = float(num_columns * num_rows), share = gain / count;
  // Three columns, the usual window, in one pass.
  if (num_columns == 3) {
    const float *b = columns + channels, *c = b + channels;
#pragma omp simd
    for (long i = 0; i < channels; ++i) values[i] = (columns[i] + b[i] + c[i] - count * n[i]) * (share * scale[i]);
    return;
  }
  add_rows(columns, num_columns, channels, values);
#pragma omp simd
  for (long i = 0; i < channels; ++i) values[i] = (values[i] - count * n[i]) * (share * scale[i]);
}

// The rows of a band as floats. The norm of a sample is a shift, which cancels, and a gain, which is applied later; that
// of a token is applied here. Floats without it are read where they lie.
template <typename T>
const float* band_rows(const T* from, long first, long last, const Grid& grid, const NormSpec& norm, float* room) {
  const T* rows = from + first * grid.width * grid.channels;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (norm.kind != TOKEN_NORM) return rows;
  }
  const NormSpec of_token{norm.kind == TOKEN_NORM ? TOKEN_NORM : NO_NORM, nullptr, norm.eps};
  for (long token = 0; token < (last - first) * grid.width; ++token)
    read_row(rows + token * grid.channels, grid.channels, 0, of_token, room + token * grid.channels);
  return room;
}

template <typename T>
void run(const T* x, const Finish<T>& finish, const NormSpec& norm, const float* scale, const Grid& grid, long reach,
         int threads) {
  const long row_floats = grid.width * grid.channels;
  const long band = band_of(grid.batch, grid.height, row_floats, threads);
  const long bands = (grid.height + band - 1) / band;
#pragma omp parallel num_threads(threads)
  {
    float *room = scratch(0, (band + 2 * reach) * row_floats), *columns = scratch(1, row_floats);
    float* values = scratch(2, grid.channels);
#pragma omp for schedule(dynamic, 1)
    for (long task = 0; task < grid.batch * bands; ++task) {
      const long sample = task / bands, top = task % bands * band, bottom = std::min(top + band, grid.height);
      const long first = std::max(top - reach, 0L), last = std::min(bottom + reach, grid.height);
      const float* rows = band_rows(x + sample * grid.tokens() * grid.channels, first, last, grid, norm, room);
      const float gain = norm.kind == SAMPLE_NORM ? 1.0f / std::sqrt(norm.moments[2 * sample + 1] + norm.eps) : 1.0f;
      for (long i = top; i < bottom; ++i) {
        const long above = std::max(i - reach, 0L), below = std::min(i + reach + 1, grid.height);
        add_rows(rows + (above - first) * row_floats, below - above, row_floats, columns);
        for (long j = 0; j < grid.width; ++j) {
          const long left = std::max(j - reach, 0L), right = std::min(j + reach + 1, grid.width);
          mix_token(columns + left * grid.channels, right - left, below - above,
                    rows + (i - first) * row_floats + j * grid.channels, scale, gain, grid.channels, values);
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
