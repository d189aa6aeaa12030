// RUN: uqfc-opt %s -p fold-padding | filecheck %s

// CHECK-LABEL: func.func @conv
// CHECK-NOT:   nn.pad
// CHECK:       nn.conv2d %x, %w {{{.*}}padding = array<i64: 1, 0, 2, 1>
func.func @conv(%x: tensor<1x3x3x1xf32>) -> tensor<1x4x2x1xf32> {
  %w = nn.constant {value = dense<0.5> : tensor<1x3x3x1xf32>} : tensor<1x3x3x1xf32>
  %0 = nn.pad %x {low = array<i64: 0, 1, 0, 0>, high = array<i64: 0, 2, 0, 0>, mode = "constant", value = 0.0 : f32} : tensor<1x3x3x1xf32> -> tensor<1x6x3x1xf32>
  %1 = nn.conv2d %0, %w {strides = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : tensor<1x6x3x1xf32>, tensor<1x3x3x1xf32> -> tensor<1x4x2x1xf32>
  func.return %1 : tensor<1x4x2x1xf32>
}

// A mean that did not count its padding counts what was there before.
// CHECK-LABEL: func.func @mean
// CHECK-NEXT:  nn.avg_pool2d %x {{{.*}}padding = array<i64: 1, 0, 2, 0>{{.*}}count_include_pad = true
func.func @mean(%x: tensor<1x3x3x1xf32>) -> tensor<1x5x2x1xf32> {
  %0 = nn.pad %x {low = array<i64: 0, 1, 0, 0>, high = array<i64: 0, 2, 0, 0>, mode = "constant", value = 0.0 : f32} : tensor<1x3x3x1xf32> -> tensor<1x6x3x1xf32>
  %1 = nn.avg_pool2d %0 {kernel = array<i64: 2, 2>, strides = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, count_include_pad = false} : tensor<1x6x3x1xf32> -> tensor<1x5x2x1xf32>
  func.return %1 : tensor<1x5x2x1xf32>
}
