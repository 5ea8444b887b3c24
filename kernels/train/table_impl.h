// A whole table for a vector type.
#pragma once

#include "kernels/train/depthwise_impl.h"
#include "kernels/train/fake_quant_impl.h"
#include "kernels/train/loops_impl.h"
#include "kernels/train/norm_impl.h"
#include "kernels/train/pool_impl.h"
#include "kernels/train/product_impl.h"
#include "kernels/train/table.h"
#include "kernels/train/winograd_impl.h"

namespace whittle::kernels {

template <class V>
constexpr TrainTable<typename V::Scalar> make_train_table(const char* name, bool (*runs_here)()) {
  return {name,
          runs_here,
          Products<V>::table(),
          WinogradTransforms<V, Winograd2>::table(),
          WinogradTransforms<V, Winograd4>::table(),
          Depthwise<V>::table(),
          Loops<V>::table(),
          Norms<V>::table(),
          Pools<V>::table(),
          FakeQuants<V>::table()};
}

}  // namespace whittle::kernels
