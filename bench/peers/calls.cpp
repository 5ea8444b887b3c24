// Times a C function of another library in a loop, so that no figure of a peer holds the time that Python takes to call
// it. Loaded by infer_worker.py.
#include <chrono>
#include <cstdint>

namespace {

using Clock = std::chrono::steady_clock;

template <class Call>
int64_t time_each(Call call, int64_t runs, double* milliseconds) {
  for (int64_t i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    const bool failed = call();
    milliseconds[i] = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    if (failed) {
      return i;
    }
  }
  return runs;
}

}  // namespace

// Both return how many calls went well.
extern "C" {

// ov_infer_request_infer: a status that is 0 if all is well.
int64_t time_status(int32_t (*call)(void*), void* argument, int64_t runs, double* milliseconds) {
  return time_each([=] { return call(argument) != 0; }, runs, milliseconds);
}

// OrtApi::Run: a status that is null if all is well.
int64_t time_ort(const void* (*call)(void*, const void*, const char* const*, const void* const*, uint64_t,
                                     const char* const*, uint64_t, void**),
                 void* session, const char* const* input_name, const void* const* input, const char* const* output_name,
                 void** output, int64_t runs, double* milliseconds) {
  return time_each([=] { return call(session, nullptr, input_name, input, 1, output_name, 1, output) != nullptr; },
                   runs, milliseconds);
}
}
