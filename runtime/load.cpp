// The loader: reads a file that anyone may have written and checks everything that
// running relies on (docs/format.md). After it, run() is blind.
//
// Each check is a line of need(condition, status); the first that fails decides. No
// product is formed before its factors are known to be small enough.

#include "runtime/program.h"

namespace whittle::runtime {

namespace {

constexpr uint32_t kMaxListed = 1u << 16;
constexpr uint64_t kMaxAccumulator = 0x7fffffff;
constexpr uint32_t kMaxPoolTaps = 1u << 22;
constexpr int32_t kMaxBias = 1 << 30;

constexpr bool is_code(Type type) { return type == Type::kS8 || type == Type::kS16; }

// Not NaN.
constexpr bool is_number(uint32_t bits) { return (bits & 0x7fffffff) <= 0x7f800000; }
constexpr bool is_finite(uint32_t bits) { return (bits & 0x7fffffff) < 0x7f800000; }
// a <= b for numbers: as integers their bits rise with the value, or for negative ones fall.
constexpr bool at_most(uint32_t a, uint32_t b) {
  const auto ordered = [](uint32_t bits) {
    const int64_t size = bits & 0x7fffffff;
    return (bits >> 31) != 0 ? -size : size;
  };
  return ordered(a) <= ordered(b);
}

constexpr uint32_t kLowestRatio = (127 - 40) << 23;  // 2^-40 and 2^40 (A16)
constexpr uint32_t kHighestRatio = (127 + 40) << 23;

bool zeros(const uint8_t* bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    if (bytes[i] != 0) {
      return false;
    }
  }
  return true;
}

#if defined(FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
constexpr bool kCompareChecksums = false;  // so that a fuzzer gets past them
#else
constexpr bool kCompareChecksums = true;
#endif

}  // namespace

class Loader {
 public:
  Loader(const uint8_t* bytes, uint64_t size, const LoadOptions& options, Program& program)
      : bytes_(bytes), size_(size), options_(options), p_(program) {}

  Status load() {
    const bool good = check_file() && check_sections() &&
                      need((p_.header_.features & ~options_.features) == 0, Status::kUnsupported) && check_values() &&
                      check_interface() && check_ops() && check_writers() && check_overlaps() &&
                      need(features_ == p_.header_.features, Status::kOp);
    return good ? Status::kOk : status_;
  }

 private:
  bool need(bool condition, Status status) {
    if (!condition) {
      status_ = status;
    }
    return condition;
  }
  bool at(uint32_t record) {
    p_.fault_ = record;
    return true;
  }

  // ---- The file -----------------------------------------------------------------------

  bool check_file() {
    p_ = Program();
    if (!need(size_ >= sizeof(FileHeader) + sizeof(FileTrailer), Status::kTruncated)) {
      return false;
    }
    p_.bytes_ = bytes_;
    p_.header_ = read<FileHeader>(bytes_);
    const FileHeader& h = p_.header_;
    if (!need(same(h.magic, kMagic, sizeof kMagic), Status::kNotAProgram) ||
        !need(h.version == kVersion && h.header_bytes == sizeof(FileHeader), Status::kOtherVersion) ||
        !need(size_ >= h.file_bytes, Status::kTruncated) || !need(size_ == h.file_bytes, Status::kLength)) {
      return false;
    }
    const auto trailer = read<FileTrailer>(bytes_ + size_ - sizeof(FileTrailer));
    return need(trailer.file_bytes == size_ && same(trailer.end_mark, kEndMark, sizeof kEndMark), Status::kLength) &&
           need(checksum_is(trailer.header_crc, bytes_, sizeof(FileHeader)), Status::kChecksum) &&
           need(h.zero == 0, Status::kLayout);
  }

