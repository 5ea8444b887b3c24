// What an x86 CPU has that tables of kernels need, and whether the system saves the registers.
// (__builtin_cpu_supports wants a library.) Defined in a file that is compiled for every
// x86-64, because these functions run before anybody knows more.
#pragma once

namespace whittle::kernels {

bool has_avx2();
bool has_avx2_fma();
bool has_avx512();  // F, BW, DQ and VL, with FMA
bool has_avx512vnni();

}  // namespace whittle::kernels
