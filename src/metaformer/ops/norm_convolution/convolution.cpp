// out = res_scale * residual + act_scale * activation(convolution(norm(x)) + bias) + act_shift, dense, any kernel and
// stride; a 1x1 kernel is a linear layer over the tokens.
#include <omp.h>

#include "activation.h"
#include "gemm.h"
#include "rows.h"

namespace {

struct Source {
  long batch, channels, height, width;  // in memory: batch, height, width, channels
};

struct Kernel {
  const float *panels, *bias;  // panels: [out panels][rows * columns * channels][TILE_COLUMNS]; bias to whole panels
  long rows, columns, stride, padding, out_channels;
  float act_scale, act_shift;
};

// Rows `first` to `last` of the window of one output token: [kernel rows][kernel columns][channels], zero outside.
template <typename T>
void read_window(const T* x, const Source& in, const Kernel& kernel, long sample, long top, long left, long first,
                 long last, const NormSpec& norm, float* to) {
  const long segment = kernel.columns * in.channels;
  for (long i = first; i < last; ++i, to += segment) {
    const long row = top + i;
    if (row < 0 || row >= in.height) {
      std::fill(to, to + segment, 0.0f);
      continue;
    }
    const T* from = x + (sample * in.height + row) * in.width * in.channels;
    if (norm.kind == NO_NORM && left >= 0 && left + kernel.columns <= in.width) {
      widen_row(from + left * in.channels, segment, to);
      continue;
    }
    for (long j = 0; j < kernel.columns; ++j) {
      const long column = left + j;
      float* at = to + j * in.channels;
      if (column < 0 || column >= in.width)
        std::fill(at, at + in.channels, 0.0f);
      else
        read_row(from + column * in.channels, in.channels, sample, norm, at);
    }
  }
}

// result (+)= input times some of the kernel's rows; after the last of them the bias and the activation.
template <int KIND>
void add_product(const float* input, long rows, const Kernel& kernel, long depth, long first, long part, bool is_last,
                 float* result) {
  const long width = round_up(kernel.out_channels, TILE_COLUMNS);
  for (long j = 0; j < width; j += TILE_COLUMNS) {
    vec bias[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; ++v) bias[v] = load(kernel.bias + j + v * LANES);
    const float* panel = kernel.panels + j * depth + first * TILE_COLUMNS;
    multiply_panel(input, part, rows, panel, part, [&](long row, int num, const Tile& tile) {
      for (int r = 0; r < num; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) {
          float* at = result + (row + r) * width + j + v * LANES;
          const vec sum = tile.at[r][v] + (first ? load(at) : bias[v]);
          store(at, is_last ? activate<KIND>(sum) * kernel.act_scale + kernel.act_shift : sum);
        }
    });
  }
}

template <int KIND, typename T>
void run(const T* x, const Source& in, const Kernel& kernel, const NormSpec& norm, const Finish<T>& finish,
         long out_height, long out_width, int threads) {
  const long segment = kernel.columns * in.channels, depth = kernel.rows * segment;
  // A short window is read whole, a long one row by row: more tokens then share what is read of the weights.
  const long rows_of_part = depth <= 512 ? kernel.rows : 1;
  const long width = round_up(kernel.out_channels, TILE_COLUMNS), tokens = out_height * out_width;
  const long total = in.batch * tokens, step = rows_at_a_time(total, rows_of_part * segment + width, threads);
  float* const in_place = width == kernel.out_channels ? finish.nothing_left_to_do() : nullptr;
#pragma omp parallel num_threads(threads)
  {
    float *input = scratch(0, step * rows_of_part * segment), *room = scratch(1, step * width);
#pragma omp for schedule(dynamic, 1)
    for (long first = 0; first < total; first += step) {
      const long rows = std::min(step, total - first);
      float* result = in_place ? in_place + first * width : room;
      for (long i = 0; i < kernel.rows; i += rows_of_part) {
        const long part = rows_of_part * segment;
        for (long r = 0; r < rows; ++r) {
          const long sample = (first + r) / tokens, token = (first + r) % tokens;
          read_window(x, in, kernel, sample, token / out_width * kernel.stride - kernel.padding,
                      token % out_width * kernel.stride - kernel.padding, i, i + rows_of_part, norm, input + r * part);
        }
        add_product<KIND>(input, rows, kernel, depth, i * segment, part, i + rows_of_part == kernel.rows, result);
      }
      if (!in_place)
        for (long r = 0; r < rows; ++r) finish.row(result + r * width, first + r);
    }
  }
}

template <typename T>
void start(const T* x, T* out, float* moments_out, const T* residual, const float* res_scale, const NormSpec& norm,
           const Source& in, const Kernel& kernel, const PostNorm& post_norm, int activation, int threads) {
  const long out_height = (in.height + 2 * kernel.padding - kernel.rows) / kernel.stride + 1;
  const long out_width = (in.width + 2 * kernel.padding - kernel.columns) / kernel.stride + 1;
  const long tokens = out_height * out_width;
  float* row_sums = moments_out ? scratch(4, 2 * in.batch * tokens) : nullptr;
  const Finish<T> finish{out, residual, res_scale, row_sums, kernel.out_channels, post_norm};
  with_activation(activation,
                  [&](auto kind) { run<kind>(x, in, kernel, norm, finish, out_height, out_width, threads); });
  if (moments_out) finish_moments(row_sums, in.batch, tokens, kernel.out_channels, moments_out);
}

}  // namespace

extern "C" void mf_convolution(int is_bf16, const void* x, void* out, float* moments_out, const void* residual,
                               const float* res_scale, int norm_kind, const float* moments, float eps,
                               const float* panels, const float* bias, const float* post_weight,
                               const float* post_bias, float post_eps, const long* source, const long* kernel_shape,
                               int activation, float act_scale, float act_shift, int threads) {
  const Source in{source[0], source[1], source[2], source[3]};
  const Kernel kernel{panels,          bias,      kernel_shape[0], kernel_shape[1], kernel_shape[2], kernel_shape[3],
                      kernel_shape[4], act_scale, act_shift};
  const NormSpec norm{norm_kind, moments, eps};
  const PostNorm post_norm{post_weight, post_bias, post_eps};
  if (is_bf16)
    start(static_cast<const bf16*>(x), static_cast<bf16*>(out), moments_out, static_cast<const bf16*>(residual),
          res_scale, norm, in, kernel, post_norm, activation, threads);
  else
    start(static_cast<const float*>(x), static_cast<float*>(out), moments_out, static_cast<const float*>(residual),
          res_scale, norm, in, kernel, post_norm, activation, threads);
}
