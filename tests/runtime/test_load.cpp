// Files that are no good: cut off, damaged by a bit, or made to do harm.

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <stdexcept>
#include <string>

#include "tests/runtime/damage.h"
#include "tests/runtime/net.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using runtime::FileHeader;
using runtime::OpKind;
using runtime::OpRecord;
using runtime::Program;
using runtime::Status;
using runtime::Type;
using runtime::ValueRecord;

Status load_status(const Bytes& file) {
  Program program;
  return load(file.data(), file.size(), {}, program);
}

// A file of its own length, so that reading past its end is seen by the sanitizers.
Bytes prefix(const Bytes& file, size_t size) {
  return {file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)};
}

struct SmallFile {
  explicit SmallFile(int64_t largest_weight = 127) : net(small_net(RngKey{.seed = 11}, largest_weight)) {}

  Net net;
  Bytes file = net.finish(false);

  // Ops of small_net, in order.
  static constexpr uint32_t kConv = 0, kDepthwise = 1, kAdd = 2, kMaxPool = 3, kTable = 4, kRescale = 5, kConcat = 6,
                            kAverage = 7, kFullyConnected = 8, kSoftmax = 9, kOps = 10;

  OpRecord op(uint32_t i) const {
    return record_at<OpRecord>(file, section_at(file, runtime::kOps) + i * sizeof(OpRecord));
  }
  uint32_t output(uint32_t i) const { return op(i).output; }
  uint32_t input() const { return net.spec.inputs[0]; }
};

struct Hostile {
  const char* what;
  Status status;
  std::function<Bytes(const SmallFile&)> make;
};

// An edit of one op's record.
std::function<Bytes(const SmallFile&)> op_edit(uint32_t i, std::function<void(OpRecord&)> edit) {
  return [=](const SmallFile& s) { return edit_op(s.file, i, edit); };
}
// An edit of the value that op i writes.
std::function<Bytes(const SmallFile&)> result_edit(uint32_t i, std::function<void(ValueRecord&)> edit) {
  return [=](const SmallFile& s) { return edit_value(s.file, s.output(i), edit); };
}
std::function<Bytes(const SmallFile&)> input_edit(std::function<void(ValueRecord&)> edit) {
  return [=](const SmallFile& s) { return edit_value(s.file, s.input(), edit); };
}
std::function<Bytes(const SmallFile&)> header_edit(std::function<void(FileHeader&)> edit) {
  return [=](const SmallFile& s) { return edit_header(s.file, edit); };
}

using S = SmallFile;
// An edit of the bound of an op's last channel.
Bytes edit_bound(const S& s, uint32_t i, const std::function<uint32_t(uint32_t)>& edit) {
  const uint32_t bounds = s.op(i).bounds;
  Program program;
  REQUIRE(load(s.file.data(), s.file.size(), {}, program) == Status::kOk);
  const uint32_t last = program.value(bounds).dims[0] - 1;
  return edit_constant<uint32_t>(s.file, bounds, last, edit(static_cast<uint32_t>(program.bound(program.op(i), last))));
}
constexpr uint32_t kNan = 0x7fc00000, kInf = 0x7f800000, kDenormal = 1, kMinusOne = 0xbf800000;

