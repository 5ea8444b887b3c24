// What the statuses mean, in words.

#include "runtime/program.h"

namespace whittle::runtime {

const char* status_text(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kNull:
      return "a pointer is null";
    case Status::kMisaligned:
      return "the program or the arena does not begin at a multiple of 16";
    case Status::kTruncated:
      return "the program is cut off";
    case Status::kNotAProgram:
      return "this is no program: it does not begin with the mark of a .wtl file";
    case Status::kOtherVersion:
      return "the program has a version that this runtime does not know";
    case Status::kLength:
      return "the length of the program is not what it says";
    case Status::kChecksum:
      return "the program is damaged: a checksum differs";
    case Status::kLayout:
      return "the sections of the program are not where they must be";
    case Status::kTooLarge:
      return "the program has too many records or needs more arena than allowed";
    case Status::kValue:
      return "the record of a value is wrong";
    case Status::kConstant:
      return "a constant holds what it must not";
    case Status::kGrid:
      return "a scale, zero-point or limit is not usable";
    case Status::kOp:
      return "the record of an op is wrong";
    case Status::kType:
      return "the types of an op's operands do not go together";
    case Status::kShape:
      return "the shapes of an op's operands do not go together";
    case Status::kPlan:
      return "values overlap in the arena, or one is read when it is not there";
    case Status::kBound:
      return "an accumulator could overflow, or the stored bound is wrong";
    case Status::kUnsupported:
      return "the program needs a feature that this runtime lacks";
    case Status::kArenaTooSmall:
      return "the arena is smaller than the program needs";
  }
  return "unknown status";
}

}  // namespace whittle::runtime
