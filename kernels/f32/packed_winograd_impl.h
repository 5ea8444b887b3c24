// 3x3 convolution of stride 1 with packed weights in float, by Winograd's minimal filtering
// (train/winograd.h): filters are transformed when they are packed.
//
// A block of tiles of the image is transformed; then, for one panel of output channels after
// the other, every point's product is computed and transformed back at once, so that the
// products of a panel stay in cache and the filters are read in the order in which they lie.
#pragma once

#include <stdint.h>

#include "kernels/f32/packed_conv_impl.h"
#include "kernels/train/winograd_impl.h"

namespace whittle::kernels {

template <class Kit, template <class> class Form>
struct PackedWinograd {
  using V = typename Kit::V;
  using Transforms = WinogradTransforms<V, Form>;
  using Direct = PackedConvF32<Kit>;
  using Tiles = FloatTiles<Kit>;
  using Op = ConvF32<float>;
  static constexpr int64_t kWidth = V::kWidth;
  static constexpr int64_t kPanel = 2 * kWidth;
  static constexpr int64_t kM = Transforms::kM;
  static constexpr int64_t kPoints = int64_t{Transforms::kN} * Transforms::kN;

  struct Plan {
    int64_t in, out;
    int64_t down, across, tiles;  // of the whole batch
    int64_t blocks, at_once;      // of tiles
    int64_t in_plane, out_plane;  // numbers from one point to the next
  };

  static Plan plan_of(const ConvShape& s) {
    Plan plan = {};
    plan.in = s.in_channels;
    plan.out = s.out_channels;
    plan.down = (s.window.out_h + kM - 1) / kM;
    plan.across = (s.window.out_w + kM - 1) / kM;
    plan.tiles = s.batch * plan.down * plan.across;
    // The transformed tiles of a block leave room for a panel's products in the second-level cache.
    constexpr int64_t kNumbers = 96 * 1024;
    constexpr int64_t kLeastTiles = 12;
    const int64_t fitting = kNumbers / (kPoints * plan.in);
    const int64_t most = fitting < kLeastTiles ? kLeastTiles : fitting;
    plan.blocks = (plan.tiles + most - 1) / most;
    plan.at_once = (plan.tiles + plan.blocks - 1) / plan.blocks;
    plan.in_plane = plan.at_once * plan.in + kWidth;  // no power of two, which would crowd one set of a cache
    plan.out_plane = plan.at_once * kPanel + kWidth;
    return plan;
  }

  // Multiplications, with a transform's additions and the reading of filters counted as some.
  static int64_t cost(const ConvShape& s) {
    const Plan plan = plan_of(s);
    return kPoints * (plan.tiles * (plan.in * plan.out + Kit::kTransform * (plan.in + plan.out)) +
                      Kit::kReadWeight * plan.in * plan.out);
  }
  static int64_t direct_cost(const ConvShape& s) {
    const int64_t results = int64_t{s.batch} * s.window.out_h * s.window.out_w;
    return 9 * (results + Kit::kReadWeight) * s.in_channels * s.out_channels;
  }

  // ---- Packed, in floats: biases in whole vectors, then for every panel [point][input][kPanel], or [kWidth] ----

  static constexpr int64_t kLeastProducts = 1 << 19;  // of a part: some microseconds
  static int64_t vectors(const Plan& plan) { return (plan.out + kWidth - 1) / kWidth; }

  static PackedNeeds needs(const ConvShape& s) {
    const Plan plan = plan_of(s);
    PackedNeeds result;
    result.packed_bytes =
        Direct::round_up(vectors(plan) * kWidth * (1 + kPoints * plan.in) * int64_t{sizeof(float)}, 64);
    result.scratch_bytes = Direct::round_up(kPoints * (plan.in_plane + plan.out_plane) * int64_t{sizeof(float)}, 64);
    const int64_t products = plan.tiles * 16 * 9 * s.in_channels * s.out_channels;  // those of the plain sum
    result.parts = parts_worth(plan.tiles, products, kLeastProducts);
    return result;
  }

