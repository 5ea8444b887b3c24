// Fake quantization: values moved to the nearest ones that a grid holds, and gradients
// that pass as if nothing had happened. Which grid, and whence it comes, quant/ decides.

#include <cmath>

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// A tensor's runs, in tiles: a part of one long run, or several short ones.
struct Runs {
  int64_t count, length;
  int64_t tiles_per_run, runs_per_tile;

  Runs(const Shape& shape, const Grids& grids)
      : count(static_cast<int64_t>(grids.size())),
        length(shape.elements() / count),
        tiles_per_run((length + kElementGrain - 1) / kElementGrain),
        runs_per_tile(std::max<int64_t>(1, kElementGrain / length)) {}

  // body(run, first element, how many, piece): pieces count up through all runs, tiles_per_run in each.
  template <class Body>
  void for_each_piece(Body body) const {
    if (tiles_per_run > 1) {
      parallel_for(count * tiles_per_run, [&](int64_t piece) {
        const int64_t begin = piece % tiles_per_run * kElementGrain;
        const int64_t run = piece / tiles_per_run;
        body(run, run * length + begin, std::min(kElementGrain, length - begin), piece);
      });
      return;
    }
    parallel_ranges(count, runs_per_tile, [&](int64_t begin, int64_t end) {
      for (int64_t run = begin; run < end; ++run) {
        body(run, run * length, length, run);
      }
    });
  }
};

void check_grids(const char* op, const Variable& x, const GridsPtr& grids) {
  require_defined(op, x);
  require(grids != nullptr && !grids->empty() && x.value().elements() % static_cast<int64_t>(grids->size()) == 0, op,
          "input ", x.shape(), " does not divide into ", grids == nullptr ? 0 : grids->size(), " runs, one per grid");
  for (const Grid& grid : *grids) {
    require(std::isnormal(grid.scale) && grid.scale > 0, op, "scale ", grid.scale, " is not a positive normal number");
    require(grid.qmin < grid.qmax && grid.qmin <= grid.zero_point && grid.zero_point <= grid.qmax, op, "codes [",
            grid.qmin, ", ", grid.qmax, "] with zero-point ", grid.zero_point, " are no grid");
  }
}

// Op and gradient; `scale` undefined: constants.
Variable on_grids(const char* op, const Variable& x, const Variable& scale, const GridsPtr& grids, real scale_factor) {
  check_grids(op, x, grids);
  const Runs runs(x.shape(), *grids);
  Tensor y = Tensor::empty(x.shape());
  runs.for_each_piece([&](int64_t run, int64_t first, int64_t n, int64_t) {
    train_kernels().fake_quant.apply(x.value().data() + first, n, (*grids)[static_cast<size_t>(run)],
                                     y.mutable_data() + first);
  });
  return make_op(
             op, std::move(y), {x, scale},
             [x = x.value(), grids, runs, scale_factor, want_scale = scale.requires_grad(),
              scale_shape = scale.defined() ? scale.shape() : Shape{}](const Tensor& g) -> Gradients {
               Gradients grads(2);
               grads[0] = Tensor::empty(x.shape());
               std::vector<double, PoolAllocator<double>> sums(static_cast<size_t>(runs.count * runs.tiles_per_run));
               runs.for_each_piece([&](int64_t run, int64_t first, int64_t n, int64_t piece) {
                 sums[static_cast<size_t>(piece)] = train_kernels().fake_quant.gradient(
                     g.data() + first, x.data() + first, n, (*grids)[static_cast<size_t>(run)],
                     grads[0].mutable_data() + first);
               });
               if (want_scale) {
                 grads[1] = Tensor::empty(scale_shape);
                 for (int64_t run = 0; run < runs.count; ++run) {
                   double sum = 0;
                   for (int64_t tile = 0; tile < runs.tiles_per_run; ++tile) {
                     sum += sums[static_cast<size_t>(run * runs.tiles_per_run + tile)];
                   }
                   grads[1].mutable_data()[run] = static_cast<real>(sum) * scale_factor;
                 }
               }
               return grads;
             })
      .on(grids);
}

}  // namespace

Variable fake_quant(const Variable& x, const GridsPtr& grids) { return on_grids("fake_quant", x, {}, grids, 0); }

Variable fake_quant_learned(const Variable& x, const Variable& scale, const GridsPtr& grids, real scale_factor) {
  constexpr char kOp[] = "fake_quant_learned";
  require_defined(kOp, scale);
  require(grids != nullptr && scale.value().elements() == static_cast<int64_t>(grids->size()), kOp, "scales of shape ",
          scale.shape(), " for ", grids == nullptr ? 0 : grids->size(), " grids");
  Grids scaled = *grids;
  for (size_t i = 0; i < scaled.size(); ++i) {
    scaled[i].scale = static_cast<float>(scale.value().data()[i]);
  }
  return on_grids(kOp, x, scale, make_grids(std::move(scaled)), scale_factor);
}

}  // namespace whittle::inline WHITTLE_PRECISION
