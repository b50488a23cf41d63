// The matrix product: rows from a buffer, columns from packed panels, a tile of the result in registers.
//
// A panel holds TILE_COLUMNS columns as [depth][TILE_COLUMNS]; the last one is filled up with zeros.
#pragma once

#include "vector.h"

struct Tile {
  vec at[TILE_ROWS][TILE_VECTORS];
};

// tile[r] = sum over k of a[r][k] * panel[k], for ROWS rows.
template <int ROWS>
static inline __attribute__((always_inline)) void multiply_tile(const float* a, long row_stride, const float* panel,
                                                                long depth, Tile& tile) {
  vec sum[ROWS][TILE_VECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; ++v) sum[r][v] = splat(0.0f);
#pragma GCC unroll 4
  for (long k = 0; k < depth; ++k) {
    vec b[TILE_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; ++v) b[v] = load(panel + k * TILE_COLUMNS + v * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const vec x = splat(a[r * row_stride + k]);
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
template <int ROWS>
static __attribute__((noinline)) void multiply_rest(int rows, const float* a, long row_stride, const float* panel,
                                                    long depth, Tile& tile) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS) return multiply_tile<ROWS>(a, row_stride, panel, depth, tile);
    multiply_rest<ROWS - 1>(rows, a, row_stride, panel, depth, tile);
  }
}

// Calls `finish(first_row, num_rows, tile)` for all rows against one panel.
template <typename Finish>
static inline void multiply_panel(const float* a, long row_stride, long rows, const float* panel, long depth,
                                  Finish&& finish) {
  Tile tile;
  long row = 0;
  for (; row + TILE_ROWS <= rows; row += TILE_ROWS) {
    multiply_tile<TILE_ROWS>(a + row * row_stride, row_stride, panel, depth, tile);
    finish(row, TILE_ROWS, tile);
  }
  if (row < rows) {
    multiply_rest<TILE_ROWS - 1>(int(rows - row), a + row * row_stride, row_stride, panel, depth, tile);
    finish(row, int(rows - row), tile);
  }
}
