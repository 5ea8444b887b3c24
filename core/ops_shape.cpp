// Moving elements about: reshape, transpose, concat, slice, pad.
//
// No arithmetic here. Everything but reshape copies, in the longest runs that are
// contiguous on both sides.

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/pool.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

Variable reshaped(const char* op, const Variable& x, const Shape& shape) {
  return make_op(op, x.value().reshape(shape), {x},
                 [from = x.shape()](const Tensor& g) -> Gradients { return {g.reshape(from)}; })
      .on(x.grids());
}

// One grid for all of x is one for any selection of it.
GridsPtr single(const GridsPtr& grids) { return grids != nullptr && grids->size() == 1 ? grids : nullptr; }

}  // namespace

Variable reshape(const Variable& x, const Shape& shape) {
  require_defined("reshape", x);
  return reshaped("reshape", x, shape);  // Tensor::reshape checks the sizes, by the same name
}

Variable flatten(const Variable& x) {
  require_defined("flatten", x);
  require(x.shape().rank() >= 1, "flatten", "input has shape ", x.shape(), ", expected [N,...]");
  const int64_t n = x.shape()[0];
  return reshaped("flatten", x, {n, x.shape().elements() / n});
}

namespace {

// A permutation of axes: axes[i] is the axis of x that becomes axis i.
using Axes = std::array<int, Shape::kMaxRank>;

Shape permuted(const Shape& shape, const Axes& axes) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  const size_t rank = shape.dims().size();
  for (size_t i = 0; i < rank; ++i) {
    dims[i] = shape[axes[i]];
  }
  return Shape(std::span<const int64_t>(dims.data(), rank));
}

// An axis of the result: its extent, and how far apart neighbours lie on both sides.
struct Step {
  int64_t extent = 1;
  int64_t in = 1;
  int64_t out = 1;
};
using Steps = std::vector<Step, PoolAllocator<Step>>;

// The axes of the result, innermost first, without those of extent 1 and with
// neighbours merged that are neighbours in x as well.
Steps steps_of(const Shape& x, const Shape& result, const Axes& axes) {
  const auto strides = x.strides();
  Steps steps;
  int64_t out = 1;
  for (int i = x.rank() - 1; i >= 0; --i) {
    const Step step{result[i], strides[static_cast<size_t>(axes[static_cast<size_t>(i)])], out};
    if (step.extent > 1 && !steps.empty() && step.in == steps.back().in * steps.back().extent) {
      steps.back().extent *= step.extent;
    } else if (step.extent > 1) {
      steps.push_back(step);
    }
    out *= step.extent;
  }
  return steps;
}

// Removes the step at `position` and returns it; a single element if there is none.
Step take(Steps& steps, Steps::iterator position) {
  Step step;
  if (position != steps.end()) {
    step = *position;
    steps.erase(position);
  }
  return step;
}

Tensor transposed(const Tensor& x, const Axes& axes) {
  Tensor y = Tensor::empty(permuted(x.shape(), axes));
  // Two axes make a matrix: `across` is contiguous in the result, `down` in x. If
  // the innermost axis stays innermost it is both, and the matrix has one row.
  Steps outer = steps_of(x.shape(), y.shape(), axes);
  const Step across = take(outer, outer.begin());
  const Step down = take(outer, std::ranges::find(outer, 1, &Step::in));
  int64_t matrices = 1;
  for (const Step& step : outer) {
    matrices *= step.extent;
  }

  // Copied in blocks whose rows and columns stay in the cache; a row that is
  // contiguous on both sides is copied whole.
  constexpr int64_t kBlock = 32;
  const int64_t block_rows = std::min(kBlock, down.extent);
  const int64_t block_cols = across.in == 1 ? across.extent : std::min(kBlock, across.extent);
  const int64_t blocks_down = (down.extent + block_rows - 1) / block_rows;
  const int64_t blocks_across = (across.extent + block_cols - 1) / block_cols;
  const auto copy_block = [&, from = x.data(), to = y.mutable_data()](int64_t block) {
    const int64_t col = block % blocks_across * block_cols;
    const int64_t row = block / blocks_across % blocks_down * block_rows;
    const real* in = from + row + col * across.in;
    real* out = to + row * down.out + col;
    int64_t matrix = block / blocks_across / blocks_down;
    for (const Step& step : outer) {
      in += matrix % step.extent * step.in;
      out += matrix % step.extent * step.out;
      matrix /= step.extent;
    }
    const int64_t rows = std::min(block_rows, down.extent - row);
    const int64_t cols = std::min(block_cols, across.extent - col);
    if (across.in == 1) {
      std::copy_n(in, cols, out);
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        out[r * down.out + c] = in[r + c * across.in];
      }
    }
  };
  parallel_rows(matrices * blocks_down * blocks_across, block_rows * block_cols, copy_block);
  return y;
}

}  // namespace

