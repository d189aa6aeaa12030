// RUN: uqfc-opt %s -p sink-transposes | filecheck %s

// The two inner transposes meet below the activation and the residual addition, and cancel.
// CHECK-LABEL: func.func @residual
// CHECK-NOT:   nn.transpose
// CHECK:       nn.max_pool2d
// CHECK-NEXT:  nn.unary %{{.*}} {fn = #nn.fn<relu>} : tensor<1x4x4x2xf32>
// CHECK-NEXT:  nn.add %{{.*}}, %x : tensor<1x4x4x2xf32>
// CHECK-NEXT:  func.return
func.func @residual(%x: tensor<1x4x4x2xf32>) -> tensor<1x4x4x2xf32> {
  %p = nn.max_pool2d %x {kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>} : tensor<1x4x4x2xf32> -> tensor<1x4x4x2xf32>
  %0 = nn.transpose %p {permutation = array<i64: 0, 3, 1, 2>} : tensor<1x4x4x2xf32> -> tensor<1x2x4x4xf32>
  %1 = nn.unary %0 {fn = #nn.fn<relu>} : tensor<1x2x4x4xf32> -> tensor<1x2x4x4xf32>
  %2 = nn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : tensor<1x4x4x2xf32> -> tensor<1x2x4x4xf32>
  %3 = nn.add %1, %2 : tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32> -> tensor<1x2x4x4xf32>
  %4 = nn.transpose %3 {permutation = array<i64: 0, 2, 3, 1>} : tensor<1x2x4x4xf32> -> tensor<1x4x4x2xf32>
  func.return %4 : tensor<1x4x4x2xf32>
}

// Per-channel constants follow the channels; axes of a mean are renamed.
// CHECK-LABEL: func.func @channels
// CHECK-NEXT:  nn.constant {value = dense<{{.*}}1.000000e+00, 2.000000e+00]]]]> : tensor<1x1x1x2xf32>}
// CHECK-NEXT:  nn.mul %x, %{{.*}} : tensor<1x4x4x2xf32>, tensor<1x1x1x2xf32> -> tensor<1x4x4x2xf32>
// CHECK-NEXT:  nn.reduce %{{.*}} {kind = "mean", axes = array<i64: 1, 2>} : tensor<1x4x4x2xf32> -> tensor<1x1x1x2xf32>
// CHECK-NEXT:  nn.reshape %{{.*}} : tensor<1x1x1x2xf32> -> tensor<1x2xf32>
// CHECK-NEXT:  func.return
func.func @channels(%x: tensor<1x4x4x2xf32>) -> tensor<1x2xf32> {
  %0 = nn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : tensor<1x4x4x2xf32> -> tensor<1x2x4x4xf32>
  %c = nn.constant {value = dense<[[[1.0]], [[2.0]]]> : tensor<2x1x1xf32>} : tensor<2x1x1xf32>
  %1 = nn.mul %0, %c : tensor<1x2x4x4xf32>, tensor<2x1x1xf32> -> tensor<1x2x4x4xf32>
  %2 = nn.reduce %1 {kind = "mean", axes = array<i64: 2, 3>} : tensor<1x2x4x4xf32> -> tensor<1x2x1x1xf32>
  %3 = nn.reshape %2 : tensor<1x2x1x1xf32> -> tensor<1x2xf32>
  func.return %3 : tensor<1x2xf32>
}

// A channel shuffle stays, on channels-last values; a sum over permuted axes would change its order.
// CHECK-LABEL: func.func @shuffle
// CHECK-NEXT:  nn.reshape %x : tensor<1x3x3x4xf32> -> tensor<1x3x3x2x2xf32>
// CHECK-NEXT:  nn.transpose %{{.*}} {permutation = array<i64: 0, 1, 2, 4, 3>}
// CHECK-NEXT:  nn.reshape %{{.*}} : tensor<1x3x3x2x2xf32> -> tensor<1x3x3x4xf32>
// CHECK-NEXT:  nn.transpose %{{.*}} {permutation = array<i64: 0, 3, 1, 2>}
// CHECK-NEXT:  nn.reduce %{{.*}} {kind = "sum", axes = array<i64: 1, 2>}
func.func @shuffle(%x: tensor<1x3x3x4xf32>) -> tensor<1x1x1x3xf32> {
  %0 = nn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : tensor<1x3x3x4xf32> -> tensor<1x4x3x3xf32>
  %1 = nn.reshape %0 : tensor<1x4x3x3xf32> -> tensor<1x2x2x3x3xf32>
  %2 = nn.transpose %1 {permutation = array<i64: 0, 2, 1, 3, 4>} : tensor<1x2x2x3x3xf32> -> tensor<1x2x2x3x3xf32>
  %3 = nn.reshape %2 : tensor<1x2x2x3x3xf32> -> tensor<1x4x3x3xf32>
  %4 = nn.reduce %3 {kind = "sum", axes = array<i64: 1, 2>} : tensor<1x4x3x3xf32> -> tensor<1x1x1x3xf32>
  func.return %4 : tensor<1x1x1x3xf32>
}