const std::vector<Hostile>& hostile_files() {
  static const std::vector<Hostile> files{
      // ---- Header
      {"another magic", Status::kNotAProgram, header_edit([](auto& h) { h.magic[0] = 'W'; })},
      {"a later version", Status::kOtherVersion, header_edit([](auto& h) { h.version = 4; })},
      {"another header size", Status::kOtherVersion, header_edit([](auto& h) { h.header_bytes = 200; })},
      {"a length beyond the file", Status::kTruncated, header_edit([](auto& h) { h.file_bytes += 64; })},
      {"a length short of the file", Status::kLength, header_edit([](auto& h) { h.file_bytes -= 64; })},
      {"reserved bits", Status::kLayout, header_edit([](auto& h) { h.zero = 1; })},
      {"a feature of the future", Status::kUnsupported, header_edit([](auto& h) { h.features |= 1u << 20; })},
      {"a feature it does not need", Status::kOp, header_edit([](auto& h) { h.features |= runtime::kFloat32; })},
      {"without the feature it needs", Status::kOp, header_edit([](auto& h) { h.features = 0; })},
      {"more arena than its values need", Status::kPlan, header_edit([](auto& h) { h.arena_bytes += 16; })},
      {"less arena than its values need", Status::kPlan, header_edit([](auto& h) { h.arena_bytes -= 16; })},
      {"an arena of 2^64", Status::kPlan, header_edit([](auto& h) { h.arena_bytes = ~uint64_t{0}; })},
      {"no inputs", Status::kLayout, header_edit([](auto& h) { h.inputs = 0; })},
      {"no outputs", Status::kLayout, header_edit([](auto& h) { h.outputs = 0; })},
      {"inputs that wrap around", Status::kLayout, header_edit([](auto& h) { h.inputs = 0xffffffff; })},
      {"outputs past the lists", Status::kLayout, header_edit([](auto& h) { h.outputs = 64; })},
      {"more inputs than there are", Status::kPlan, header_edit([](auto& h) { h.inputs = 2; })},
      {"a section offset that wraps", Status::kLayout,
       header_edit([](auto& h) { h.sections[runtime::kOps].offset = ~uint64_t{0} - 63; })},
      {"a section that wraps", Status::kLayout,
       header_edit([](auto& h) { h.sections[runtime::kConstants].bytes = ~uint64_t{0} - 100; })},
      {"overlapping sections", Status::kLayout,
       header_edit([](auto& h) { h.sections[runtime::kOps].offset = h.sections[runtime::kValues].offset; })},
      {"values that are no whole records", Status::kLayout,
       header_edit([](auto& h) { h.sections[runtime::kValues].bytes -= 4; })},
      {"metadata into the trailer", Status::kLayout,
       header_edit([](auto& h) { h.sections[runtime::kMetadata].bytes = 65; })},

      // ---- Values
      {"type 0", Status::kValue, input_edit([](auto& v) { v.type = static_cast<Type>(0); })},
      {"type 10", Status::kValue, input_edit([](auto& v) { v.type = static_cast<Type>(10); })},
      {"an activation of 4 bits", Status::kType, input_edit([](auto& v) { v.type = Type::kS4; })},
      {"an activation of 2 bits", Status::kType, result_edit(S::kConv, [](auto& v) { v.type = Type::kS2; })},
      {"an activation of s32", Status::kType, input_edit([](auto& v) { v.type = Type::kS32; })},
      {"rank 0", Status::kValue, input_edit([](auto& v) { v.rank = 0; })},
      {"rank 9", Status::kValue, input_edit([](auto& v) { v.rank = 9; })},
      {"rank 255", Status::kValue, input_edit([](auto& v) { v.rank = 255; })},
      {"place 2", Status::kValue, input_edit([](auto& v) { v.place = static_cast<runtime::Place>(2); })},
      {"a reserved byte", Status::kValue, input_edit([](auto& v) { v.zero = 1; })},
      {"a name past the names", Status::kValue, input_edit([](auto& v) { v.name = 0x7fffffff; })},
      {"a name from the middle of another", Status::kValue, input_edit([](auto& v) { v.name += 1; })},
      {"an extent of 0", Status::kValue, input_edit([](auto& v) { v.dims[1] = 0; })},
      {"extents beyond the rank", Status::kValue, input_edit([](auto& v) { v.dims[7] = 3; })},
      {"65537 x 65536, which wraps to 65536", Status::kValue, input_edit([](auto& v) {
         v.dims[0] = 1;
         v.dims[1] = 65537;
         v.dims[2] = 65536;
         v.dims[3] = 1;
       })},
      {"2^32 - 1 four times", Status::kValue,
       input_edit([](auto& v) { v.dims[0] = v.dims[1] = v.dims[2] = v.dims[3] = 0xffffffff; })},
      {"eight extents of 2^8", Status::kValue, input_edit([](auto& v) {
         v.rank = 8;
         for (uint32_t& d : v.dims) {
           d = 256;
         }
       })},
      {"a scale of 0", Status::kGrid, input_edit([](auto& v) { v.scale = 0; })},
      {"a negative scale", Status::kGrid, input_edit([](auto& v) { v.scale = kMinusOne; })},
      {"a scale that is NaN", Status::kGrid, input_edit([](auto& v) { v.scale = kNan; })},
      {"an infinite scale", Status::kGrid, input_edit([](auto& v) { v.scale = kInf; })},
      {"a subnormal scale", Status::kGrid, input_edit([](auto& v) { v.scale = kDenormal; })},
      {"a zero-point beyond the codes", Status::kGrid, input_edit([](auto& v) { v.zero_point = 128; })},
      {"a zero-point of -2^31", Status::kGrid, input_edit([](auto& v) { v.zero_point = INT32_MIN; })},
      {"qmin above qmax", Status::kGrid, input_edit([](auto& v) { v.qmin = v.qmax + 1; })},
      {"qmax beyond 8 bits", Status::kGrid, input_edit([](auto& v) { v.qmax = 32767; })},
      {"a crooked offset", Status::kValue, input_edit([](auto& v) { v.offset += 4; })},
      {"an offset outside the arena", Status::kPlan, input_edit([](auto& v) { v.offset = 1 << 20; })},
      {"an offset that wraps", Status::kPlan, input_edit([](auto& v) { v.offset = ~uint64_t{0} - 15; })},
      {"a life beyond the last op", Status::kPlan, input_edit([](auto& v) { v.last = S::kOps + 1; })},
      {"a life that ends before it begins", Status::kPlan,
       result_edit(S::kMaxPool, [](auto& v) { v.last = S::kMaxPool - 1; })},
      {"a life that ends before the last reader", Status::kPlan,
       result_edit(S::kConv, [](auto& v) { v.last = S::kConv; })},
      {"an output that is not kept", Status::kPlan,
       result_edit(S::kSoftmax, [](auto& v) { v.last = S::kOps - 1; })},
      {"a value that another op writes", Status::kPlan,
       result_edit(S::kConv, [](auto& v) { v.first = S::kDepthwise; })},
      {"a value that nobody writes", Status::kPlan,
       result_edit(S::kConv, [](auto& v) { v.first = runtime::kNone; })},
      {"an input that an op writes", Status::kPlan, input_edit([](auto& v) { v.first = 0; })},
      {"a constant with a grid", Status::kValue,
       [](const S& s) { return edit_value(s.file, s.op(S::kConv).weights, [](auto& v) { v.scale = 0x3f800000; }); }},
      {"a constant before its place", Status::kConstant,
       [](const S& s) { return edit_value(s.file, s.op(S::kDepthwise).weights, [](auto& v) { v.offset -= 16; }); }},
      {"a constant past the end", Status::kConstant,
       [](const S& s) { return edit_value(s.file, s.op(S::kSoftmax).table, [](auto& v) { v.dims[0] = 257; }); }},
      {"bytes between constants", Status::kConstant,
       [](const S& s) {
         Bytes file = s.file;  // the first constant has 108 bytes, so 4 of padding follow
         file[section_at(file, runtime::kConstants) + 109] = 1;
         reseal(file);
         return file;
       }},
      {"two values at one place", Status::kPlan,
       [](const S& s) {
         const auto at = record_at<ValueRecord>(
             s.file, section_at(s.file, runtime::kValues) + s.output(S::kConv) * sizeof(ValueRecord));
         return edit_value(s.file, s.output(S::kDepthwise), [&](auto& v) { v.offset = at.offset; });
       }},

      // ---- References
      {"an op that reads its own result", Status::kPlan,
       [](const S& s) { return edit_list(s.file, s.op(S::kConv).inputs_at, s.output(S::kConv)); }},
      {"an op that reads a later result", Status::kPlan,
       [](const S& s) { return edit_list(s.file, s.op(S::kDepthwise).inputs_at, s.output(S::kMaxPool)); }},
      {"an op that reads value 2^32 - 1", Status::kOp,
       [](const S& s) { return edit_list(s.file, s.op(S::kConv).inputs_at, 0xffffffff); }},
      {"an op that reads a constant", Status::kOp,
       [](const S& s) { return edit_list(s.file, s.op(S::kConv).inputs_at, s.op(S::kConv).weights); }},
      {"a program whose input is a constant", Status::kLayout,
       [](const S& s) { return edit_list(s.file, 0, s.op(S::kConv).weights); }},
      {"a program whose output is an early value", Status::kPlan,
       [](const S& s) { return edit_list(s.file, 1, s.output(S::kConv)); }},
      {"two ops that write one value", Status::kPlan,
       [](const S& s) {
         const uint32_t taken = s.output(S::kConv);
         return edit_op(s.file, S::kDepthwise, [&](auto& op) { op.output = taken; });
       }},
      {"a constant as a result", Status::kOp,
       op_edit(S::kConv, [](auto& op) { op.output = op.weights; })},
      {"an activation as weights", Status::kOp, op_edit(S::kConv, [](auto& op) { op.weights = op.output; })},
      {"weights past the values", Status::kOp, op_edit(S::kConv, [](auto& op) { op.weights = 5000; })},
      {"no weights", Status::kOp, op_edit(S::kConv, [](auto& op) { op.weights = runtime::kNone; })},
      {"no bias", Status::kOp, op_edit(S::kConv, [](auto& op) { op.bias = runtime::kNone; })},
      {"no multipliers", Status::kOp, op_edit(S::kConv, [](auto& op) { op.multipliers = runtime::kNone; })},
      {"no table", Status::kOp, op_edit(S::kTable, [](auto& op) { op.table = runtime::kNone; })},
      {"a table it has no use for", Status::kOp, op_edit(S::kConv, [](auto& op) { op.table = op.weights; })},
      {"scratch it has no use for", Status::kOp, op_edit(S::kConv, [](auto& op) { op.scratch = op.output; })},
      {"inputs that are someone else's", Status::kOp, op_edit(S::kConv, [](auto& op) { op.inputs_at = 3; })},
      {"no inputs of an op", Status::kOp, op_edit(S::kConv, [](auto& op) { op.inputs = 0; })},
      {"2^32 - 1 inputs", Status::kOp, op_edit(S::kConv, [](auto& op) { op.inputs = 0xffffffff; })},
      {"an addition of one", Status::kOp,
       [](const S& s) { return edit_op(s.file, S::kAdd, [](auto& op) { op.inputs = 1; }); }},
      {"kind 0", Status::kOp, op_edit(S::kConv, [](auto& op) { op.kind = static_cast<OpKind>(0); })},
      {"kind 15", Status::kOp, op_edit(S::kConv, [](auto& op) { op.kind = static_cast<OpKind>(15); })},
      {"kind 2^32 - 1", Status::kOp, op_edit(S::kConv, [](auto& op) { op.kind = static_cast<OpKind>(0xffffffff); })},
      {"an op name past the names", Status::kOp, op_edit(S::kConv, [](auto& op) { op.name = 0xffffffff; })},
      {"a parameter it has no use for", Status::kOp, op_edit(S::kConv, [](auto& op) { op.parameters[4] = 1; })},

      // ---- Geometry
      {"a stride of 0", Status::kOp, op_edit(S::kConv, [](auto& op) { op.stride[0] = 0; })},
      {"a depthwise stride of 0", Status::kOp, op_edit(S::kDepthwise, [](auto& op) { op.stride[1] = 0; })},
      {"a pool stride of 0", Status::kOp, op_edit(S::kMaxPool, [](auto& op) { op.stride[0] = 0; })},
      {"a stride of 2^31", Status::kOp, op_edit(S::kConv, [](auto& op) { op.stride[0] = 1u << 31; })},
      {"a dilation of 0", Status::kOp, op_edit(S::kConv, [](auto& op) { op.dilation[1] = 0; })},
      {"a dilation that is too wide", Status::kShape, op_edit(S::kConv, [](auto& op) { op.dilation[0] = 1u << 24; })},
      {"a kernel of 0", Status::kOp, op_edit(S::kConv, [](auto& op) { op.kernel[0] = 0; })},
      {"a kernel that is not the weights'", Status::kShape, op_edit(S::kConv, [](auto& op) { op.kernel[0] = 2; })},
      {"padding of 2^32 - 1", Status::kOp, op_edit(S::kConv, [](auto& op) { op.padding[0] = 0xffffffff; })},
      {"padding that makes another size", Status::kShape, op_edit(S::kConv, [](auto& op) { op.padding[3] = 9; })},
      {"0 groups", Status::kOp, op_edit(S::kConv, [](auto& op) { op.groups = 0; })},
      {"groups that do not divide", Status::kShape, op_edit(S::kConv, [](auto& op) { op.groups = 2; })},
      {"2^32 - 1 groups", Status::kShape, op_edit(S::kConv, [](auto& op) { op.groups = 0xffffffff; })},
      {"a pool padded by its own size", Status::kShape, op_edit(S::kMaxPool, [](auto& op) { op.padding[0] = 2; })},
      {"a pool of 2^24 x 2^24", Status::kShape,
       op_edit(S::kAverage, [](auto& op) { op.kernel[0] = op.kernel[1] = 1u << 24; })},
      {"a pool larger than the image", Status::kShape, op_edit(S::kMaxPool, [](auto& op) { op.kernel[0] = 7; })},
      {"a result of another height", Status::kShape, result_edit(S::kConv, [](auto& v) { v.dims[1] = 5; })},
      {"a result of another batch", Status::kShape, result_edit(S::kConv, [](auto& v) {
         v.dims[0] = 2;
         v.dims[1] = 3;
       })},
      {"a result of other channels", Status::kShape, result_edit(S::kFullyConnected, [](auto& v) { v.dims[1] = 4; })},
      {"an addition of other extents", Status::kShape, result_edit(S::kAdd, [](auto& v) {
         v.dims[1] = 3;
         v.dims[2] = 12;
       })},
      {"concatenation along axis 9", Status::kShape, op_edit(S::kConcat, [](auto& op) { op.parameters[0] = 9; })},
      {"concatenation along another axis", Status::kShape,
       op_edit(S::kConcat, [](auto& op) { op.parameters[0] = 1; })},
      {"an input of 16 bits", Status::kType, [](const S& s) {
         return edit_value(s.file, s.output(S::kSoftmax), [](auto& v) { v.type = Type::kS16; });
       }},

      // ---- Numbers
      {"limits upside down", Status::kGrid, op_edit(S::kConv, [](auto& op) { op.lo = op.hi + 1; })},
      {"a limit beyond the grid", Status::kGrid, op_edit(S::kConv, [](auto& op) { op.hi = 128; })},
      {"a limit of -2^31", Status::kGrid, op_edit(S::kConv, [](auto& op) { op.lo = 0x80000000; })},
      {"limits it has no use for", Status::kOp, op_edit(S::kTable, [](auto& op) { op.hi = 1; })},
      {"a weight of -128", Status::kConstant,
       [](const S& s) { return edit_constant<int8_t>(s.file, s.op(S::kConv).weights, 5, -128); }},
      {"another weight", Status::kBound,
       [](const S& s) {
         Bytes file = s.file;
         for (uint32_t i = 0; i < 108; ++i) {
           file = edit_constant<int8_t>(file, s.op(S::kConv).weights, i, 127);
         }
         return file;
       }},
      {"a bias beyond 2^30", Status::kConstant,
       [](const S& s) { return edit_constant<int32_t>(s.file, s.op(S::kConv).bias, 0, (1 << 30) + 1); }},
      {"a bias of -2^31", Status::kConstant,
       [](const S& s) { return edit_constant<int32_t>(s.file, s.op(S::kConv).bias, 3, INT32_MIN); }},
      {"a multiplier of 0", Status::kConstant,
       [](const S& s) { return edit_constant<uint32_t>(s.file, s.op(S::kConv).multipliers, 0, 0); }},
      {"a multiplier that is NaN", Status::kConstant,
       [](const S& s) { return edit_constant<uint32_t>(s.file, s.op(S::kConv).multipliers, 3, kNan); }},
      {"a negative multiplier", Status::kConstant,
       [](const S& s) { return edit_constant<uint32_t>(s.file, s.op(S::kAverage).multipliers, 0, kMinusOne); }},
      {"a bound too low", Status::kBound,
       [](const S& s) { return edit_bound(s, S::kConv, [](uint32_t bound) { return bound - 1; }); }},
      {"a bound too high", Status::kBound,
       [](const S& s) { return edit_bound(s, S::kFullyConnected, [](uint32_t bound) { return bound + 1; }); }},
      {"a bound of 2^32 - 1", Status::kBound,
       [](const S& s) { return edit_bound(s, S::kDepthwise, [](uint32_t) { return UINT32_MAX; }); }},
      {"no bounds", Status::kOp, op_edit(S::kConv, [](auto& op) { op.bounds = runtime::kNone; })},
      {"bounds past the values", Status::kOp, op_edit(S::kConv, [](auto& op) { op.bounds = 5000; })},
      {"an activation as bounds", Status::kOp, op_edit(S::kConv, [](auto& op) { op.bounds = op.output; })},
      {"biases as bounds", Status::kType, op_edit(S::kConv, [](auto& op) { op.bounds = op.bias; })},
      {"bounds of another op", Status::kShape,
       [](const S& s) {
         const uint32_t taken = s.op(S::kFullyConnected).bounds;
         return edit_op(s.file, S::kConv, [&](auto& op) { op.bounds = taken; });
       }},
      {"bounds where there is no product", Status::kOp, op_edit(S::kAdd, [](auto& op) { op.bounds = 1; })},
      {"a ratio that is NaN", Status::kGrid, op_edit(S::kAdd, [](auto& op) { op.parameters[1] = kNan; })},
      {"a ratio of 2^-41", Status::kGrid, op_edit(S::kAdd, [](auto& op) { op.parameters[2] = (127 - 41) << 23; })},
      {"a ratio of 0", Status::kGrid, op_edit(S::kAdd, [](auto& op) { op.parameters[1] = 0; })},
      {"a subnormal offset", Status::kGrid, op_edit(S::kAdd, [](auto& op) { op.parameters[0] = 0x80000001; })},
      {"an infinite offset", Status::kGrid, op_edit(S::kAdd, [](auto& op) { op.parameters[0] = kInf; })},
      {"an exponential table that rises", Status::kConstant,
       [](const S& s) { return edit_constant<uint32_t>(s.file, s.op(S::kSoftmax).table, 255, 1u << 24); }},
      {"an exponential table that begins elsewhere", Status::kConstant,
       [](const S& s) { return edit_constant<uint32_t>(s.file, s.op(S::kSoftmax).table, 0, (1u << 24) + 1); }},
      {"softmax onto a scale that is no power of two", Status::kGrid,
       result_edit(S::kSoftmax, [](auto& v) { v.scale += 1; })},
      {"softmax onto a scale of 2", Status::kGrid,
       result_edit(S::kSoftmax, [](auto& v) { v.scale = 0x40000000; })},
      {"a max pool that changes the grid", Status::kGrid, result_edit(S::kMaxPool, [](auto& v) { v.scale += 1; })},
      {"concatenation of two grids", Status::kGrid, result_edit(S::kRescale, [](auto& v) { v.scale += 1; })},
  };
  return files;
}

