/* The runtime for C: load a program, run it.
 *
 *   static unsigned char arena[ARENA] __attribute__((aligned(16)));
 *   whittle_program program;
 *   if (whittle_load(&program, bytes, size) != 0) { puts(whittle_status_text(status)); }
 *   memcpy(whittle_input(&program, 0, arena, NULL), image, ...);
 *   whittle_run(&program, arena, sizeof arena);
 *   const signed char* scores = whittle_output(&program, 0, arena, NULL);
 *
 * Bytes and arena begin at multiples of 16. The bytes stay where they are and outlive the
 * program. Nothing is allocated. Several threads may run one program, each with an arena of
 * its own. Kernels are the best of this build; whittle_pack() lets them be fast.
 */
#ifndef WHITTLE_RUNTIME_H
#define WHITTLE_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A view of the bytes. Its content is the library's business. */
typedef struct whittle_program {
  uint64_t opaque[32];
} whittle_program;

/* 0, or what is wrong: the numbers of runtime/program.h, in words by whittle_status_text(). */
typedef uint32_t whittle_status;

whittle_status whittle_load(whittle_program* program, const void* bytes, size_t size);
size_t whittle_arena_bytes(const whittle_program* program);
whittle_status whittle_run(const whittle_program* program, void* arena, size_t arena_bytes);

/* Weights in the order that vector kernels want: with AVX2 or AVX-512 convolutions and fully connected layers are tens
 * of times faster so. Packed once, and shared by all threads; scratch is for one run at a time. Both begin at multiples
 * of 64, and may have no bytes at all.
 */
typedef struct whittle_pack_sizes {
  size_t packed_bytes;
  size_t scratch_bytes;
} whittle_pack_sizes;
whittle_pack_sizes whittle_pack_size(const whittle_program* program);
void whittle_pack(const whittle_program* program, void* packed);
whittle_status whittle_run_packed(const whittle_program* program, const void* packed, void* scratch, void* arena,
                                  size_t arena_bytes);

/* Where in the arena an input or output lies, and its bytes if `bytes` is not null. Null if there is none of that
 * number. */
uint32_t whittle_input_count(const whittle_program* program);
uint32_t whittle_output_count(const whittle_program* program);
void* whittle_input(const whittle_program* program, uint32_t number, void* arena, size_t* bytes);
const void* whittle_output(const whittle_program* program, uint32_t number, void* arena, size_t* bytes);

/* What an input or output is: docs/format.md's number of its type (0: there is none of that number), its extents, and
 * for codes the grid that they lie on, real = scale (code - zero_point); else scale and zero_point are 0. */
enum { WHITTLE_S8 = 1, WHITTLE_S16 = 2, WHITTLE_F32 = 4 };
typedef struct whittle_value {
  uint32_t type;
  uint32_t rank;
  uint32_t dims[8]; /* 0 beyond the rank */
  float scale;
  int32_t zero_point;
} whittle_value;
whittle_value whittle_input_value(const whittle_program* program, uint32_t number);
whittle_value whittle_output_value(const whittle_program* program, uint32_t number);

const char* whittle_status_text(whittle_status status);

#ifdef __cplusplus
}
#endif

#endif
