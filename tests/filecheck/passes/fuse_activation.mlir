// RUN: uqfc-opt %s -p fuse-activation | filecheck %s

// CHECK-LABEL: func.func @fused
// CHECK:       nn.linear %x, %w {{{.*}}activation = #nn.fn<relu>
// CHECK-NEXT:  nn.add %{{.*}}, %{{.*}} {activation = #nn.fn<clip, 0.0, 6.0>}
// CHECK-NEXT:  func.return
func.func @fused(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %w = nn.constant {value = dense<0.5> : tensor<4x4xf32>} : tensor<4x4xf32>
  %0 = nn.linear %x, %w {layer = "fc"} : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %1 = nn.unary %0 {fn = #nn.fn<relu>} : tensor<2x4xf32> -> tensor<2x4xf32>
  %2 = nn.add %1, %x : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %3 = nn.unary %2 {fn = #nn.fn<clip, 0.0, 6.0>} : tensor<2x4xf32> -> tensor<2x4xf32>
  func.return %3 : tensor<2x4xf32>
}

// Not fused: a function that no epilogue has, a second activation, a second reader.
// CHECK-LABEL: func.func @kept
// CHECK:       nn.add %x, %x : tensor
// CHECK-NEXT:  nn.unary %{{.*}} {fn = #nn.fn<tanh>}
// CHECK-NEXT:  nn.add %x, %{{.*}} {activation = #nn.fn<relu>}
// CHECK-NEXT:  nn.unary %{{.*}} {fn = #nn.fn<hard_swish>}
// CHECK-NEXT:  nn.add %{{.*}}, %x : tensor
// CHECK-NEXT:  nn.unary %{{.*}} {fn = #nn.fn<relu>}
func.func @kept(%x: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>) {
  %0 = nn.add %x, %x : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %1 = nn.unary %0 {fn = #nn.fn<tanh>} : tensor<2x4xf32> -> tensor<2x4xf32>
  %2 = nn.add %x, %1 {activation = #nn.fn<relu>} : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %3 = nn.unary %2 {fn = #nn.fn<hard_swish>} : tensor<2x4xf32> -> tensor<2x4xf32>
  %4 = nn.add %3, %x : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %5 = nn.unary %4 {fn = #nn.fn<relu>} : tensor<2x4xf32> -> tensor<2x4xf32>
  func.return %4, %5 : tensor<2x4xf32>, tensor<2x4xf32>
}
