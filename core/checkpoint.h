// Named tensors and text on disk: the safetensors format, with checksums.
//
// A checkpoint opens in every tool that reads safetensors. Ours additionally
// carries a CRC-32C per tensor and one over the header, so a truncated file or
// a single flipped bit is refused with the file and the place. Files are copied
// in, never mapped, and written so that a crash leaves the old or the new one
// (core/file.h). docs/checkpoint.md is the description of the format.
//
// This is the container; which tensors a model stores is the model's business
// (core/parameter.h). Values are not judged: NaN and infinity are stored and
// loaded as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

enum class Dtype : uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };
std::string_view dtype_name(Dtype dtype);  // "F32", as the format spells it
int64_t dtype_bytes(Dtype dtype);

// One stored tensor: its bytes, little-endian, row-major.
struct StoredTensor {
  Dtype dtype = Dtype::kF32;
  Shape shape;
  std::vector<std::byte> bytes;

  static StoredTensor from(const Tensor& tensor);  // F32 (F64 in the double twin), bit for bit
  static StoredTensor from(const Shape& shape, std::span<const int64_t> values);
  static StoredTensor from(const Shape& shape, std::span<const uint8_t> values);

  // Any dtype, each value rounded to the nearest `real`: in the float build F64
  // loses digits and integers beyond 2^24 do too. BOOL becomes 0 or 1.
  Tensor to_tensor() const;
  std::vector<int64_t> to_integers() const;  // integer dtypes and BOOL only

  friend bool operator==(const StoredTensor&, const StoredTensor&) = default;
};

struct Checkpoint {
  std::map<std::string, StoredTensor> tensors;  // names: not empty, UTF-8, no control characters
  std::map<std::string, std::string> metadata;  // UTF-8; see reserved_metadata()

  // The tensor called `name`; throws if there is none, naming it and what there is.
  const StoredTensor& at(const std::string& name) const;

  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

// Whether a metadata key belongs to the format: "whittle.crc", "whittle.crc.*"
// and "whittle.format". They are refused in a Checkpoint to be encoded, and
// never seen in a decoded one.
bool reserved_metadata(std::string_view key);

struct LoadOptions {
  bool allow_foreign = false;              // accept files without our checksums
  uint64_t max_bytes = uint64_t{1} << 34;  // refuse larger files before reading them
};

std::vector<std::byte> encode_checkpoint(const Checkpoint& checkpoint);
// `source` names the bytes in errors. Allocates at most a small multiple of
// bytes.size() before everything has been checked.
Checkpoint decode_checkpoint(std::span<const std::byte> bytes, std::string_view source,
                             const LoadOptions& options = {});

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint,
                     FileSystem& files = posix_file_system());
Checkpoint load_checkpoint(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION
