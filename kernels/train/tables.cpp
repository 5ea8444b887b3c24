// The reference tables, and the list of all.

#include "kernels/train/tables.h"

#include "kernels/train/table_impl.h"
#include "kernels/train/vec_plain.h"

namespace whittle::kernels {

namespace {

constexpr bool always() { return true; }

constexpr TrainTable<float> kReference = make_train_table<PlainVec<float>>("reference", always);
constexpr TrainTable<double> kReferenceDouble = make_train_table<PlainVec<double>>("reference", always);

const TrainTable<float>* const kFloatTables[] = {
#if defined(WHITTLE_X86_TABLES)
    &kTrainAvx512,
    &kTrainAvx2,
#endif
    &kReference,
};
const TrainTable<double>* const kDoubleTables[] = {&kReferenceDouble};

}  // namespace

TrainTables<float> float_train_tables() {
  return {kFloatTables, static_cast<int>(sizeof(kFloatTables) / sizeof(kFloatTables[0]))};
}
TrainTables<double> double_train_tables() { return {kDoubleTables, 1}; }

}  // namespace whittle::kernels
