#include "core/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <sstream>

#include "core/crc.h"
#include "core/error.h"
#include "core/json.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

constexpr const char* kOp = "checkpoint";

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignment = 64;  // of the first data byte in the file

// The format allows 100,000,000 bytes. A header costs memory before its data is
// checked (up to 11 times its size), and 16 MiB describe about 80,000 tensors.
constexpr uint64_t kMaxHeader = uint64_t{1} << 24;

// Every header of ours begins with these bytes and eight hexadecimal digits: the
// checksum of everything before the data, with the digits themselves taken as
// '0'. The place is fixed, so nothing must be parsed, or trusted, to find it.
constexpr std::string_view kPrefix = R"({"__metadata__":{"whittle.crc":")";
constexpr std::string_view kNoDigits = "00000000";
constexpr size_t kDigitsAt = kLengthBytes + kPrefix.size();

constexpr int kDtypes = static_cast<int>(Dtype::kBool) + 1;
constexpr std::string_view kMetadataName = "__metadata__";
constexpr std::string_view kFormatKey = "whittle.format";
constexpr std::string_view kFormat = "1";
constexpr std::string_view kHeaderCrcKey = "whittle.crc";
constexpr std::string_view kTensorCrcKey = "whittle.crc.";  // followed by the tensor's name

// A fuzzer cannot guess checksums; without them it reaches what lies behind.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kVerify = false;
#else
constexpr bool kVerify = true;
#endif

std::string hex(uint32_t value) {
  std::string text(8, '0');
  for (size_t i = 0; i < 8; ++i) {
    text[7 - i] = "0123456789abcdef"[(value >> (4 * i)) & 15];
  }
  return text;
}

// Exactly eight lowercase digits: 'A' is one flipped bit away from 'a'.
std::optional<uint32_t> parse_hex(std::string_view text) {
  uint32_t value = 0;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) {
      return std::nullopt;
    }
    value = (value << 4) | static_cast<uint32_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return text.size() == 8 ? std::optional(value) : std::nullopt;
}

bool is_control(std::string_view text, size_t i) {
  const auto at = [&](size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0U; };
  return at(i) < 0x20 || at(i) == 0x7f || (at(i) == 0xc2 && at(i + 1) >= 0x80 && at(i + 1) < 0xa0);
}

bool has_control(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_control(text, i)) {
      return true;
    }
  }
  return false;
}

// Text of a file nobody has checked yet, made fit for a terminal and a log line.
struct Quote {
  std::string_view text;
  friend std::ostream& operator<<(std::ostream& out, const Quote& quote) {
    constexpr size_t kLongest = 100;
    out << '\'';
    for (size_t i = 0; i < std::min(quote.text.size(), kLongest); ++i) {
      out << (is_control(quote.text, i) ? '?' : quote.text[i]);
    }
    return out << (quote.text.size() > kLongest ? "...'" : "'");
  }
};

std::string to_json(const std::string& text, const char* what) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    fail(kOp, what, " ", Quote{text}, " is not valid UTF-8");
  }
}

uint64_t data_bytes(Dtype dtype, const Shape& shape) {  // at most 2^48 * 8
  return static_cast<uint64_t>(shape.elements() * dtype_bytes(dtype));
}

struct Entry {
  Dtype dtype = Dtype::kF32;
  Shape shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct Header {
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
};

// Reads the JSON of a header in one pass and builds no tree: the grammar is three
// levels deep, and whatever is out of place is refused on the spot. So nesting is
// bounded, duplicate keys are seen, and every number is in range before anything
// is allocated for it.
class HeaderReader final : public Json::json_sax_t {
 public:
  explicit HeaderReader(std::string_view source) : source_(source) {}

  Header header;

  bool start_object(size_t) override {
    if (at_ == At::kRoot) {
      at_ = name_ == kMetadataName ? At::kMetadata : At::kTensor;
      seen_ = 0;
    } else if (at_ == At::kStart) {
      at_ = At::kRoot;
    } else {
      misplaced();
    }
    return true;
  }

  bool end_object() override {
    if (at_ == At::kTensor) {
      for (int field = 0; field < kFields; ++field) {
        check((seen_ & (1 << field)) != 0, "has no '", kFieldNames[static_cast<size_t>(field)], "'");
      }
      const uint64_t needed = data_bytes(entry_->dtype, entry_->shape);
      check(entry_->begin <= entry_->end, "begins at ", entry_->begin, ", after its end at ", entry_->end);
      check(entry_->end - entry_->begin == needed, "has ", entry_->end - entry_->begin, " bytes, but ",
            dtype_name(entry_->dtype), " ", entry_->shape, " needs ", needed);
    }
    at_ = At::kRoot;
    return true;
  }

