// out = res_scale * residual + fc2(activation(fc1(norm(x)))), the hidden tensor never leaving the cache.
#include <omp.h>

#include "activation.h"
#include "gemm.h"
#include "rows.h"

namespace {

struct Mlp {
  const float *fc1, *bias1;  // fc1: [hidden panels][channels][TILE_COLUMNS]; bias1 is filled up to whole panels
  const float *fc2, *bias2;  // fc2: [hidden blocks][out panels][block][TILE_COLUMNS]; bias2 likewise
  long channels, hidden, block;
};

// Where the hidden tensor is kept as it is before the activation, for a backward pass: [panels][all rows][TILE_COLUMNS].
struct Kept {
  float* at;  // null: nowhere
  long total;

  // The rows of a panel, from one of the rows on.
  float* panel(long column, long row) const { return at + column * total + row * TILE_COLUMNS; }
};

// Adds the share of one block of hidden channels to `sum`: rows x padded channels. `at` is the first of the rows.
template <int KIND>
void add_hidden_block(const Mlp& mlp, const float* input, long at, long rows, long first, float* hidden, float* sum,
                      bool add, const Kept& kept) {
  const long depth = std::min(mlp.block, mlp.hidden - first);
  const long width = round_up(mlp.channels, TILE_COLUMNS);
  for (long j = 0; j < depth; j += TILE_COLUMNS) {
    const float* panel = mlp.fc1 + (first + j) * mlp.channels;
    vec bias[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; ++v) bias[v] = load(mlp.bias1 + first + j + v * LANES);
    multiply_panel(input, mlp.channels, rows, panel, mlp.channels, [&](long row, int num, const Tile& tile) {
      float* before = kept.at ? kept.panel(first + j, at + row) : nullptr;
      for (int r = 0; r < num; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) {
          const vec value = tile.at[r][v] + bias[v];
          store(hidden + (row + r) * mlp.block + j + v * LANES, activate<KIND>(value));
          if (before) store(before + r * TILE_COLUMNS + v * LANES, value);
        }
    });
  }
  const float* panels = mlp.fc2 + first * width;
  for (long j = 0; j < width; j += TILE_COLUMNS) {
    // The bias is added once, with the first hidden channels.
    vec bias[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; ++v) bias[v] = first ? splat(0.0f) : load(mlp.bias2 + j + v * LANES);
    multiply_panel(hidden, mlp.block, rows, panels + j * mlp.block, depth, [&](long row, int num, const Tile& tile) {
      for (int r = 0; r < num; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) {
          float* at = sum + (row + r) * width + j + v * LANES;
          store(at, tile.at[r][v] + (add ? load(at) : bias[v]));
        }
    });
  }
}

template <typename T>
void read_rows(const T* x, long first, long rows, long channels, long tokens, const NormSpec& norm, float* to) {
  for (long r = 0; r < rows; ++r)
    read_row(x + (first + r) * channels, channels, (first + r) / tokens, norm, to + r * channels);
}

// Threads share the rows.
template <int KIND, typename T>
void by_rows(const T* x, long total, long tokens, const NormSpec& norm, const Mlp& mlp, const Finish<T>& finish,
             const Kept& kept, int threads) {
  const long channels = mlp.channels, width = round_up(channels, TILE_COLUMNS);
  const long step = rows_at_a_time(total, channels + width + mlp.block, threads);
#pragma omp parallel num_threads(threads)
  {
    float *input = scratch(0, step * channels), *hidden = scratch(1, step * mlp.block), *sum = scratch(2, step * width);
#pragma omp for schedule(dynamic, 1)
    for (long first = 0; first < total; first += step) {
      const long rows = std::min(step, total - first);
      read_rows(x, first, rows, channels, tokens, norm, input);
      for (long h = 0; h < mlp.hidden; h += mlp.block)
        add_hidden_block<KIND>(mlp, input, first, rows, h, hidden, sum, h > 0, kept);
      for (long r = 0; r < rows; ++r) finish.row(sum + r * width, first + r);
    }
  }
}

// Threads share the hidden channels: for few rows, so that each weight is read by one thread only.
template <int KIND, typename T>
void by_hidden(const T* x, long total, long tokens, const NormSpec& norm, const Mlp& mlp, const Finish<T>& finish,
               const Kept& kept, int threads) {
  const long channels = mlp.channels, width = round_up(channels, TILE_COLUMNS);
  float *input = scratch(0, total * channels), *sums = scratch(3, threads * total * width);
  std::vector<char> used(threads, 0);
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (long r = 0; r < total; ++r)
      read_rows(x, r, 1, channels, tokens, norm, input + r * channels);
    float* hidden = scratch(1, total * mlp.block);
    const int me = omp_get_thread_num();
    float* sum = sums + me * total * width;
// Static: who adds what, and so the rounding of the sum, is the same every time.
#pragma omp for schedule(static)
    for (long h = 0; h < mlp.hidden; h += mlp.block) {
      add_hidden_block<KIND>(mlp, input, 0, total, h, hidden, sum, used[me], kept);
      used[me] = 1;
    }
#pragma omp for schedule(static)
    for (long r = 0; r < total; ++r) {
      float* values = sums + r * width;
      if (!used[0]) std::fill(values, values + width, 0.0f);
      for (int t = 1; t < threads; ++t)
        if (used[t])
          for (long c = 0; c < channels; ++c) values[c] += sums[t * total * width + r * width + c];
      finish.row(values, r);
    }
  }
}

template <typename T>
void run(const T* x, T* out, float* moments_out, float* hidden_out, const T* residual, const float* res_scale, const NormSpec& norm,
         const Mlp& mlp, long batch, long tokens, int kind, int threads) {
  const long total = batch * tokens;
  float* row_sums = moments_out ? scratch(4, 2 * total) : nullptr;
  const Finish<T> finish{out, residual, res_scale, row_sums, mlp.channels, {}};
  const Kept kept{hidden_out, total};
  // Only where every thread gets a block: else the rows keep more of them busy.
  const bool few = total < 64 * threads && threads > 1 && mlp.hidden >= threads * mlp.block;
  with_activation(kind, [&](auto k) {
    if (few)
      by_hidden<k>(x, total, tokens, norm, mlp, finish, kept, threads);
    else
      by_rows<k>(x, total, tokens, norm, mlp, finish, kept, threads);
  });
  if (moments_out) finish_moments(row_sums, batch, tokens, mlp.channels, moments_out);
}

}  // namespace

// hidden_out: null, or room for what the backward pass would compute again.
extern "C" void mf_norm_mlp(int is_bf16, const void* x, void* out, float* moments_out, float* hidden_out,
                            const void* residual, const float* res_scale, int norm_kind, const float* moments, float eps, const float* fc1,
                            const float* bias1, const float* fc2, const float* bias2, long batch, long tokens,
                            long channels, long hidden, long block, int activation, int threads) {
  const Mlp mlp{fc1, bias1, fc2, bias2, channels, hidden, block};
  const NormSpec norm{norm_kind, moments, eps};
  if (is_bf16)
    run(static_cast<const bf16*>(x), static_cast<bf16*>(out), moments_out, hidden_out, static_cast<const bf16*>(residual),
        res_scale, norm, mlp, batch, tokens, activation, threads);
  else
    run(static_cast<const float*>(x), static_cast<float*>(out), moments_out, hidden_out, static_cast<const float*>(residual),
        res_scale, norm, mlp, batch, tokens, activation, threads);
}
