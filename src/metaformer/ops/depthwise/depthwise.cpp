// Depthwise convolution, square odd kernel, stride 1, the grid kept; channels together in memory.
#include <omp.h>

#include "rows.h"

namespace {

// Outputs side by side that share what they read.
constexpr int BLOCK = 7;

// NUM outputs of one row, LANES channels: `rows` are the padded input rows from the window's first.
template <int NUM>
inline void mix(const float* rows, long row_stride, long column_stride, const float* weight, long size,
                vec (&sum)[NUM]) {
  for (long i = 0; i < size; ++i)
    for (long j = 0; j < size; ++j) {
      const vec w = load(weight + (i * size + j) * LANES);
#pragma GCC unroll 8
      for (int n = 0; n < NUM; ++n) sum[n] += load(rows + i * row_stride + (j + n) * column_stride) * w;
    }
}

template <int NUM>
void mix_block(const float* rows, long row_stride, long column_stride, const float* weight, const float* bias,
               long size, long channels, float* to) {
  for (long c = 0; c < channels; c += LANES) {
    vec sum[NUM];
    for (int n = 0; n < NUM; ++n) sum[n] = load(bias + c);
    mix<NUM>(rows + c, row_stride, column_stride, weight + c * size * size, size, sum);
    for (int n = 0; n < NUM; ++n) store(to + n * channels + c, sum[n]);
  }
}

template <typename T>
void run(const T* x, T* out, const float* weight, const float* bias, long batch, long height, long width,
         long channels, long size, int threads) {
  const long reach = size / 2, padded = round_up(channels, LANES);
  // Columns a little longer than they need to be: those of a power of two would all fall into the same few places of
  // the cache.
  const long column = padded + 16, row_floats = (width + 2 * reach) * column;
  const long band = band_of(batch, height, row_floats, threads);
  const long bands = (height + band - 1) / band;
#pragma omp parallel num_threads(threads)
  {
    float *rows = scratch(0, (band + 2 * reach) * row_floats), *result = scratch(1, BLOCK * padded);
    // The border and the channels that fill up a vector stay zero.
    std::fill(rows, rows + (band + 2 * reach) * row_floats, 0.0f);
#pragma omp for schedule(dynamic, 1)
    for (long task = 0; task < batch * bands; ++task) {
      const long sample = task / bands, top = task % bands * band, bottom = std::min(top + band, height);
      for (long i = top - reach; i < bottom + reach; ++i) {
        float* row = rows + (i - top + reach) * row_floats;
        if (i < 0 || i >= height) {
          std::fill(row, row + row_floats, 0.0f);
          continue;
        }
        const T* from = x + (sample * height + i) * width * channels;
        for (long j = 0; j < width; ++j) widen_row(from + j * channels, channels, row + (j + reach) * column);
      }
      for (long i = top; i < bottom; ++i) {
        const float* from = rows + (i - top) * row_floats;
        T* to = out + (sample * height + i) * width * channels;
        for (long j = 0; j < width;) {
          const long num = j + BLOCK <= width ? BLOCK : 1;
          if (num == BLOCK)
            mix_block<BLOCK>(from + j * column, row_floats, column, weight, bias, size, padded, result);
          else
            mix_block<1>(from + j * column, row_floats, column, weight, bias, size, padded, result);
          for (long n = 0; n < num; ++n) narrow_row(result + n * padded, channels, to + (j + n) * channels);
          j += num;
        }
      }
    }
  }
}

}  // namespace

// weight: [blocks of channels][size][size][LANES], the last block filled up with zeros; bias likewise.
extern "C" void mf_depthwise(int is_bf16, const void* x, void* out, const float* weight, const float* bias, long batch,
                             long height, long width, long channels, long size, int threads) {
  if (is_bf16)
    run(static_cast<const bf16*>(x), static_cast<bf16*>(out), weight, bias, batch, height, width, channels, size,
        threads);
  else
    run(static_cast<const float*>(x), static_cast<float*>(out), weight, bias, batch, height, width, channels, size,
        threads);
}
