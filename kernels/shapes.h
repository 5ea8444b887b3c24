// Geometry that the inference tables share (int8/table.h, f32/table.h).
//
// Plain data. All extents are positive and all products of extents of one tensor fit
// into 31 bits: whoever fills these in has checked it (runtime/load.cpp).
#pragma once

#include <stdint.h>

namespace whittle::kernels {

// A window that slides over an image. Tap (u, v) of window (p, r) reads pixel
// (p stride_h + u dilation_h - top, r stride_w + v dilation_w - left); pixels outside the
// image are padding.
struct Window {
  int32_t in_h, in_w;
  int32_t out_h, out_w;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t dilation_h, dilation_w;
  int32_t top, left;

  constexpr int32_t row(int32_t p, int32_t u) const { return p * stride_h + u * dilation_h - top; }
  constexpr int32_t column(int32_t r, int32_t v) const { return r * stride_w + v * dilation_w - left; }
  constexpr bool inside(int32_t row, int32_t column) const {
    return row >= 0 && row < in_h && column >= 0 && column < in_w;
  }
};

// x [batch, in_h, in_w, in_channels], filters [out_channels, kernel_h, kernel_w, in_channels / groups],
// y [batch, out_h, out_w, out_channels].
struct ConvShape {
  int32_t batch;
  int32_t in_channels, out_channels, groups;
  Window window;

  // Weights of an output channel.
  constexpr int32_t filter() const { return window.kernel_h * window.kernel_w * (in_channels / groups); }
};

// A fully connected layer is a convolution over images of one pixel.
constexpr ConvShape fully_connected_shape(int32_t batch, int32_t in, int32_t out) {
  return {.batch = batch,
          .in_channels = in,
          .out_channels = out,
          .groups = 1,
          .window = {.in_h = 1,
                     .in_w = 1,
                     .out_h = 1,
                     .out_w = 1,
                     .kernel_h = 1,
                     .kernel_w = 1,
                     .stride_h = 1,
                     .stride_w = 1,
                     .dilation_h = 1,
                     .dilation_w = 1,
                     .top = 0,
                     .left = 0}};
}

// The shape with neighbouring pixels of the result as one, of that many times the channels, where those of a pixel fill
// less than `lanes` and it saves multiplications. The filter is so much wider, and 0 where it is not theirs. Always
// inlined, so that no table's object has a copy that the linker might keep for everyone.
[[gnu::always_inline]] constexpr ConvShape with_neighbours_as_one(ConvShape s, int32_t lanes) {
  Window& w = s.window;
  int32_t pixels = lanes % s.out_channels == 0 ? lanes / s.out_channels : 1;
  while (w.out_w % pixels != 0) {
    pixels /= 2;
  }
  if (s.groups == 1 && w.dilation_w == 1 && w.stride_w < w.kernel_w) {
    s.out_channels *= pixels;
    w.out_w /= pixels;
    w.kernel_w += (pixels - 1) * w.stride_w;
    w.stride_w *= pixels;
  }
  return s;
}

// x [batch, in_h, in_w, channels], y [batch, out_h, out_w, channels]; dilation 1.
struct PoolShape {
  int32_t batch, channels;
  Window window;
};

}  // namespace whittle::kernels