  bool key(std::string& text) override {
    if (at_ == At::kTensor) {
      field_ = static_cast<int>(std::find(kFieldNames.begin(), kFieldNames.end(), text) - kFieldNames.begin());
      check(field_ < kFields, "has the unknown field ", Quote{text});
      check((seen_ & (1 << field_)) == 0, "has '", text, "' twice");
      seen_ |= 1 << field_;
    } else if (at_ == At::kMetadata) {
      const auto [place, fresh] = header.metadata.emplace(std::move(text), std::string());
      require(fresh, kOp, source_, ": metadata has ", Quote{place->first}, " twice");
      value_ = &place->second;
      name_ = place->first;
    } else {
      name_ = std::move(text);
      if (name_ == kMetadataName) {
        check(!has_metadata_, "appears twice");
        has_metadata_ = true;
      } else {
        check(!name_.empty() && !has_control(name_), "has an empty name or one with control characters");
        const auto [place, fresh] = header.entries.emplace(name_, Entry());
        check(fresh, "appears twice");
        entry_ = &place->second;
      }
    }
    return true;
  }

  bool string(std::string& text) override {
    if (at_ == At::kMetadata) {
      *value_ = std::move(text);
    } else if (at_ == At::kTensor && field_ == kDtypeField) {
      int dtype = 0;
      while (dtype < kDtypes && dtype_name(static_cast<Dtype>(dtype)) != text) {
        ++dtype;
      }
      check(dtype < kDtypes, "has the unsupported dtype ", Quote{text});
      entry_->dtype = static_cast<Dtype>(dtype);
    } else {
      misplaced();
    }
    return true;
  }

  bool start_array(size_t) override {
    if (at_ != At::kTensor || field_ == kDtypeField) {
      misplaced();
    }
    at_ = field_ == kShapeField ? At::kShape : At::kOffsets;
    count_ = 0;
    elements_ = 1;
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (at_ == At::kShape) {
      check(count_ < Shape::kMaxRank, "has a rank above the limit of ", Shape::kMaxRank);
      check(value >= 1, "has a dimension of 0, and empty tensors are not supported");
      check(value <= static_cast<uint64_t>(Shape::kMaxElements / elements_), "has more than 2^48 elements");
      dims_[count_] = static_cast<int64_t>(value);
      elements_ *= dims_[count_++];
    } else if (at_ == At::kOffsets && count_ < 2) {
      (count_++ == 0 ? entry_->begin : entry_->end) = value;
    } else {
      misplaced();
    }
    return true;
  }

  bool end_array() override {
    if (at_ == At::kShape) {
      entry_->shape = Shape(std::span<const int64_t>(dims_).first(count_));
    } else if (count_ != 2) {
      misplaced();
    }
    at_ = At::kTensor;
    return true;
  }

  bool null() override { misplaced(); }
  bool boolean(bool) override { misplaced(); }
  bool number_integer(int64_t) override { misplaced(); }                   // negative
  bool number_float(double, const std::string&) override { misplaced(); }  // or an integer of 2^64 and above
  bool binary(Json::binary_t&) override { misplaced(); }
  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    fail(kOp, source_, ": the header is not valid JSON near file byte ", kLengthBytes + position);
  }

 private:
  enum class At { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };
  enum Field { kDtypeField, kShapeField, kOffsetsField, kFields };
  static constexpr std::array<std::string_view, kFields> kFieldNames = {"dtype", "shape", "data_offsets"};

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    if (!condition) {
      fail(kOp, source_, name_ == kMetadataName ? ": entry " : ": tensor ", Quote{name_}, " ", parts...);
    }
  }

  [[noreturn]] void misplaced() const {
    if (at_ == At::kMetadata) {
      fail(kOp, source_, ": metadata ", Quote{name_}, " is not a string");
    }
    check(at_ != At::kRoot, "is not a JSON object");
    check(field_ != kDtypeField, "has a dtype that is not a string");
    check(field_ != kShapeField, "has a shape that is not a list of positive integers");
    fail(kOp, source_, ": tensor ", Quote{name_}, " has data_offsets that are not two non-negative integers");
  }

  std::string_view source_;
  At at_ = At::kStart;
  bool has_metadata_ = false;
  std::string name_;              // of the tensor, or the metadata key
  std::string* value_ = nullptr;  // of that key
  Entry* entry_ = nullptr;        // of that tensor
  int field_ = 0;
  int seen_ = 0;  // bit f: field f was there
  std::array<int64_t, Shape::kMaxRank> dims_{};
  int64_t elements_ = 1;
  size_t count_ = 0;
};

