// Depthwise convolution: which rows meet which rows. What happens along a row is a
// kernel (kernels/train/depthwise.h).
//
// Values and input gradients are the same loop: the filter slides over x, or its phases
// (core/window.h) slide over g.

#include "core/depthwise.h"
#include "core/loops.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

using Row = kernels::DepthwiseRow<real>;
using Rows = std::vector<Row, PoolAllocator<Row>>;

// All of a row but where it is.
Row row_of(const WindowAxis& w, int64_t channels) {
  const int64_t begin = std::clamp<int64_t>(ceil_div(w.before, w.stride), 0, w.out);
  const int64_t last_tap = (w.taps - 1) * w.dilation - w.before;
  return {.channels = channels,
          .in = w.in,
          .windows = w.out,
          .taps = w.taps,
          .stride = w.stride,
          .dilation = w.dilation,
          .before = w.before,
          .whole_begin = begin,
          .whole_end = std::clamp(floor_div(w.in - 1 - last_tap, w.stride) + 1, begin, w.out),
          .rows = 0,
          .source = nullptr,
          .source_step = 0};
}

// Puts the rows under window i of the vertical axis into `row`. Returns their taps.
Range place_row(const WindowAxis& h, int64_t i, const real* image, Row& row) {
  const Range taps = h.taps_inside(i);
  row.rows = taps.size();
  row.source = taps.empty() ? image : image + h.at(i, taps.begin) * row.in * row.channels;
  row.source_step = h.dilation * row.in * row.channels;
  return taps;
}

// A filter, or its phases, slid over images. Phase p of an axis makes pixels p.offset, p.offset + step, ... of the
// target, of which there are target_h x target_w.
struct Slide {
  Phases h, w;
  int64_t step_h, step_w;
  int64_t target_h, target_w;
};

void slide(const Depthwise& d, const Slide& s, const real* source, const real* filter, const real* bias, real* target) {
  const auto& kernel = train_kernels().depthwise;
  const int64_t packed_channels = kernel.packed_channels(d.channels);
  const int64_t taps = d.h.taps * d.w.taps;
  Tensor packed = Tensor::empty({taps, packed_channels});
  kernel.pack(filter, d.channels, taps, packed.mutable_data());

  int64_t columns = 0;  // of the target that some phase makes
  Rows shapes;
  for (const Phase& w : s.w) {
    shapes.push_back(row_of(w.axis, d.channels));
    columns += w.axis.out;
  }
  const int64_t source_size = s.h.empty() || s.w.empty() ? 0 : s.h[0].axis.in * s.w[0].axis.in * d.channels;
  const int64_t row_size = s.target_w * d.channels;
  parallel_ranges(d.images * s.target_h, ceil_div(kElementGrain, row_size), [&](int64_t begin, int64_t end) {
    Rows rows = shapes;
    for (int64_t at = begin; at < end; ++at) {
      const int64_t y = at % s.target_h;
      real* const out = target + at * row_size;
      const auto h = std::ranges::find(s.h, y % s.step_h, &Phase::offset);
      if (h == s.h.end() || columns < s.target_w) {
        std::fill_n(out, row_size, real(0));
      }
      for (size_t p = 0; h != s.h.end() && p < rows.size(); ++p) {
        const Phase& w = s.w[p];
        const Range inside = place_row(h->axis, y / s.step_h, source + at / s.target_h * source_size, rows[p]);
        const int64_t u = h->last_tap - inside.begin * h->tap_step;
        kernel.correlate(rows[p],
                         {.data = packed.data() + (u * d.w.taps + w.last_tap) * packed_channels,
                          .row_step = -h->tap_step * d.w.taps * packed_channels,
                          .step = -w.tap_step * packed_channels},
                         bias, out + w.offset * d.channels, s.step_w * d.channels);
      }
    }
  });
}

}  // namespace

void depthwise_correlate(const Depthwise& d, const real* x, const real* filter, const real* bias, real* y) {
  // One phase, whose taps run forward.
  const auto whole = [](const WindowAxis& a) {
    return Phases{{.axis = a, .offset = 0, .last_tap = 0, .tap_step = -1}};
  };
  slide(d, {.h = whole(d.h), .w = whole(d.w), .step_h = 1, .step_w = 1, .target_h = d.h.out, .target_w = d.w.out}, x,
        filter, bias, y);
}

void depthwise_input_gradient(const Depthwise& d, const real* g, const real* filter, real* gx) {
  slide(d,
        {.h = phases(d.h),
         .w = phases(d.w),
         .step_h = d.h.stride,
         .step_w = d.w.stride,
         .target_h = d.h.in,
         .target_w = d.w.in},
        g, filter, nullptr, gx);
}

void depthwise_filter_gradient(const Depthwise& d, const real* x, const real* g, real* gfilter) {
  // Each part sums its share of the rows, row by row: short sums keep more digits than one long one.
  constexpr int64_t kParts = 8;
  const auto& kernel = train_kernels().depthwise;
  const int64_t row_taps = d.w.taps * kernel.packed_channels(d.channels);
  const int64_t elements = d.h.taps * row_taps;
  const int64_t all_rows = d.images * d.h.out;
  const int64_t parts = std::min(all_rows, kParts);
  Tensor partial = Tensor::zeros({parts, elements});
  real* const sums = partial.mutable_data();
  const Row shape = row_of(d.w, d.channels);
  parallel_for(parts, [&](int64_t part) {
    Row row = shape;
    for (int64_t at = part * all_rows / parts; at < (part + 1) * all_rows / parts; ++at) {
      const Range inside = place_row(d.h, at % d.h.out, x + at / d.h.out * d.h.in * d.w.in * d.channels, row);
      kernel.filter_gradient(row, g + at * d.w.out * d.channels, sums + part * elements + inside.begin * row_taps);
    }
  });
  tree_add(sums, parts, elements);
  kernel.unpack(sums, d.channels, d.h.taps * d.w.taps, gfilter);
}

}  // namespace whittle::inline WHITTLE_PRECISION
