/* Runs a program of one 8-bit input and one 8-bit output on the samples of a file, as a device would: no heap, two
 * arrays.
 *
 *   device PROGRAM.wtl SAMPLES
 */
#include <stdio.h>

#include "runtime/whittle_runtime.h"

static unsigned char program_bytes[1 << 20] __attribute__((aligned(16)));
static unsigned char arena[1 << 16] __attribute__((aligned(16)));

static int stop(const char* what) {
  fprintf(stderr, "device: %s\n", what);
  return 1;
}

int main(int argc, char** argv) {
  FILE* file = argc == 3 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL) {
    return stop("needs a program and a file of samples");
  }
  const size_t size = fread(program_bytes, 1, sizeof program_bytes, file);
  fclose(file);

  whittle_program program;
  whittle_status status = whittle_load(&program, program_bytes, size);
  if (status != 0) {
    return stop(whittle_status_text(status));
  }
  if (whittle_arena_bytes(&program) > sizeof arena) {
    return stop("the program needs a larger arena");
  }

  if (whittle_input_value(&program, 0).type != WHITTLE_S8 || whittle_output_value(&program, 0).type != WHITTLE_S8) {
    return stop("the program does not have 8-bit codes at both ends");
  }

  file = fopen(argv[2], "rb");
  if (file == NULL) {
    return stop("cannot read the samples");
  }
  size_t input_bytes = 0, output_bytes = 0;
  void* const input = whittle_input(&program, 0, arena, &input_bytes);
  const signed char* const output = whittle_output(&program, 0, arena, &output_bytes);
  while (fread(input, 1, input_bytes, file) == input_bytes) {
    status = whittle_run(&program, arena, sizeof arena);
    if (status != 0) {
      return stop(whittle_status_text(status));
    }
    for (size_t i = 0; i < output_bytes; ++i) {
      printf(i == 0 ? "%d" : " %d", output[i]);
    }
    printf("\n");
  }
  fclose(file);
  return 0;
}
