// The matrix product: rows from a buffer, columns from packed panels, a tile of the result in registers.
//
// A panel holds TILE_COLUMNS columns as [depth][TILE_COLUMNS]; the last one is filled up with zeros.
#pragma once

#include "vector.h"

struct Tile {
  vec at[TILE_ROWS][TILE_VECTORS];
};

// Where the operands of a product lie. PACKED: a[r][k] by rows, columns in a panel. TRANSPOSED: a[k][r], the columns a
// part of a wider matrix; for gradients of weights, whose depth is the tokens.
enum Operands { PACKED, TRANSPOSED };

// tile[r] = sum over k of a[r][k] * panel[k], for ROWS rows. `stride` is that of a, `width` that of TRANSPOSED columns.
template <int ROWS, Operands OPERANDS>
static inline __attribute__((always_inline)) void multiply_tile(const float* a, long stride, const float* panel,
                                                                long width, long depth, Tile& tile) {
  vec sum[ROWS][TILE_VECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; ++v) sum[r][v] = splat(0.0f);
#pragma GCC unroll 4
  for (long k = 0; k < depth; ++k) {
    vec b[TILE_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; ++v) b[v] = load(panel + k * (OPERANDS == PACKED ? TILE_COLUMNS : width) + v * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const vec x = splat(OPERANDS == PACKED ? a[r * stride + k] : a[k * stride + r]);
#pragma GCC unroll 4
      for (int v = 0; v < TILE_VECTORS; ++v) sum[r][v] += x * b[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; ++v) tile.at[r][v] = sum[r][v];
}

// The last rows, fewer than a tile.
template <int ROWS, Operands OPERANDS>
static __attribute__((noinline)) void multiply_rest(int rows, const float* a, long stride, const float* panel,
                                                    long width, long depth, Tile& tile) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS) return multiply_tile<ROWS, OPERANDS>(a, stride, panel, width, depth, tile);
    multiply_rest<ROWS - 1, OPERANDS>(rows, a, stride, panel, width, depth, tile);
  }
}

// Asks for a share of the panel behind this one, so that it is near when its turn comes: a panel is read from far away
// once, by the first rows that need it, and those would wait.
static inline void fetch_ahead(const float* panel, long depth, long row, long rows) {
  constexpr long LINE = 16;  // floats
  const long lines = depth * TILE_COLUMNS / LINE, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS, tile = row / TILE_ROWS;
  const char* next = reinterpret_cast<const char*>(panel + depth * TILE_COLUMNS);
  for (long line = lines * tile / tiles; line < lines * (tile + 1) / tiles; ++line)
    __builtin_prefetch(next + line * LINE * long(sizeof(float)), 0, 2);
}

// Calls `finish(first_row, num_rows, tile)` for all rows against one panel.
template <typename Finish>
static inline void multiply_panel(const float* a, long stride, long rows, const float* panel, long depth,
                                  Finish&& finish) {
  long row = 0;
  for (; row + TILE_ROWS <= rows; row += TILE_ROWS) {
    Tile tile;
    fetch_ahead(panel, depth, row, rows);
    multiply_tile<TILE_ROWS, PACKED>(a + row * stride, stride, panel, 0, depth, tile);
    finish(row, TILE_ROWS, tile);
  }
  if (row < rows) {
    Tile tile;
    fetch_ahead(panel, depth, row, rows);
    multiply_rest<TILE_ROWS - 1, PACKED>(int(rows - row), a + row * stride, stride, panel, 0, depth, tile);
    finish(row, int(rows - row), tile);
  }
}

// sum[r][c] += sum over k of a[k][r] * b[k][c]: `rows` by `width`, a multiple of TILE_COLUMNS.
static inline void add_transposed(const float* a, long stride, long rows, const float* b, long b_stride, long width,
                                  long depth, float* sum) {
  for (long j = 0; j < width; j += TILE_COLUMNS)
    for (long row = 0; row < rows; row += TILE_ROWS) {
      const int num = int(rows - row < TILE_ROWS ? rows - row : TILE_ROWS);
      // They come from far away and are needed once the product is done.
      for (int r = 0; r < num; ++r) __builtin_prefetch(sum + (row + r) * width + j, 1);
      const auto add = [&](const Tile& tile) {
        for (int r = 0; r < num; ++r)
          for (int v = 0; v < TILE_VECTORS; ++v) {
            float* at = sum + (row + r) * width + j + v * LANES;
            store(at, load(at) + tile.at[r][v]);
          }
      };
      if (num == TILE_ROWS) {
        Tile tile;
        multiply_tile<TILE_ROWS, TRANSPOSED>(a + row, stride, b + j, b_stride, depth, tile);
        add(tile);
      } else {
        Tile tile;
        multiply_rest<TILE_ROWS - 1, TRANSPOSED>(num, a + row, stride, b + j, b_stride, depth, tile);
        add(tile);
      }
    }
}
