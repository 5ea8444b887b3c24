// Programs changed on purpose: records edited, checksums made right again.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/format.h"

namespace whittle {

using Bytes = std::vector<uint8_t>;

template <class Record>
Record record_at(const Bytes& file, uint64_t offset) {
  return runtime::read<Record>(file.data() + offset);
}
template <class Record>
void put_record(Bytes& file, uint64_t offset, const Record& record) {
  std::memcpy(file.data() + offset, &record, sizeof record);
}

inline runtime::FileHeader header_of(const Bytes& file) { return record_at<runtime::FileHeader>(file, 0); }
inline uint64_t section_at(const Bytes& file, runtime::SectionName name) {
  return header_of(file).sections[name].offset;
}

// Makes all checksums fit, as someone would who means harm.
inline void reseal(Bytes& file) {
  runtime::FileHeader header = header_of(file);
  for (runtime::Section& s : header.sections) {
    if (s.offset <= file.size() && s.bytes <= file.size() - s.offset) {
      s.crc = runtime::crc32c(file.data() + s.offset, s.bytes);
    }
  }
  put_record(file, 0, header);
  const uint64_t at = file.size() - sizeof(runtime::FileTrailer);
  auto trailer = record_at<runtime::FileTrailer>(file, at);
  trailer.header_crc = runtime::crc32c(file.data(), sizeof header);
  put_record(file, at, trailer);
}

template <class Edit>
Bytes edit_header(Bytes file, Edit edit) {
  runtime::FileHeader header = header_of(file);
  edit(header);
  put_record(file, 0, header);
  reseal(file);
  return file;
}
template <class Edit>
Bytes edit_value(Bytes file, uint32_t i, Edit edit) {
  const uint64_t at = section_at(file, runtime::kValues) + i * sizeof(runtime::ValueRecord);
  auto value = record_at<runtime::ValueRecord>(file, at);
  edit(value);
  put_record(file, at, value);
  reseal(file);
  return file;
}
template <class Edit>
Bytes edit_op(Bytes file, uint32_t i, Edit edit) {
  const uint64_t at = section_at(file, runtime::kOps) + i * sizeof(runtime::OpRecord);
  auto op = record_at<runtime::OpRecord>(file, at);
  edit(op);
  put_record(file, at, op);
  reseal(file);
  return file;
}
inline Bytes edit_list(Bytes file, uint32_t i, uint32_t value) {
  put_record(file, section_at(file, runtime::kLists) + i * sizeof(uint32_t), value);
  reseal(file);
  return file;
}
// Number `i`, of type T, of constant value `v`.
template <class T>
Bytes edit_constant(Bytes file, uint32_t v, uint64_t i, T number) {
  const auto value =
      record_at<runtime::ValueRecord>(file, section_at(file, runtime::kValues) + v * sizeof(runtime::ValueRecord));
  put_record(file, section_at(file, runtime::kConstants) + value.offset + i * sizeof(T), number);
  reseal(file);
  return file;
}

}  // namespace whittle