// The byte at `at` of the stored weights of an op.
Bytes edit_weights(const S& s, uint32_t i, uint64_t at, const std::function<int(int)>& edit) {
  const uint32_t weights = s.op(i).weights;
  const auto value =
      record_at<ValueRecord>(s.file, section_at(s.file, runtime::kValues) + weights * sizeof(ValueRecord));
  const uint8_t byte = s.file[section_at(s.file, runtime::kConstants) + value.offset + at];
  return edit_constant<uint8_t>(s.file, weights, at, static_cast<uint8_t>(edit(byte)));
}

// Of a small file whose weights all have 4 or 2 bits. Rows of its first op have 27 codes: 13.5 or 6.75 bytes.
const std::vector<Hostile>& hostile_narrow_files(uint32_t bits) {
  const auto type_edit = [](uint32_t i, Type type) {
    return [=](const S& s) { return edit_value(s.file, s.op(i).weights, [=](auto& v) { v.type = type; }); };
  };
  const auto conv_edit = [](uint64_t at, std::function<int(int)> edit) {
    return [=](const S& s) { return edit_weights(s, S::kConv, at, edit); };
  };
  static const std::vector<Hostile> of_4{
      {"a weight of -8", Status::kConstant, conv_edit(2, [](int byte) { return (byte & 0xf0) | 0x08; })},
      {"a weight of -8 above another", Status::kConstant, conv_edit(2, [](int byte) { return (byte & 0x0f) | 0x80; })},
      {"the last weight of a row is -8", Status::kConstant, conv_edit(13, [](int) { return 0x08; })},
      {"a bit behind a row", Status::kConstant, conv_edit(13, [](int byte) { return byte | 0x10; })},
      {"the highest bit behind a row", Status::kConstant, conv_edit(27, [](int byte) { return byte | 0x80; })},
      {"another weight", Status::kBound, conv_edit(0, [](int byte) { return (byte & 0x0e) == 0 ? 0x77 : 0; })},
      {"weights said to have 2 bits", Status::kConstant, type_edit(S::kConv, Type::kS2)},
      {"weights said to have 8 bits", Status::kConstant, type_edit(S::kConv, Type::kS8)},
      {"weights said to have 16 bits", Status::kConstant, type_edit(S::kConv, Type::kS16)},
      {"biases of 4 bits", Status::kConstant,
       [](const S& s) { return edit_value(s.file, s.op(S::kConv).bias, [](auto& v) { v.type = Type::kS4; }); }},
      {"2^24 rows of 2^8 codes, which have 2^31 bytes", Status::kValue,
       [](const S& s) {
         return edit_value(s.file, s.op(S::kConv).weights, [](auto& v) {
           v.dims[0] = 1u << 24;
           v.dims[1] = 1u << 8;
         });
       }},
  };
  static const std::vector<Hostile> of_2{
      {"a weight of -2", Status::kConstant, conv_edit(0, [](int byte) { return (byte & 0xfc) | 0x02; })},
      {"a weight of -2 above others", Status::kConstant, conv_edit(3, [](int byte) { return (byte & 0x3f) | 0x80; })},
      {"the last weight of a row is -2", Status::kConstant,
       conv_edit(6, [](int byte) { return (byte & 0x0f) | 0x20; })},
      {"a bit behind a row", Status::kConstant, conv_edit(6, [](int byte) { return byte | 0x40; })},
      {"a code behind a row", Status::kConstant, conv_edit(13, [](int byte) { return byte | 0xc0; })},
      {"another weight", Status::kBound, conv_edit(0, [](int byte) { return byte == 0 ? 0x55 : 0; })},
      {"weights said to have 4 bits", Status::kConstant, type_edit(S::kConv, Type::kS4)},
      {"weights said to have 8 bits", Status::kConstant, type_edit(S::kDepthwise, Type::kS8)},
  };
  return bits == 4 ? of_4 : of_2;
}