Variable transpose(const Variable& x, std::span<const int> axes) {
  require_defined("transpose", x);
  require(static_cast<int>(axes.size()) == x.shape().rank(), "transpose", axes.size(), " axes given for shape ",
          x.shape());
  Axes forward{};
  Axes inverse{};
  inverse.fill(-1);
  for (size_t i = 0; i < axes.size(); ++i) {
    forward[i] = x.shape().normal_axis(axes[i], "transpose");
    int& source = inverse[static_cast<size_t>(forward[i])];
    require(source < 0, "transpose", "axis ", axes[i], " is named twice for shape ", x.shape());
    source = static_cast<int>(i);
  }
  return make_op("transpose", transposed(x.value(), forward), {x},
                 [inverse](const Tensor& g) -> Gradients { return {transposed(g, inverse)}; });
}

Variable transpose(const Variable& x, std::initializer_list<int> axes) {
  return transpose(x, std::span(axes.begin(), axes.size()));
}

namespace {

// A number of runs of `length` elements, `stride` apart.
template <class Pointer>
struct Runs {
  Pointer data;
  int64_t stride;
};
void copy_runs(int64_t count, int64_t length, Runs<const real*> from, Runs<real*> to) {
  parallel_rows(count, length,
                [=](int64_t i) { std::copy_n(from.data + i * from.stride, length, to.data + i * to.stride); });
}

// Elements inside one step along `axis`.
int64_t inside(const Shape& shape, int axis) { return shape.elements(axis + 1, shape.rank()); }

// Copies the whole of `part` into `whole` from index `begin` of `axis` on.
void insert(const Tensor& part, int axis, int64_t begin, Tensor& whole) {
  const int64_t step = inside(whole.shape(), axis);
  const int64_t length = part.dim(axis) * step;
  copy_runs(whole.shape().elements(0, axis), length, {part.data(), length},
            {whole.mutable_data() + begin * step, whole.dim(axis) * step});
}

// The part of `whole` in [begin, begin + extent) of `axis`.
Tensor extracted(const Tensor& whole, int axis, int64_t begin, int64_t extent) {
  Tensor part = Tensor::empty(whole.shape().with(axis, extent));
  const int64_t step = inside(whole.shape(), axis);
  copy_runs(whole.shape().elements(0, axis), extent * step, {whole.data() + begin * step, whole.dim(axis) * step},
            {part.mutable_data(), extent * step});
  return part;
}

}  // namespace