// Reads and removes the reserved metadata of a file of ours, and compares the
// checksum of every tensor.
void verify_tensors(Header& header, std::span<const std::byte> data, size_t data_at, std::string_view source) {
  auto& metadata = header.metadata;
  const std::string& format = metadata[std::string(kFormatKey)];
  require(format == kFormat, kOp, source, ": this is format ", Quote{format}, ", and this program reads only '",
          kFormat, "'");
  for (const auto& [name, entry] : header.entries) {
    auto stored = metadata.extract(std::string(kTensorCrcKey) + name);
    require(!stored.empty(), kOp, source, ": tensor ", Quote{name}, " has no checksum");
    const auto expected = parse_hex(stored.mapped());
    require(expected.has_value(), kOp, source, ": the checksum of tensor ", Quote{name}, " is not 8 lowercase digits");
    const uint32_t computed = crc32c(data.subspan(entry.begin, entry.end - entry.begin));
    if (kVerify && *expected != computed) {
      fail(kOp, source, ": tensor ", Quote{name}, " (bytes ", data_at + entry.begin, "-", data_at + entry.end,
           "): checksum differs, stored 0x", stored.mapped(), ", computed 0x", hex(computed));
    }
  }
  metadata.erase(std::string(kFormatKey));
  metadata.erase(std::string(kHeaderCrcKey));
  for (const auto& [key, value] : metadata) {
    require(!reserved_metadata(key), kOp, source, ": metadata ", Quote{key}, " belongs to no tensor");
  }
}

}  // namespace

bool reserved_metadata(std::string_view key) {
  return key == kFormatKey || key == kHeaderCrcKey || key.starts_with(kTensorCrcKey);
}

const StoredTensor& Checkpoint::at(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    std::ostringstream present;
    int listed = 0;
    for (auto it = tensors.begin(); it != tensors.end() && listed < 5; ++it) {
      present << (listed++ == 0 ? ": " : ", ") << Quote{it->first};
    }
    fail(kOp, "there is no tensor ", Quote{name}, " among the ", tensors.size(), " of this checkpoint", present.str(),
         tensors.size() > 5 ? ", ..." : "");
  }
  return found->second;
}

std::vector<std::byte> encode_checkpoint(const Checkpoint& checkpoint) {
  auto metadata = checkpoint.metadata;
  for (const auto& [key, value] : metadata) {
    require(!reserved_metadata(key), kOp, "metadata key ", Quote{key}, " belongs to the format");
  }
  metadata.emplace(kFormatKey, kFormat);
  std::string entries;  // std::to_string, because a stream would print numbers as the user's locale has them
  uint64_t end = 0;
  for (const auto& [name, stored] : checkpoint.tensors) {
    require(!name.empty() && !has_control(name) && name != kMetadataName, kOp, Quote{name}, " cannot name a tensor");
    const uint64_t begin = end;
    end += stored.bytes.size();
    require(stored.bytes.size() == data_bytes(stored.dtype, stored.shape), kOp, "tensor ", Quote{name}, ": ",
            dtype_name(stored.dtype), " ", stored.shape, " does not take ", stored.bytes.size(), " bytes");
    metadata.emplace(std::string(kTensorCrcKey) + name, hex(crc32c(stored.bytes)));
    entries += ',' + to_json(name, "tensor name") + R"(:{"dtype":")" + std::string(dtype_name(stored.dtype)) +
               R"(","shape":[)";
    for (const int64_t dim : stored.shape.dims()) {
      entries += (entries.back() == '[' ? "" : ",") + std::to_string(dim);
    }
    entries += R"(],"data_offsets":[)" + std::to_string(begin) + ',' + std::to_string(end) + "]}";
  }

  std::string header = std::string(kPrefix) + std::string(kNoDigits) + '"';
  for (const auto& [key, value] : metadata) {
    header += ',' + to_json(key, "metadata key") + ':' + to_json(value, "the metadata value");
  }
  header += '}' + entries + '}';
  header.resize((header.size() + kLengthBytes + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  require(header.size() <= kMaxHeader, kOp, "the header of ", checkpoint.tensors.size(), " tensors needs ",
          header.size(), " bytes, above the limit of ", kMaxHeader);

  std::vector<std::byte> file(kLengthBytes);
  file.reserve(kLengthBytes + header.size() + end);
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, kLengthBytes);
  const auto append = [&](std::span<const std::byte> bytes) { file.insert(file.end(), bytes.begin(), bytes.end()); };
  append(std::as_bytes(std::span(header)));
  std::memcpy(file.data() + kDigitsAt, hex(crc32c(file)).data(), kNoDigits.size());
  for (const auto& [name, stored] : checkpoint.tensors) {
    append(stored.bytes);
  }
  return file;
}