void check_hostile(const S& s, const std::vector<Hostile>& files) {
  for (const Hostile& hostile : files) {
    CAPTURE(std::string(hostile.what));
    const Status status = load_status(hostile.make(s));
    CAPTURE(std::string(status_text(status)));
    CHECK(status == hostile.status);
  }
  MESSAGE(files.size() << " files");
}

// Files whose weights have 8, 4 and 2 bits.
constexpr std::array kLargestWeights{127, 7, 1};

}  // namespace

TEST_SUITE("load") {
  TEST_CASE("the file described in docs/format.md") {
    SmallFile s;
    CHECK(load_status(s.file) == Status::kOk);
    const FileHeader h = header_of(s.file);
    CHECK(h.file_bytes == s.file.size());
    CHECK(h.sections[0].offset == sizeof(FileHeader));
    CHECK(runtime::crc32c(reinterpret_cast<const uint8_t*>("123456789"), 9) == 0xe3069283);  // RFC 3720's check value
    CHECK(runtime::crc32c(reinterpret_cast<const uint8_t*>("6789"), 4,
                          runtime::crc32c(reinterpret_cast<const uint8_t*>("12345"), 5)) == 0xe3069283);
    Program program;
    CHECK(load(nullptr, 100, {}, program) == Status::kNull);
    Bytes shifted(s.file.size() + 1);
    std::memcpy(shifted.data() + 1, s.file.data(), s.file.size());
    CHECK(load(shifted.data() + 1, s.file.size(), {}, program) == Status::kMisaligned);
  }

  TEST_CASE("every truncation, and bytes appended, are refused") {
    for (const int largest_weight : kLargestWeights) {
      const SmallFile s(largest_weight);
      int accepted = 0;
      for (size_t size = 0; size < s.file.size(); ++size) {
        const Bytes cut = prefix(s.file, size);
        accepted += size > 0 && load_status(cut) == Status::kOk ? 1 : 0;
      }
      CHECK(accepted == 0);
      for (const size_t more : {size_t{1}, size_t{16}, size_t{64}, s.file.size()}) {
        Bytes longer = s.file;
        longer.resize(s.file.size() + more);
        CHECK(load_status(longer) == Status::kLength);
      }
    }
  }

  TEST_CASE("every flipped bit is refused") {
    for (const int largest_weight : kLargestWeights) {
      Bytes file = SmallFile(largest_weight).file;
      int accepted = 0;
      for (size_t bit = 0; bit < 8 * file.size(); bit += kSanitized ? 7 : 1) {
        const auto mask = static_cast<uint8_t>(1u << bit % 8);
        file[bit / 8] ^= mask;
        accepted += load_status(file) == Status::kOk ? 1 : 0;
        file[bit / 8] ^= mask;
      }
      MESSAGE(8 * file.size() << " bits");
      CHECK(accepted == 0);
      CHECK(load_status(file) == Status::kOk);
    }
  }

  TEST_CASE("hostile files with the right checksums are refused, each for its reason") {
    check_hostile(SmallFile(127), hostile_files());
    check_hostile(SmallFile(7), hostile_narrow_files(4));
    check_hostile(SmallFile(1), hostile_narrow_files(2));
  }

  TEST_CASE("codes of hybrid products are looked at, too") {
    const std::vector<int8_t> codes{7, -7, 1, 0, 3, -1};
    Net net(RngKey{.seed = 3});
    const NetValue x = net.input({1, 3}, Type::kF32);
    NetValue y = net.value("fc", {1, 2}, Type::kF32, {});
    y.numbers = {0, 0};
    const uint32_t weights = net.spec.add_weights("w", {2, 3}, codes);
    net.output(net.add({.kind = OpKind::kFullyConnected,
                        .weights = weights,
                        .bias = net.numbers(Type::kF32, {0, 0}),
                        .multipliers = net.numbers(Type::kF32, {1, 1}),
                        .lo = runtime::bits_of(-1e30f),
                        .hi = runtime::bits_of(1e30f)},
                       {x}, y));
    const Bytes file = net.finish();
    REQUIRE(load_status(file) == Status::kOk);
    CHECK(load_status(edit_constant<uint8_t>(file, weights, 0, 0x87)) == Status::kConstant);  // -8
    CHECK(load_status(edit_constant<uint8_t>(file, weights, 1, 0x11)) == Status::kConstant);  // behind the row
    CHECK(load_status(edit_constant<uint8_t>(file, weights, 1, 0x02)) == Status::kOk);
  }

  // Whatever loads can be run: each word of every record replaced by what breaks things.
  TEST_CASE("a program with any one word of its records replaced is refused, or runs within its arena") {
    const SmallFile s(7);
    int loaded = 0;
    int tried = 0;
    for (const runtime::SectionName name : {runtime::kValues, runtime::kOps, runtime::kLists}) {
      const uint64_t begin = section_at(s.file, name);
      const uint64_t end = begin + header_of(s.file).sections[name].bytes;
      for (uint64_t at = begin; at < end; at += kSanitized ? 12 : 4) {
        const auto old = record_at<uint32_t>(s.file, at);
        for (const uint32_t word : {0u, 1u, 2u, 3u, 16u, 127u, 128u, 0x10000u, 0x7fffffffu, 0x80000000u, 0xffffffffu,
                                    old + 1, old - 1, old * 2, old ^ 0x80000000u, old + 16, old - 16}) {
          Bytes file = s.file;
          put_record(file, at, word);
          reseal(file);
          ++tried;
          if (load_status(file) == Status::kOk) {
            ++loaded;
            REQUIRE_FALSE(run_program(file, s.net.input_bytes, runtime::choose_kernels()).empty());
          }
        }
      }
    }
    MESSAGE(tried << " files, " << loaded << " of them are programs");
    CHECK(loaded > 0);
  }

  TEST_CASE("the builder refuses what the loader would, and names it") {
    const auto reason = [](Net& net) -> std::string {
      try {
        static_cast<void>(net.finish());
      } catch (const std::invalid_argument& error) {
        return error.what();
      }
      return "none";
    };
    SUBCASE("an accumulator that could overflow") {
      Net net(RngKey{.seed = 1});
      const NetValue x = net.input({1, 70000});
      net.spec.values[x.id].grid.zero_point = -128;
      const std::vector<int8_t> weights(70000, 127);
      const std::vector<int32_t> bias{0};
      const NetValue y = net.value("fc", {1, 1}, Type::kS8, net.draw_grid(Type::kS8));
      net.output(net.add({.kind = OpKind::kFullyConnected,
                          .weights = net.spec.add_constant<int8_t>("w", Type::kS8, {1, 70000}, std::span(weights)),
                          .bias = net.spec.add_constant<int32_t>("b", Type::kS32, {1}, std::span(bias)),
                          .multipliers = net.numbers(Type::kU32, {1e-6f}),
                          .lo = runtime::code(-128),
                          .hi = runtime::code(127)},
                         {x}, y));
      CHECK(reason(net).find("an accumulator could overflow") != std::string::npos);
      CHECK(reason(net).find("(op 'fc") != std::string::npos);
    }
    SUBCASE("a scale that is not normal") {
      Net net = small_net(RngKey{.seed = 2});
      net.spec.values[0].grid.scale = 1e-40f;
      CHECK(reason(net) == "[program] a scale, zero-point or limit is not usable (record 0)");
    }
    SUBCASE("a constant of another size") {
      Net net = small_net(RngKey{.seed = 2});
      net.spec.values[net.spec.ops[0].weights].constant.pop_back();
      CHECK(reason(net).find("has 107 bytes, its extents say 108") != std::string::npos);
    }
    SUBCASE("codes that fill no rows") {
      const std::vector<int8_t> codes{1, 2, 3};
      runtime::ProgramSpec spec;
      CHECK_THROWS_WITH_AS(spec.add_weights("w", {2, 2}, codes), "[program] weights 'w' have 3 codes for 2 channels",
                           std::invalid_argument);
    }
    SUBCASE("a reference to nothing") {
      Net net = small_net(RngKey{.seed = 2});
      net.spec.ops[3].inputs[0] = 999;
      CHECK(reason(net).find("names value 999 of ") != std::string::npos);
    }
    SUBCASE("an op without input") {
      Net net = small_net(RngKey{.seed = 2});
      net.spec.ops[3].inputs.clear();
      CHECK(reason(net).find("has no input") != std::string::npos);
    }
    SUBCASE("too many extents") {
      Net net = small_net(RngKey{.seed = 2});
      net.spec.values[0].dims.assign(9, 1);
      CHECK(reason(net).find("has 9 extents, not 1 to 8") != std::string::npos);
    }
  }
}

}  // namespace whittle
