// The float kernels that training spends its time in, as one table of functions per
// instruction set.
//
// Each function does a tile of work on the calling thread: it starts no threads,
// allocates nothing and checks nothing. Cutting work into tiles, memory and checks
// are the caller's (core/). All tables are made from the same templates
// (*_impl.h), with another vector type each; `reference` has plain C++ loops in its
// place and exists for double as well, in which the gradients are checked. Tables
// differ in rounding only: in how many partial sums they keep, and in fused
// multiply-adds. For one table and one problem the bits are always the same.
//
// Freestanding: includes nothing hosted.
#pragma once

#include "kernels/train/depthwise.h"
#include "kernels/train/fake_quant.h"
#include "kernels/train/loops.h"
#include "kernels/train/norm.h"
#include "kernels/train/pool.h"
#include "kernels/train/product.h"
#include "kernels/train/winograd.h"

namespace whittle::kernels {

template <class T>
struct TrainTable {
  const char* name;
  bool (*runs_here)();
  ProductKernels<T> product;
  WinogradKernels<T> winograd2;
  WinogradKernels<T> winograd4;
  DepthwiseKernels<T> depthwise;
  LoopKernels<T> loops;
  NormKernels<T> norm;
  PoolKernels<T> pool;
  FakeQuantKernels<T> fake_quant;
};

// All tables of this build, best first; `reference` is the last.
template <class T>
struct TrainTables {
  const TrainTable<T>* const* tables;
  int count;
};
TrainTables<float> float_train_tables();
TrainTables<double> double_train_tables();

}  // namespace whittle::kernels
