// What callers must know to lay out weights.
#include "vector.h"

extern "C" int mf_tile_columns() { return TILE_COLUMNS; }
extern "C" int mf_lanes() { return LANES; }