  static bool same(const uint8_t* a, const uint8_t* b, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      if (a[i] != b[i]) {
        return false;
      }
    }
    return true;
  }

  static bool checksum_is(uint32_t stored, const uint8_t* bytes, uint64_t count) {
    return !kCompareChecksums || crc32c(bytes, count) == stored;
  }

  // Sections follow one another with the least padding, up to the trailer.
  bool check_sections() {
    uint64_t end = sizeof(FileHeader);
    for (const Section& s : p_.header_.sections) {
      const uint64_t begin = round_up(end, kSectionAlignment);
      if (!need(s.offset == begin && s.zero == 0 && begin <= size_ && s.bytes <= size_ - begin, Status::kLayout) ||
          !need(zeros(bytes_ + end, begin - end), Status::kLayout) ||
          !need(checksum_is(s.crc, bytes_ + begin, s.bytes), Status::kChecksum)) {
        return false;
      }
      end = begin + s.bytes;
    }
    const uint64_t trailer = round_up(end, kSectionAlignment);
    const Section* s = p_.header_.sections;
    return need(trailer <= size_ && size_ - trailer == sizeof(FileTrailer), Status::kLayout) &&
           need(zeros(bytes_ + end, trailer - end), Status::kLayout) &&
           need(s[kValues].bytes % sizeof(ValueRecord) == 0 && s[kOps].bytes % sizeof(OpRecord) == 0 &&
                    s[kLists].bytes % sizeof(uint32_t) == 0,
                Status::kLayout) &&
           need(s[kValues].bytes / sizeof(ValueRecord) <= kMaxRecords &&
                    s[kOps].bytes / sizeof(OpRecord) <= kMaxRecords &&
                    s[kLists].bytes / sizeof(uint32_t) <= kMaxListed && s[kNames].bytes <= kMaxValueBytes,
                Status::kTooLarge) &&
           need(p_.op_count() >= 1, Status::kLayout) &&
           need(s[kNames].bytes >= 1 && p_.section(kNames)[s[kNames].bytes - 1] == 0, Status::kLayout);
  }

  // A name begins where the names do or behind the end of another.
  bool is_name(uint32_t offset) const {
    return offset < p_.header_.sections[kNames].bytes && (offset == 0 || p_.section(kNames)[offset - 1] == 0);
  }

  // ---- Values -------------------------------------------------------------------------

  bool check_values() {
    uint64_t constants = 0;
    uint64_t arena = 0;
    for (uint32_t i = 0; i < p_.value_count() && at(i); ++i) {
      const ValueRecord v = p_.value(i);
      if (!check_extents(v) ||
          !(v.place == Place::kConstant ? check_constant(v, constants) : check_activation(v, arena))) {
        return false;
      }
    }
    return need(constants == p_.header_.sections[kConstants].bytes, Status::kConstant) &&
           need(p_.arena_bytes() == round_up(arena, kAlignment), Status::kPlan) &&
           need(p_.arena_bytes() <= options_.max_arena_bytes && p_.arena_bytes() <= SIZE_MAX / 2, Status::kTooLarge);
  }

  bool check_extents(const ValueRecord& v) {
    if (!need(width_of(v.type) != 0 && v.rank >= 1 && v.rank <= kMaxRank &&
                  (v.place == Place::kArena || v.place == Place::kConstant) && v.zero == 0 && is_name(v.name),
              Status::kValue)) {
      return false;
    }
    uint64_t bytes = kernels::bytes_of_row(1, width_of(v.type));  // no less than of numbers that share a byte
    for (uint32_t i = 0; i < kMaxRank; ++i) {
      if (!need(i < v.rank ? v.dims[i] >= 1 : v.dims[i] == 0, Status::kValue)) {
        return false;
      }
      bytes *= i < v.rank ? v.dims[i] : 1;  // below 2^31 times 2^32
      if (!need(bytes <= kMaxValueBytes, Status::kValue)) {
        return false;
      }
    }
    return need(v.offset % kAlignment == 0, Status::kValue);
  }

  // `end` is where the constant before it ends.
  bool check_constant(const ValueRecord& v, uint64_t& end) {
    const uint64_t begin = round_up(end, kAlignment);
    const uint64_t all = p_.header_.sections[kConstants].bytes;
    if (!need(v.offset == begin && begin <= all && bytes_of(v) <= all - begin &&
                  zeros(p_.section(kConstants) + end, begin - end),
              Status::kConstant) ||
        !need(v.scale == 0 && v.zero_point == 0 && v.qmin == 0 && v.qmax == 0 && v.first == 0 && v.last == 0,
              Status::kValue)) {
      return false;
    }
    end = begin + bytes_of(v);
    return true;
  }

  bool check_activation(const ValueRecord& v, uint64_t& highest) {
    if (!need(is_code(v.type) || v.type == Type::kF32, Status::kType)) {
      return false;
    }
    const int32_t limit = v.type == Type::kS8 ? 127 : 32767;
    const bool grid = is_code(v.type) ? positive_normal(v.scale) && -limit - 1 <= v.qmin && v.qmin <= v.zero_point &&
                                            v.zero_point <= v.qmax && v.qmax <= limit && v.qmin < v.qmax
                                      : v.scale == 0 && v.zero_point == 0 && v.qmin == 0 && v.qmax == 0;
    if (!need(grid, Status::kGrid) ||
        !need(v.offset <= p_.arena_bytes() && bytes_of(v) <= p_.arena_bytes() - v.offset, Status::kPlan) ||
        !need(v.last <= p_.op_count() && (v.first == kNone || v.first <= v.last), Status::kPlan)) {
      return false;
    }
    const uint64_t end = v.offset + bytes_of(v);
    highest = end > highest ? end : highest;
    return true;
  }

  bool is_activation(uint32_t v) const { return v < p_.value_count() && p_.value(v).place == Place::kArena; }
  bool is_constant(uint32_t v) const { return v < p_.value_count() && p_.value(v).place == Place::kConstant; }

  // ---- Inputs and outputs of the program --------------------------------------------------

  bool check_interface() {
    const FileHeader& h = p_.header_;
    const uint64_t listed = h.sections[kLists].bytes / sizeof(uint32_t);
    if (!need(h.inputs >= 1 && h.outputs >= 1 && h.inputs <= 64 && h.outputs <= 64 && h.inputs + h.outputs <= listed,
              Status::kLayout)) {
      return false;
    }
    for (uint32_t i = 0; i < h.inputs + h.outputs; ++i) {
      const uint32_t v = p_.list(i);
      if (!need(is_activation(v), Status::kLayout) ||
          !need(i < h.inputs ? p_.value(v).first == kNone : p_.value(v).last == p_.op_count(), Status::kPlan)) {
        return false;
      }
      for (uint32_t j = i < h.inputs ? 0 : h.inputs; j < i; ++j) {
        if (!need(p_.list(j) != v, Status::kLayout)) {
          return false;
        }
      }
    }
    uint32_t unwritten = 0;
    for (uint32_t i = 0; i < p_.value_count(); ++i) {
      unwritten += p_.value(i).place == Place::kArena && p_.value(i).first == kNone ? 1 : 0;
    }
    return need(unwritten == h.inputs, Status::kPlan);
  }

  // ---- Ops ------------------------------------------------------------------------------

  bool check_ops() {
    uint32_t listed = p_.header_.inputs + p_.header_.outputs;
    const auto all = static_cast<uint32_t>(p_.header_.sections[kLists].bytes / sizeof(uint32_t));
    for (uint32_t i = 0; i < p_.op_count() && at(i); ++i) {
      const OpRecord op = p_.op(i);
      if (!need(op.inputs_at == listed && op.inputs >= 1 && op.inputs <= all - listed && is_name(op.name),
                Status::kOp)) {
        return false;
      }
      listed += op.inputs;
      if (!check_lives(op, i) || !check_constants_of(op) || !check_kind(op, i)) {
        return false;
      }
    }
    return need(listed == all, Status::kOp);
  }

  bool check_lives(const OpRecord& op, uint32_t i) {
    for (uint32_t k = 0; k < op.inputs; ++k) {
      const uint32_t input = p_.operand(op, k);
      if (!need(is_activation(input), Status::kOp)) {
        return false;
      }
      const ValueRecord v = p_.value(input);
      if (!need((v.first == kNone || v.first < i) && i <= v.last, Status::kPlan)) {
        return false;
      }
    }
    return need(is_activation(op.output), Status::kOp) && need(p_.value(op.output).first == i, Status::kPlan);
  }

  bool check_constants_of(const OpRecord& op) {
    const uint32_t constants[] = {op.weights, op.bias, op.multipliers, op.table, op.bounds};
    for (const uint32_t v : constants) {
      if (!need(v == kNone || is_constant(v), Status::kOp)) {
        return false;
      }
    }
    return true;
  }

  // Which optional fields an op has; all others must be empty.
  struct Uses {
    bool product = false;  // weights, bias and perhaps multipliers, bounds and scratch
    bool groups = false;
    bool window = false;  // kernel, stride, padding
    bool dilation = false;
    bool multipliers = false;  // perhaps
    bool table = false;
    bool limits = false;
    uint32_t parameters = 0;
    uint32_t inputs = 1;  // 0: any number
  };

  bool check_uses(const OpRecord& op, const Uses& uses) {
    const bool window = uses.window ? positive(op.kernel) && positive(op.stride) && at_most_extent(op.padding)
                                    : empty(op.kernel) && empty(op.stride) && empty(op.padding);
    bool parameters = true;
    for (uint32_t i = uses.parameters; i < 5; ++i) {
      parameters = parameters && op.parameters[i] == 0;
    }
    return need(
        (uses.inputs == 0 || op.inputs == uses.inputs) &&
            (uses.product ? op.weights != kNone && op.bias != kNone
                          : op.weights == kNone && op.bias == kNone && op.scratch == kNone && op.bounds == kNone) &&
            (uses.product || uses.multipliers || op.multipliers == kNone) && (uses.table || op.table == kNone) &&
            (uses.groups ? op.groups >= 1 : op.groups == 0) && window &&
            (uses.dilation ? positive(op.dilation) : empty(op.dilation)) &&
            (uses.limits || (op.lo == 0 && op.hi == 0)) && parameters,
        Status::kOp);
  }

  template <uint32_t kCount>
  static bool at_most_extent(const uint32_t (&field)[kCount]) {
    for (const uint32_t x : field) {
      if (x > kMaxExtent) {
        return false;
      }
    }
    return true;
  }
  static bool positive(const uint32_t (&field)[2]) { return field[0] >= 1 && field[1] >= 1 && at_most_extent(field); }
  template <uint32_t kCount>
  static bool empty(const uint32_t (&field)[kCount]) {
    for (const uint32_t x : field) {
      if (x != 0) {
        return false;
      }
    }
    return true;
  }

  bool check_kind(const OpRecord& op, uint32_t i) {
    const ValueRecord x = p_.value(p_.operand(op, 0));
    const ValueRecord y = p_.value(op.output);
    note_features(x.type);
    note_features(y.type);
    switch (op.kind) {
      case OpKind::kConv:
        return check_uses(op, {.product = true, .groups = true, .window = true, .dilation = true, .limits = true}) &&
               check_limits(op, y) && check_conv_shapes(op, x, y) && check_product(op, i, x, y);
      case OpKind::kFullyConnected:
        return check_uses(op, {.product = true, .limits = true}) && check_limits(op, y) &&
               check_fully_connected_shapes(op, x, y) && check_product(op, i, x, y);
      case OpKind::kAdd:
        return check_uses(op, {.limits = true, .parameters = is_code(x.type) ? 3u : 0u, .inputs = 2}) &&
               check_limits(op, y) && check_add(op, x, y);
      case OpKind::kMaxPool:
        return check_uses(op, {.window = true, .limits = true}) && check_limits(op, y) && check_pool(op, x, y) &&
               need(same_grid(x, y), Status::kGrid);
      case OpKind::kAveragePool:
        return check_uses(op, {.window = true, .multipliers = is_code(x.type), .limits = true}) &&
               check_limits(op, y) && check_pool(op, x, y) && check_average(op, x, y);
      case OpKind::kConcat:
        return check_uses(op, {.parameters = 1, .inputs = 0}) && check_concat(op, y);
      case OpKind::kTable:
        return check_uses(op, {.table = true}) && need(x.type == Type::kS8 && y.type == Type::kS8, Status::kType) &&
               need(same_dims(x, y), Status::kShape) && check_table(op.table, Type::kS8);
      case OpKind::kRescale:
        return check_uses(op, {.multipliers = true, .limits = true}) && check_limits(op, y) &&
               need(is_code(x.type) && x.type == y.type, Status::kType) && need(same_dims(x, y), Status::kShape) &&
               check_multipliers(op.multipliers, Type::kU32, 1);
      case OpKind::kSoftmax:
        return check_uses(op, {.table = x.type == Type::kS8, .limits = x.type == Type::kS8}) &&
               need(x.type == y.type && x.type != Type::kS16, Status::kType) && need(same_dims(x, y), Status::kShape) &&
               (x.type != Type::kS8 || check_softmax(op, x, y));
      case OpKind::kLogSoftmax:
        return check_uses(op, {}) && need(x.type == Type::kF32 && y.type == Type::kF32, Status::kType) &&
               need(same_dims(x, y), Status::kShape);
      case OpKind::kReshape:
        return check_uses(op, {}) && need(x.type == y.type, Status::kType) && need(same_grid(x, y), Status::kGrid) &&
               need(elements(x) == elements(y), Status::kShape);
      case OpKind::kQuantize:
        return check_uses(op, {}) && need(x.type == Type::kF32 && is_code(y.type), Status::kType) &&
               need(same_dims(x, y), Status::kShape);
      case OpKind::kDequantize:
        return check_uses(op, {}) && need(is_code(x.type) && y.type == Type::kF32, Status::kType) &&
               need(same_dims(x, y), Status::kShape);
      case OpKind::kActivation:
        return check_uses(op, {.parameters = 2}) && need(x.type == Type::kF32 && y.type == Type::kF32, Status::kType) &&
               need(same_dims(x, y), Status::kShape) &&
               need(op.parameters[0] < 7 && is_finite(op.parameters[1]), Status::kOp);
    }
    return need(false, Status::kOp);
  }

  void note_features(Type type) { features_ |= type == Type::kS8 ? kInt8 : type == Type::kS16 ? kInt16 : kFloat32; }

  // Codes within the output's grid, or numbers.
  bool check_limits(const OpRecord& op, const ValueRecord& y) {
    if (y.type == Type::kF32) {
      return need(is_number(op.lo) && is_number(op.hi) && at_most(op.lo, op.hi), Status::kGrid);
    }
    const auto lo = static_cast<int32_t>(op.lo);
    const auto hi = static_cast<int32_t>(op.hi);
    return need(y.qmin <= lo && lo <= hi && hi <= y.qmax, Status::kGrid);
  }

  static bool same_dims(const ValueRecord& a, const ValueRecord& b) {
    for (uint32_t i = 0; i < kMaxRank; ++i) {
      if (a.dims[i] != b.dims[i]) {
        return false;
      }
    }
    return a.rank == b.rank;
  }
  static bool same_grid(const ValueRecord& a, const ValueRecord& b) {
    return a.type == b.type && a.scale == b.scale && a.zero_point == b.zero_point && a.qmin == b.qmin &&
           a.qmax == b.qmax;
  }

  // One axis of sliding windows (A12).
  bool check_axis(uint32_t in, uint32_t out, uint32_t before, uint32_t after, uint32_t kernel, uint32_t stride,
                  uint32_t dilation) {
    const uint64_t padded = uint64_t{in} + before + after;
    const uint64_t reach = uint64_t{dilation} * (kernel - 1) + 1;
    return need(in <= kMaxExtent && reach <= padded && (padded - reach) / stride + 1 == out, Status::kShape);
  }

  bool check_windows(const OpRecord& op, const ValueRecord& x, uint32_t out_h, uint32_t out_w, uint32_t dilation_h,
                     uint32_t dilation_w) {
    return check_axis(x.dims[1], out_h, op.padding[0], op.padding[2], op.kernel[0], op.stride[0], dilation_h) &&
           check_axis(x.dims[2], out_w, op.padding[1], op.padding[3], op.kernel[1], op.stride[1], dilation_w);
  }

  bool check_conv_shapes(const OpRecord& op, const ValueRecord& x, const ValueRecord& y) {
    const ValueRecord w = p_.value(op.weights);
    return need(x.rank == 4 && y.rank == 4 && w.rank == 4, Status::kShape) &&
           need(x.dims[3] % op.groups == 0 && y.dims[3] % op.groups == 0, Status::kShape) &&
           need(w.dims[0] == y.dims[3] && w.dims[1] == op.kernel[0] && w.dims[2] == op.kernel[1] &&
                    w.dims[3] == x.dims[3] / op.groups && x.dims[0] == y.dims[0],
                Status::kShape) &&
           check_windows(op, x, y.dims[1], y.dims[2], op.dilation[0], op.dilation[1]);
  }

  bool check_fully_connected_shapes(const OpRecord& op, const ValueRecord& x, const ValueRecord& y) {
    const ValueRecord w = p_.value(op.weights);
    return need(y.rank == 2 && w.rank == 2 && x.rank >= 2, Status::kShape) &&
           need(w.dims[0] == y.dims[1] && w.dims[1] == elements(x) / x.dims[0] && x.dims[0] == y.dims[0],
                Status::kShape);
  }

  // Weights, bias, multipliers, scratch and bounds of a conv or fully connected op.
  bool check_product(const OpRecord& op, uint32_t i, const ValueRecord& x, const ValueRecord& y) {
    const ValueRecord w = p_.value(op.weights);
    const uint32_t out = w.dims[0];
    if (!need(x.type == y.type, Status::kType)) {
      return false;
    }
    if (is_code(x.type)) {
      return need(is_weight_code(w.type), Status::kType) && need(op.scratch == kNone, Status::kOp) &&
             check_vector(op.bias, Type::kS32, out) && check_multipliers(op.multipliers, Type::kU32, out) &&
             check_bounds(op, w, x.type == Type::kS8 ? 127 : 32767, x.zero_point);
    }
    if (!check_vector(op.bias, Type::kF32, out) || !check_numbers(op.bias)) {
      return false;
    }
    if (!is_weight_code(w.type)) {
      features_ |= w.type == Type::kF16 ? kHalf : 0;
      return need(w.type == Type::kF32 || w.type == Type::kF16, Status::kType) &&
             need(op.scratch == kNone && op.multipliers == kNone && op.bounds == kNone, Status::kOp);
    }
    if (!check_multipliers(op.multipliers, Type::kF32, out)) {
      return false;
    }
    if (op.scratch == kNone) {
      features_ |= kHybrid;
      return need(op.bounds == kNone, Status::kOp) && check_codes(op, w, [](uint32_t, uint64_t) { return true; });
    }
    features_ |= kDynamic;
    if (!need(is_activation(op.scratch) && op.scratch != op.output, Status::kOp)) {
      return false;
    }
    const ValueRecord s = p_.value(op.scratch);
    return need(s.first == i && s.last == i, Status::kPlan) && need(s.type == Type::kS8, Status::kType) &&
           need(elements(s) == elements(x) / x.dims[0], Status::kShape) && check_bounds(op, w, 127, -128);
  }

  bool check_vector(uint32_t number, Type type, uint32_t count) {
    if (!need(number != kNone, Status::kOp)) {
      return false;
    }
    const ValueRecord v = p_.value(number);
    return need(v.type == type, Status::kType) && need(v.rank == 1 && v.dims[0] == count, Status::kShape);
  }

  uint32_t word(uint32_t number, uint32_t i) const {
    return read<uint32_t>(p_.constant(number) + i * uint64_t{sizeof(uint32_t)});
  }

  bool check_multipliers(uint32_t number, Type type, uint32_t count) {
    if (!check_vector(number, type, count)) {
      return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
      if (!need(positive_normal(word(number, i)), Status::kConstant)) {
        return false;
      }
    }
    return true;
  }

  bool check_numbers(uint32_t number) {
    for (uint32_t i = 0; i < p_.value(number).dims[0]; ++i) {
      if (!need(is_number(word(number, i)), Status::kConstant)) {
        return false;
      }
    }
    return true;
  }

  // A7, from the weights themselves.
  bool check_bounds(const OpRecord& op, const ValueRecord& w, int32_t limit, int32_t zero_point) {
    const bool wide = limit != 127;
    if (!check_vector(op.bounds, wide ? Type::kU64 : Type::kU32, w.dims[0])) {
      return false;
    }
    const int32_t up = limit - zero_point;
    const int32_t down = zero_point + limit + 1;
    const auto farthest = static_cast<uint64_t>(up > down ? up : down);
    return check_codes(op, w, [&](uint32_t o, uint64_t sum) {
      uint64_t bound = farthest * sum;
      if (p_.value(op.bias).type == Type::kS32) {
        const auto bias = static_cast<int32_t>(word(op.bias, o));
        if (!need(-kMaxBias <= bias && bias <= kMaxBias, Status::kConstant)) {
          return false;
        }
        bound += static_cast<uint64_t>(bias < 0 ? -bias : bias);
      }
      return need(p_.bound(op, o) == bound && (wide || bound <= kMaxAccumulator), Status::kBound);
    });
  }

  // Weights without the code that has no opposite, and without bits behind the last of a row; row(o, sum of |code|)
  // looks at each.
  template <class Row>
  bool check_codes(const OpRecord& op, const ValueRecord& w, Row row) {
    const uint64_t count = elements(w) / w.dims[0];
    const uint64_t used = count * width_of(w.type) % 8;  // bits of the last byte; 0: all
    bool good = true;
    kernels::with_rows(p_.codes(op.weights), static_cast<int64_t>(count), [&](const auto& rows) {
      for (uint32_t o = 0; good && o < w.dims[0]; ++o) {
        const auto weights = rows[o];
        good =
            need(used == 0 || static_cast<uint8_t>(weights.bytes[rows.row_bytes - 1]) >> used == 0, Status::kConstant);
        int32_t lowest = 0;
        uint64_t sum = 0;
        for (uint64_t k = 0; k < count; ++k) {
          const int32_t code = weights[static_cast<ptrdiff_t>(k)];
          lowest = code < lowest ? code : lowest;
          sum += static_cast<uint64_t>(code < 0 ? -code : code);
        }
        good = good && need(lowest > weights.kLowest, Status::kConstant) && row(o, sum);
      }
    });
    return good;
  }

  bool check_add(const OpRecord& op, const ValueRecord& x, const ValueRecord& y) {
    const ValueRecord b = p_.value(p_.operand(op, 1));
    if (!need(x.type == y.type && b.type == y.type, Status::kType) ||
        !need(same_dims(x, y) && same_dims(b, y), Status::kShape)) {
      return false;
    }
    if (!is_code(x.type)) {
      return true;
    }
    const uint32_t offset = op.parameters[0] & 0x7fffffff;
    const uint32_t ratios[] = {op.parameters[1], op.parameters[2]};
    for (const uint32_t ratio : ratios) {
      if (!need(kLowestRatio <= ratio && ratio <= kHighestRatio, Status::kGrid)) {
        return false;
      }
    }
    return need(op.parameters[0] == 0 || positive_normal(offset), Status::kGrid);
  }

  bool check_pool(const OpRecord& op, const ValueRecord& x, const ValueRecord& y) {
    const bool flat = y.rank == 2;  // [N, C] for a window that covers the image
    return need(x.type == y.type, Status::kType) && need(x.rank == 4 && (y.rank == 4 || flat), Status::kShape) &&
           need(y.dims[0] == x.dims[0] && y.dims[y.rank - 1] == x.dims[3], Status::kShape) &&
           need(op.padding[0] < op.kernel[0] && op.padding[2] < op.kernel[0] && op.padding[1] < op.kernel[1] &&
                    op.padding[3] < op.kernel[1],
                Status::kShape) &&
           need(uint64_t{op.kernel[0]} * op.kernel[1] <= kMaxPoolTaps, Status::kShape) &&
           check_windows(op, x, flat ? 1 : y.dims[1], flat ? 1 : y.dims[2], 1, 1);
  }

  bool check_average(const OpRecord& op, const ValueRecord& x, const ValueRecord&) {
    return !is_code(x.type) ||
           check_multipliers(op.multipliers, Type::kU32, empty(op.padding) ? 1 : op.kernel[0] * op.kernel[1]);
  }

  bool check_concat(const OpRecord& op, const ValueRecord& y) {
    const uint32_t axis = op.parameters[0];
    if (!need(axis < y.rank, Status::kShape)) {
      return false;
    }
    uint64_t extent = 0;
    for (uint32_t k = 0; k < op.inputs; ++k) {
      ValueRecord x = p_.value(p_.operand(op, k));
      if (!need(x.type == y.type, Status::kType) || !need(same_grid(x, y), Status::kGrid) ||
          !need(x.rank == y.rank, Status::kShape)) {
        return false;
      }
      extent += x.dims[axis];
      x.dims[axis] = y.dims[axis];
      if (!need(same_dims(x, y), Status::kShape)) {
        return false;
      }
    }
    return need(extent == y.dims[axis], Status::kShape);
  }

  bool check_table(uint32_t number, Type type) { return check_vector(number, type, 256); }

  // A22: rows of at most 2^20, a scale 2^-k, a table that falls from 2^24.
  bool check_softmax(const OpRecord& op, const ValueRecord& x, const ValueRecord& y) {
    if (!check_limits(op, y) || !need(x.dims[x.rank - 1] <= 1u << 20, Status::kShape) ||
        !need((y.scale & 0x7fffff) == 0 && y.scale >> 23 <= 127 && y.scale >> 23 >= 127 - 16, Status::kGrid) ||
        !check_table(op.table, Type::kU32)) {
      return false;
    }
    uint32_t before = 1u << 24;
    if (!need(word(op.table, 0) == before, Status::kConstant)) {
      return false;
    }
    for (uint32_t d = 0; d < 256; ++d) {
      const uint32_t here = word(op.table, d);
      if (!need(here <= before, Status::kConstant)) {
        return false;
      }
      before = here;
    }
    return true;
  }

  // ---- The plan ---------------------------------------------------------------------------

  // Every arena value but an input is what the op `first` writes.
  bool check_writers() {
    for (uint32_t i = 0; i < p_.value_count() && at(i); ++i) {
      const ValueRecord v = p_.value(i);
      if (v.place == Place::kArena && v.first != kNone) {
        if (!need(v.first < p_.op_count(), Status::kPlan)) {
          return false;
        }
        const OpRecord op = p_.op(v.first);
        if (!need(op.output == i || op.scratch == i, Status::kPlan)) {
          return false;
        }
      }
    }
    return true;
  }

  bool check_overlaps() {
    for (uint32_t i = 0; i < p_.value_count() && at(i); ++i) {
      const ValueRecord a = p_.value(i);
      for (uint32_t j = 0; a.place == Place::kArena && j < i; ++j) {
        const ValueRecord b = p_.value(j);
        if (b.place == Place::kArena && meet(a, b) &&
            !need(replaces(j, b, i, a) || replaces(i, a, j, b), Status::kPlan)) {
          return false;
        }
      }
    }
    return true;
  }

  // In time and in the arena.
  static bool meet(const ValueRecord& a, const ValueRecord& b) {
    const bool in_time = (a.first == kNone || a.first <= b.last) && (b.first == kNone || b.first <= a.last);
    return in_time && a.offset < b.offset + bytes_of(b) && b.offset < a.offset + bytes_of(a);
  }

  // Does an op that works in place write value `to` over its dying input `from`?
  bool replaces(uint32_t from, const ValueRecord& f, uint32_t to, const ValueRecord& t) const {
    if (t.first == kNone || t.first != f.last || f.offset != t.offset || bytes_of(f) != bytes_of(t)) {
      return false;
    }
    const OpRecord op = p_.op(t.first);
    if (op.output != to || !works_in_place(op.kind)) {
      return false;
    }
    for (uint32_t k = 0; k < op.inputs; ++k) {
      if (p_.operand(op, k) == from) {
        return true;
      }
    }
    return false;
  }

  const uint8_t* bytes_;
  uint64_t size_;
  const LoadOptions& options_;
  Program& p_;
  uint32_t features_ = 0;
  Status status_ = Status::kOk;
};

Status load(const void* bytes, size_t size, const LoadOptions& options, Program& program) {
  if (bytes == nullptr) {
    return Status::kNull;
  }
  if (reinterpret_cast<uintptr_t>(bytes) % kAlignment != 0) {
    return Status::kMisaligned;
  }
  return Loader(static_cast<const uint8_t*>(bytes), size, options, program).load();
}

}  // namespace whittle::runtime
