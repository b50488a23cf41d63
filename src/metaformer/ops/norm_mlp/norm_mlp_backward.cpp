// The gradients of norm_mlp, the hidden tensor read or made again: a tile of tokens goes through all five products while
// its hidden channels are in the cache. float32. The derivation is in ops/norm_mlp/README.md.
#include <omp.h>

#include "activation.h"
#include "gemm.h"
#include "rows.h"

namespace {

// Floats that all threads' gradients of weights may take together: half a gibibyte.
constexpr long MOST_SUMS = 1L << 27;

struct Layers {
  const float *fc1, *bias1;  // hidden from channels: [hidden panels][channels][TILE_COLUMNS]
  const float* back2;        // hidden gradients from those of the branch: likewise, of the transposed second layer
  const float* kept;         // the hidden tensor before the activation, as the forward pass left it; null: made again
  const float* back1;        // gradients of the channels from hidden ones: [hidden blocks][panels][block][TILE_COLUMNS]
  long channels, hidden, block, total;
};

// Gradients of the weights as one thread sums them, rows of hidden channels by padded channels.
struct Sums {
  float *first, *second;  // of both layers; the second is transposed
  float *bias1, *bias2;
};

// Room of a thread for one tile of tokens. The gradients of weights walk down its columns: rows are a little longer than
// they need to be, so that those of a power of two do not all fall into the same few places of the cache.
struct Room {
  float *normed, *branch, *grad;        // tokens by `wide`: input of the MLP, gradients of its output and of its input
  float *after, *slope, *hidden_grad;   // tokens by `deep`: the activation, its derivative, the gradient before it
  long wide, deep;
};

void add_rows_to(const float* values, long stride, long rows, long columns, float* sum) {
  for (long r = 0; r < rows; ++r)
#pragma omp simd
    for (long c = 0; c < columns; ++c) sum[c] += values[r * stride + c];
}

// All five products for one block of hidden channels.
template <int KIND>
void add_hidden_block(const Layers& mlp, const Room& room, long at_row, long rows, long first, const Sums& sums) {
  const long depth = std::min(mlp.block, mlp.hidden - first), width = round_up(mlp.channels, TILE_COLUMNS);
  for (long j = 0; j < depth; j += TILE_COLUMNS) {
    const long at_panel = (first + j) * mlp.channels;
    const auto activate_at = [&](long row, int v, vec before) {
      const long at = row * room.deep + j + v * LANES;
      const ValueAndSlope after = activate_with_slope<KIND>(before);
      store(room.after + at, after.value);
      store(room.slope + at, after.slope);
    };
    if (mlp.kept) {
      const float* before = mlp.kept + (first + j) * mlp.total + at_row * TILE_COLUMNS;
      for (long r = 0; r < rows; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) activate_at(r, v, load(before + r * TILE_COLUMNS + v * LANES));
    } else {
      vec bias[TILE_VECTORS];
      for (int v = 0; v < TILE_VECTORS; ++v) bias[v] = load(mlp.bias1 + first + j + v * LANES);
      multiply_panel(room.normed, room.wide, rows, mlp.fc1 + at_panel, mlp.channels, [&](long row, int num, const Tile& tile) {
        for (int r = 0; r < num; ++r)
          for (int v = 0; v < TILE_VECTORS; ++v) activate_at(row + r, v, tile.at[r][v] + bias[v]);
      });
    }
    multiply_panel(room.branch, room.wide, rows, mlp.back2 + at_panel, mlp.channels, [&](long row, int num, const Tile& tile) {
      for (int r = 0; r < num; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) {
          const long at = (row + r) * room.deep + j + v * LANES;
          store(room.hidden_grad + at, tile.at[r][v] * load(room.slope + at));
        }
    });
  }
  for (long j = 0; j < width; j += TILE_COLUMNS) {
    const float* panel = mlp.back1 + first * width + j * mlp.block;
    multiply_panel(room.hidden_grad, room.deep, rows, panel, depth, [&](long row, int num, const Tile& tile) {
      for (int r = 0; r < num; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) {
          float* at = room.grad + (row + r) * room.wide + j + v * LANES;
          store(at, first ? load(at) + tile.at[r][v] : tile.at[r][v]);
        }
    });
  }
  const float *normed = room.normed, *branch = room.branch;
  add_transposed(room.hidden_grad, room.deep, depth, normed, room.wide, width, rows, sums.first + first * width);
  add_transposed(room.after, room.deep, depth, branch, room.wide, width, rows, sums.second + first * width);
  add_rows_to(room.hidden_grad, room.deep, rows, depth, sums.bias1 + first);
}

// Padded channels of a buffer's rows are zero: products read them.
void clear_padding(float* rows, long num, long channels, long width) {
  for (long r = 0; r < num; ++r) std::fill(rows + r * width + channels, rows + (r + 1) * width, 0.0f);
}

// grad_x[r] holds the gradient of the normalised row; row_sums its sum and its product with the row itself. Now through
// the norm: rstd * (g - mean(g) - n * mean(g * n)), and the residual's share.
void finish_rows(const float* x, const float* grad, const float* res_scale, const NormSpec& norm, const float* row_sums,
                 long batch, long tokens, long channels, float* grad_x, int threads) {
  std::vector<float> means(2 * batch);
  for (long b = 0; b < batch; ++b) {
    double sum = 0, product = 0;
    for (long r = b * tokens; r < (b + 1) * tokens; ++r) {
      sum += row_sums[2 * r];
      product += row_sums[2 * r + 1];
    }
    means[2 * b] = float(sum / (double(tokens) * channels));
    means[2 * b + 1] = float(product / (double(tokens) * channels));
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (long r = 0; r < batch * tokens; ++r) {
    const long b = r / tokens;
    const float mean = norm.moments[2 * b], rstd = 1.0f / std::sqrt(norm.moments[2 * b + 1] + norm.eps);
    const float shift = means[2 * b], tilt = means[2 * b + 1];
    float* to = grad_x + r * channels;
    const float *row = x + r * channels, *skip = grad + r * channels;
#pragma omp simd
    for (long c = 0; c < channels; ++c)
      to[c] = (to[c] - shift - (row[c] - mean) * rstd * tilt) * rstd + skip[c] * (res_scale ? res_scale[c] : 1.0f);
  }
}

}  // namespace

// Results: grad_x (rows, channels); both weight gradients (hidden, padded channels), the second transposed; the biases'.
extern "C" void mf_norm_mlp_backward(const float* x, const float* grad, const float* moments, float eps,
                                     const float* factor, const float* res_scale, const float* fc1, const float* bias1,
                                     const float* back2, const float* kept, const float* back1, float* grad_x, float* grad_first,
                                     float* grad_second, float* grad_bias1, float* grad_bias2, long batch, long tokens,
                                     long channels, long hidden, long block, int activation, int threads) {
  const Layers mlp{fc1, bias1, back2, kept, back1, channels, hidden, block, batch * tokens};
  const NormSpec norm{SAMPLE_NORM, moments, eps};
  const long total = mlp.total, width = round_up(channels, TILE_COLUMNS), padded = round_up(hidden, TILE_COLUMNS);
  // Tiles whose gradients of weights are added by the same thread: who adds what must not depend on who is faster.
  const long wide = width + TILE_COLUMNS, deep = block + TILE_COLUMNS;
  const long of_thread = 2 * hidden * width + padded + width;
  // Each thread has sums of its own: on very many cores some of them stay away.
  threads = int(std::max(1L, std::min(long(threads), MOST_SUMS / of_thread)));
  const long step = rows_at_a_time(total, 3 * wide + 3 * deep, threads);
  float *row_sums = scratch(4, 2 * total), *all_sums = scratch(3, threads * of_thread);
#pragma omp parallel num_threads(threads)
  {
    float* mine = all_sums + omp_get_thread_num() * of_thread;
    std::fill(mine, mine + of_thread, 0.0f);
    const Sums sums{mine, mine + hidden * width, mine + 2 * hidden * width, mine + 2 * hidden * width + padded};
    float *by_channel = scratch(0, 3 * step * wide), *by_hidden = scratch(1, 3 * step * deep);
    const Room room{by_channel, by_channel + step * wide, by_channel + 2 * step * wide,
                    by_hidden,  by_hidden + step * deep,  by_hidden + 2 * step * deep,
                    wide,       deep};
#pragma omp for schedule(static)
    for (long first = 0; first < total; first += step) {
      const long rows = std::min(step, total - first);
      for (long r = 0; r < rows; ++r) {
        const long sample = (first + r) / tokens;
        read_row(x + (first + r) * channels, channels, sample, norm, room.normed + r * wide);
        const float share = factor ? factor[sample] : 1.0f;
        for (long c = 0; c < channels; ++c) room.branch[r * wide + c] = share * grad[(first + r) * channels + c];
      }
      clear_padding(room.normed, rows, channels, wide);
      clear_padding(room.branch, rows, channels, wide);
      with_activation(activation, [&](auto kind) {
        for (long h = 0; h < hidden; h += block) add_hidden_block<kind>(mlp, room, first, rows, h, sums);
      });
      add_rows_to(room.branch, wide, rows, channels, sums.bias2);
      for (long r = 0; r < rows; ++r) {
        const float *values = room.grad + r * wide, *normed = room.normed + r * wide;
        float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (long c = 0; c < channels; ++c) {
          sum += values[c];
          product += values[c] * normed[c];
        }
        row_sums[2 * (first + r)] = sum;
        row_sums[2 * (first + r) + 1] = product;
        std::copy(values, values + channels, grad_x + (first + r) * channels);
      }
    }
#pragma omp for schedule(static)
    for (long i = 0; i < of_thread; ++i) {
      float sum = 0;
      for (int t = 0; t < omp_get_num_threads(); ++t) sum += all_sums[t * of_thread + i];
      if (i < hidden * width)
        grad_first[i] = sum;
      else if (i < 2 * hidden * width)
        grad_second[i - hidden * width] = sum;
      else if (i < 2 * hidden * width + padded)
        grad_bias1[i - 2 * hidden * width] = sum;
      else
        grad_bias2[i - 2 * hidden * width - padded] = sum;
    }
  }
  finish_rows(x, grad, res_scale, norm, row_sums, batch, tokens, channels, grad_x, threads);
}