Variable concat(std::span<const Variable> parts, int axis) {
  require(!parts.empty(), "concat", "nothing to join");
  for (const Variable& part : parts) {
    require_defined("concat", part);
  }
  const Shape& first = parts[0].shape();
  const int along = first.normal_axis(axis, "concat");
  int64_t extent = 0;
  for (const Variable& part : parts) {
    require(part.shape().rank() == first.rank() && part.shape().with(along, first[along]) == first, "concat", "shapes ",
            first, " and ", part.shape(), " differ in more than axis ", along);
    extent += part.shape()[along];
  }
  struct Part {
    int64_t extent;
    bool wanted;
  };
  std::vector<Part, PoolAllocator<Part>> cuts;
  Tensor y = Tensor::empty(first.with(along, extent));
  int64_t begin = 0;
  for (const Variable& part : parts) {
    insert(part.value(), along, begin, y);
    cuts.push_back({part.shape()[along], part.requires_grad()});
    begin += cuts.back().extent;
  }
  const GridsPtr grids = single(parts[0].grids());
  const bool shared = std::ranges::all_of(parts, [&](const Variable& part) { return same_grids(part.grids(), grids); });
  return make_op("concat", std::move(y), parts,
                 [cuts = std::move(cuts), along](const Tensor& g) -> Gradients {
                   Gradients grads;
                   int64_t from = 0;
                   for (const Part& cut : cuts) {
                     grads.push_back(cut.wanted ? extracted(g, along, from, cut.extent) : Tensor());
                     from += cut.extent;
                   }
                   return grads;
                 })
      .on(shared ? grids : nullptr);
}

Variable concat(std::initializer_list<Variable> parts, int axis) {
  return concat(std::span(parts.begin(), parts.size()), axis);
}

Variable slice(const Variable& x, int axis, int64_t begin, int64_t end) {
  require_defined("slice", x);
  const int along = x.shape().normal_axis(axis, "slice");
  require(begin >= 0 && begin < end && end <= x.shape()[along], "slice", "range [", begin, ", ", end,
          ") is empty or outside axis ", along, " of shape ", x.shape());
  return make_op("slice", extracted(x.value(), along, begin, end - begin), {x},
                 [shape = x.shape(), along, begin](const Tensor& g) -> Gradients {
                   Tensor gx = Tensor::zeros(shape);
                   insert(g, along, begin, gx);
                   return {gx};
                 })
      .on(single(x.grids()));
}

namespace {

// Calls row(at, at_padded) for every pixel row of an image batch: where it starts
// in the batch, and where in the batch padded by p.
template <class Row>
void for_each_pixel_row(const Shape& image, const Padding& p, Row row) {
  const int64_t h = image[1], w = image[2], c = image[3];
  parallel_rows(image[0] * h, w * c, [=](int64_t i) {
    const int64_t padded_row = i / h * (p.top + h + p.bottom) + p.top + i % h;
    row(i * w * c, (padded_row * (p.left + w + p.right) + p.left) * c);
  });
}

}  // namespace

Variable pad(const Variable& x, const Padding& p, real value) {
  require_defined("pad", x);
  const Shape& shape = x.shape();
  require(shape.rank() == 4, "pad", "input has shape ", shape, ", expected [N,H,W,C]");
  for (const int64_t side : {p.top, p.left, p.bottom, p.right}) {
    require(side >= 0 && side <= Shape::kMaxElements, "pad", "padding {", p.top, ", ", p.left, ", ", p.bottom, ", ",
            p.right, "} is negative or too large (input ", shape, ")");
  }
  const int64_t h = p.top + shape[1] + p.bottom;
  const int64_t w = p.left + shape[2] + p.right;
  require(w <= Shape::kMaxElements / (shape[0] * shape[3]) / h, "pad", h, " x ", w, " pixels are too many (input ",
          shape, ")");
  const int64_t length = shape[2] * shape[3];
  Tensor y = Tensor::full({shape[0], h, w, shape[3]}, value);
  for_each_pixel_row(shape, p, [from = x.value().data(), to = y.mutable_data(), length](int64_t at, int64_t at_padded) {
    std::copy_n(from + at, length, to + at_padded);
  });
  return make_op("pad", std::move(y), {x}, [shape, p, length](const Tensor& g) -> Gradients {
    Tensor gx = Tensor::empty(shape);
    for_each_pixel_row(shape, p, [from = g.data(), to = gx.mutable_data(), length](int64_t at, int64_t at_padded) {
      std::copy_n(from + at_padded, length, to + at);
    });
    return {gx};
  });
}

}  // namespace whittle::inline WHITTLE_PRECISION
