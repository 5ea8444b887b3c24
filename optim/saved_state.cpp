#include "optim/saved_state.h"

#include <cmath>
#include <cstring>
#include <set>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

StoredTensor stored(const Tensor* tensor) { return StoredTensor::from(*tensor); }

StoredTensor stored(const int64_t* count) { return StoredTensor::from(Shape(), std::span(count, 1)); }

StoredTensor stored(const double* number) {
  StoredTensor scalar{.dtype = Dtype::kF64, .shape = Shape(), .bytes = std::vector<std::byte>(sizeof *number)};
  std::memcpy(scalar.bytes.data(), number, sizeof *number);
  return scalar;
}

using Value = std::variant<Tensor, int64_t, double>;

Value loaded(const StoredTensor& from, const Tensor* like, const std::string& op, const std::string& key) {
  require(from.shape == like->shape(), op, "'", key, "' has shape ", from.shape, " in the checkpoint, expected ",
          like->shape());
  return from.to_tensor();
}

Value loaded(const StoredTensor& from, const int64_t* /*like*/, const std::string& op, const std::string& key) {
  require(from.dtype == Dtype::kI64 && from.shape == Shape(), op, "'", key, "' is ", dtype_name(from.dtype), " ",
          from.shape, " in the checkpoint, expected an I64 scalar");
  const int64_t count = from.to_integers().front();
  require(count >= 0, op, "'", key, "' is ", count, " in the checkpoint; a count is not negative");
  return count;
}

Value loaded(const StoredTensor& from, const double* /*like*/, const std::string& op, const std::string& key) {
  double number = 0;
  require(from.dtype == Dtype::kF64 && from.shape == Shape() && from.bytes.size() == sizeof number, op, "'", key,
          "' is ", dtype_name(from.dtype), " ", from.shape, " in the checkpoint, expected an F64 scalar");
  std::memcpy(&number, from.bytes.data(), sizeof number);  // to_tensor() would round it to `real`
  require(std::isfinite(number) && number >= 0, op, "'", key, "' is ", number,
          " in the checkpoint, expected a finite number not below 0");
  return number;
}

}  // namespace

void SavedState::store(Checkpoint& checkpoint) const {
  std::erase_if(checkpoint.tensors, [&](const auto& item) { return item.first.starts_with(prefix_); });
  for (const Entry& entry : entries_) {
    checkpoint.tensors[entry.key] = std::visit([](const auto* target) { return stored(target); }, entry.target);
  }
}

void SavedState::restore(const Checkpoint& checkpoint) const {
  std::set<std::string> known;
  std::vector<Value> values;
  for (const Entry& entry : entries_) {
    const auto found = checkpoint.tensors.find(entry.key);
    require(found != checkpoint.tensors.end(), op_, "the checkpoint has no tensor '", entry.key, "'");
    values.push_back(
        std::visit([&](const auto* target) { return loaded(found->second, target, op_, entry.key); }, entry.target));
    known.insert(entry.key);
  }
  for (const auto& [key, tensor] : checkpoint.tensors) {
    require(!key.starts_with(prefix_) || known.contains(key), op_, "the checkpoint holds '", key,
            "', which belongs to nothing here");
  }
  for (size_t i = 0; i < values.size(); ++i) {
    std::visit([&]<class T>(T* target) { *target = std::move(std::get<T>(values[i])); }, entries_[i].target);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
