// What this machine can do at most, measured: multiply-adds per instruction set, and
// bytes per second read and copied, by how much memory is gone through.
#pragma once

#include <cstdint>
#include <string_view>

namespace whittle::bench {

// GFLOP/s of one core in independent multiply-adds, with the vectors of a kernel table.
double peak_gflops(std::string_view table);

// Billions of multiply-adds of codes per second of one core, with the instructions of a table of integer kernels. 0
// where the table has none of its own.
double peak_products(std::string_view table);

// GB/s of one core going through `bytes` again and again, with the widest vectors there are:
// reading it, and copying it (each byte counts as read and as written).
double peak_read(int64_t bytes);
double peak_copy(int64_t bytes);

}  // namespace whittle::bench