Checkpoint decode_checkpoint(std::span<const std::byte> bytes, std::string_view source, const LoadOptions& options) {
  // The frame: where the header ends.
  require(bytes.size() >= kLengthBytes, kOp, source, ": the file ends after ", bytes.size(),
          " bytes, too short for a safetensors file");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  require(length <= kMaxHeader, kOp, source, ": is no safetensors file, or a damaged one: its header would take ",
          length, " bytes, which is above the limit of ", kMaxHeader);
  const size_t data_at = kLengthBytes + length;
  require(data_at <= bytes.size(), kOp, source, ": the file ends after ", bytes.size(), " bytes, inside a header of ",
          length);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  require(text.starts_with('{'), kOp, source, ": the header does not begin with '{'");

  // Our own checksum, before anything in the header is believed.
  const bool ours = text.starts_with(kPrefix) && text.size() >= kPrefix.size() + kNoDigits.size();
  require(ours || options.allow_foreign, kOp, source,
          ": there are no checksums: the header is damaged, or the file is foreign (allow_foreign loads it unchecked)");
  if (ours) {
    const std::string_view digits = text.substr(kPrefix.size(), kNoDigits.size());
    const auto stored = parse_hex(digits);
    require(stored.has_value(), kOp, source, ": the header checksum is not 8 lowercase hexadecimal digits");
    uint32_t computed = crc32c(bytes.first(kDigitsAt));
    computed = crc32c(std::as_bytes(std::span(kNoDigits)), computed);
    computed = crc32c(bytes.first(data_at).subspan(kDigitsAt + kNoDigits.size()), computed);
    if (kVerify && *stored != computed) {
      fail(kOp, source, ": header (bytes 0-", data_at, "): checksum differs, stored 0x", digits, ", computed 0x",
           hex(computed));
    }
  }

  require(text.find('\0') == text.npos, kOp, source, ": the header holds a zero byte");  // would end the JSON
  HeaderReader reader(source);
  Json::sax_parse(text.begin(), text.end(), &reader);
  Header& header = reader.header;

  // Tensors in file order, each beginning where the one before it ends.
  std::vector<const std::pair<const std::string, Entry>*> order;
  order.reserve(header.entries.size());
  for (const auto& entry : header.entries) {
    order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->second.begin < b->second.begin; });
  uint64_t end = 0;
  for (const auto* item : order) {
    const Entry& entry = item->second;
    require(entry.begin == end, kOp, source, ": tensor ", Quote{item->first}, " begins at data byte ", entry.begin,
            entry.begin < end ? ", overlapping" : ", leaving a hole after", " the tensor before it, which ends at ",
            end);
    end = entry.end;
  }
  require(end <= bytes.size() - data_at, kOp, source, ": the file ends after ", bytes.size(),
          " bytes, the header says ", data_at + end);
  require(end == bytes.size() - data_at, kOp, source, ": ", bytes.size() - data_at - end,
          " bytes follow the last tensor, which ends at ", data_at + end);

  if (ours) {
    verify_tensors(header, bytes.subspan(data_at), data_at, source);
  } else {
    // One flipped bit in our prefix makes a file look foreign; "whittle.format" gives it away.
    for (const auto& [key, value] : header.metadata) {
      require(!key.starts_with("whittle."), kOp, source, ": metadata ", Quote{key},
              " appears without the header checksum: damaged, or rewritten by another program");
    }
  }

  Checkpoint checkpoint{.tensors = {}, .metadata = std::move(header.metadata)};
  for (const auto& [name, entry] : header.entries) {
    const auto data = bytes.subspan(data_at + entry.begin, entry.end - entry.begin);
    checkpoint.tensors[name] = {.dtype = entry.dtype, .shape = entry.shape, .bytes = {data.begin(), data.end()}};
  }
  return checkpoint;
}

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint, FileSystem& files) {
  replace_file(path, encode_checkpoint(checkpoint), files);
}

Checkpoint load_checkpoint(const std::filesystem::path& path, const LoadOptions& options) {
  return decode_checkpoint(read_file(path, options.max_bytes), path.string(), options);
}

}  // namespace whittle::inline WHITTLE_PRECISION
