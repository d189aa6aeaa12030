// RUN: uqfc-opt %s -p fuse-residual,fuse-activation | filecheck %s

// Of two layers the later one takes the other in; the activation of the sum becomes its own.
// CHECK-LABEL: func.func @both
// CHECK:       %[[A:.*]] = nn.linear %x, %w {{{.*}}layer = "a"
// CHECK:       nn.linear %x, %w residual %[[A]] : tensor<2x4xf32> {layer = "b"{{.*}}activation = #nn.fn<relu>
// CHECK-NEXT:  func.return
func.func @both(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %w = nn.constant {value = dense<0.5> : tensor<4x4xf32>} : tensor<4x4xf32>
  %0 = nn.linear %x, %w {layer = "a"} : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %1 = nn.linear %x, %w {layer = "b"} : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %2 = nn.add %0, %1 : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %3 = nn.unary %2 {fn = #nn.fn<relu>} : tensor<2x4xf32> -> tensor<2x4xf32>
  func.return %3 : tensor<2x4xf32>
}

// Not fused: a layer with an activation, and an addend that is broadcast.
// CHECK-LABEL: func.func @kept
// CHECK:       nn.linear
// CHECK-NEXT:  nn.add
// CHECK-NEXT:  nn.linear
// CHECK-NEXT:  nn.add
func.func @kept(%x: tensor<2x4xf32>, %y: tensor<1x4xf32>) -> tensor<2x4xf32> {
  %w = nn.constant {value = dense<0.5> : tensor<4x4xf32>} : tensor<4x4xf32>
  %0 = nn.linear %x, %w {activation = #nn.fn<relu>} : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %1 = nn.add %0, %x : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  %2 = nn.linear %1, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  %3 = nn.add %2, %y : tensor<2x4xf32>, tensor<1x4xf32> -> tensor<2x4xf32>
  func.return %3 : tensor<2x4xf32>
}
