// RUN: uqfc-opt %s | filecheck %s
// RUN: uqfc-opt %s --print-op-generic | filecheck %s --check-prefix GENERIC

func.func @main(%x: tensor<1x4x4x2xf32>, %r: tensor<1x4x4x3xf32>, %i: tensor<3xi64>) -> tensor<1x3xf32> attributes {input_names = ["x", "r", "i"], output_names = ["y"]} {
  %w = nn.constant {value = dense<0.5> : tensor<3x3x3x2xf32>} : tensor<3x3x3x2xf32>
  %b = nn.constant {value = dense<[1.0, -2.5, 0.1]> : tensor<3xf32>} : tensor<3xf32>
  %c = nn.conv2d %x, %w bias %b : tensor<3xf32> residual %r : tensor<1x4x4x3xf32> {strides = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64, activation = #nn.fn<clip, 0.0, 6.0>, layer = "features.0"} : tensor<1x4x4x2xf32>, tensor<3x3x3x2xf32> -> tensor<1x4x4x3xf32>
  %u = nn.unary %c {fn = #nn.fn<hard_sigmoid, 0.2, 0.5>} : tensor<1x4x4x3xf32> -> tensor<1x4x4x3xf32>
  %m = nn.mul %c, %u {activation = #nn.fn<relu>} : tensor<1x4x4x3xf32>, tensor<1x4x4x3xf32> -> tensor<1x4x4x3xf32>
  %p = nn.max_pool2d %m {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>} : tensor<1x4x4x3xf32> -> tensor<1x2x2x3xf32>
  %a = nn.avg_pool2d %p {kernel = array<i64: 2, 2>, strides = array<i64: 1, 1>, padding = array<i64: 0, 0, 1, 1>, dilations = array<i64: 1, 1>, count_include_pad = true} : tensor<1x2x2x3xf32> -> tensor<1x2x2x3xf32>
  %t = nn.transpose %a {permutation = array<i64: 0, 3, 1, 2>} : tensor<1x2x2x3xf32> -> tensor<1x3x2x2xf32>
  %s = nn.reduce %t {kind = "mean", axes = array<i64: 2, 3>} : tensor<1x3x2x2xf32> -> tensor<1x3x1x1xf32>
  %f = nn.reshape %s : tensor<1x3x1x1xf32> -> tensor<1x3xf32>
  %g = nn.gather %f, %i {axis = 1 : i64} : tensor<1x3xf32>, tensor<3xi64> -> tensor<1x3xf32>
  %k = nn.concat %f, %g {axis = 1 : i64} : tensor<1x3xf32>, tensor<1x3xf32> -> tensor<1x6xf32>
  %l = nn.slice %k {starts = array<i64: 0, 5>, steps = array<i64: 1, -2>} : tensor<1x6xf32> -> tensor<1x3xf32>
  %z = nn.softmax %l {axis = 1 : i64} : tensor<1x3xf32> -> tensor<1x3xf32>
  %q = nn.compare %z, %l {predicate = "lt"} : tensor<1x3xf32>, tensor<1x3xf32> -> tensor<1x3xi1>
  %v = nn.select %q, %z, %l : tensor<1x3xi1>, tensor<1x3xf32>, tensor<1x3xf32> -> tensor<1x3xf32>
  func.return %v : tensor<1x3xf32>
}

// CHECK:      attributes {input_names = ["x", "r", "i"], output_names = ["y"]}
// CHECK-NEXT: %w = nn.constant {value = dense<5.000000e-01> : tensor<3x3x3x2xf32>} : tensor<3x3x3x2xf32>
// CHECK:      %c = nn.conv2d %x, %w bias %b : tensor<3xf32> residual %r : tensor<1x4x4x3xf32> {layer = "features.0"
// CHECK-SAME: activation = #nn.fn<clip, 0.0, 6.0>
// CHECK-NEXT: %u = nn.unary %c {fn = #nn.fn<hard_sigmoid, 0.2, 0.5>}
// CHECK-NEXT: %m = nn.mul %c, %u {activation = #nn.fn<relu>}
// CHECK:      %l = nn.slice %k {starts = array<i64: 0, 5>, steps = array<i64: 1, -2>}
// CHECK:      nn.select %q, %z, %l : tensor<1x3xi1>, tensor<1x3xf32>, tensor<1x3xf32> -> tensor<1x3xf32>

// GENERIC: "nn.conv2d"(%x, %w, %b, %r) <{
// GENERIC-SAME: operandSegmentSizes = array<i32: 1, 1, 1, 1>