  template <class Weight, class Rows>
  static void pack(const ConvF32<Weight>& op, const Rows& rows, uint8_t* packed) {
    const Plan plan = plan_of(op.shape);
    auto* to = reinterpret_cast<float*>(packed);
    Direct::pack_bias(op, 0, plan.out, 1, vectors(plan), to);
    to += vectors(plan) * kWidth;
    for (int64_t panel = 0; panel < plan.out; panel += kPanel) {
      const int64_t channels = Direct::least(kPanel, plan.out - panel);
      const int64_t width = channels > kWidth ? kPanel : kWidth;
      for (int64_t i = 0; i < plan.in; ++i) {
        float filters[9 * kPanel];  // of the panel, for one input
        for (int64_t tap = 0; tap < 9; ++tap) {
          for (int64_t c = 0; c < channels; ++c) {
            filters[tap * kPanel + c] = Direct::weight(op, rows, panel + c, tap * plan.in + i);
          }
        }
        Transforms::filter(filters, 0, kPanel, i, i + 1, plan.in, channels, to, plan.in * width);
      }
      to += kPoints * plan.in * width;
    }
  }

  // ---- Running ----

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const Plan plan = plan_of(op.shape);
    auto* const v = reinterpret_cast<float*>(scratch);
    float* const m = v + kPoints * plan.in_plane;
    const int64_t end = plan.tiles * (part.index + 1) / part.count;
    for (int64_t first = plan.tiles * part.index / part.count; first < end; first += plan.at_once) {
      const int64_t last = Direct::least(first + plan.at_once, end);
      transform_tiles(op, plan, first, last, v);
      const auto* bias = reinterpret_cast<const float*>(packed);
      const float* weights = bias + vectors(plan) * kWidth;
      for (int64_t panel = 0; panel < plan.out; panel += kPanel, bias += kPanel) {
        const int64_t channels = Direct::least(kPanel, plan.out - panel);
        const int64_t width = channels > kWidth ? kPanel : kWidth;
        typename Tiles::Tile tile = {};
        tile.line = true;
        tile.taps_h = tile.taps_w = 1;
        tile.run = tile.pixel = plan.in;
        tile.row = static_cast<int32_t>(last - first);
        tile.y_pixel = kPanel;
        tile.last = static_cast<int32_t>(kWidth);
        for (int64_t p = 0; p < kPoints; ++p, weights += plan.in * width) {
          tile.weights = weights;
          tile.size = plan.in * width;
          Tiles::run(tile, static_cast<int>(width / kWidth), v + p * plan.in_plane, m + p * plan.out_plane, 0,
                     tile.row);
        }
        transform_results(op, plan, first, last, m, bias, panel, channels);
      }
    }
  }

  // The tile's first result.
  struct Place {
    int64_t image, row, column;
  };
  static Place place(const Plan& plan, int64_t tile) {
    return {tile / (plan.down * plan.across), tile / plan.across % plan.down * kM, tile % plan.across * kM};
  }

  static void transform_tiles(const Op& op, const Plan& plan, int64_t first, int64_t last, float* v) {
    const Window& w = op.shape.window;
    for (int64_t tile = first; tile < last; ++tile, v += plan.in) {
      const Place at = place(plan, tile);
      const int64_t row = at.row - w.top;
      const int64_t column = at.column - w.left;
      Transforms::input({op.x + ((at.image * w.in_h + row) * w.in_w + column) * plan.in, w.in_w * plan.in, plan.in},
                        {-row, -column, w.in_h - row, w.in_w - column}, plan.in, v, plan.in_plane);
    }
  }

  static void transform_results(const Op& op, const Plan& plan, int64_t first, int64_t last, const float* m,
                                const float* bias, int64_t channel, int64_t channels) {
    const Window& w = op.shape.window;
    const V low = V::broadcast(op.limits.lo);
    const V high = V::broadcast(op.limits.hi);
    for (int64_t tile = first; tile < last; ++tile, m += kPanel) {
      const Place at = place(plan, tile);
      Transforms::output_and_finish(
          m, plan.out_plane, channels, bias, [low, high](V x) { return V::limited(x, low, high); },
          {op.y + ((at.image * w.out_h + at.row) * w.out_w + at.column) * plan.out + channel, w.out_w * plan.out,
           plan.out},
          Direct::least(kM, w.out_h - at.row), Direct::least(kM, w.out_w - at.column));
    }
  }
};

}  // namespace whittle::kernels
