// RUN: uqfc-opt %s -p canonicalize-reshapes,eliminate-dead-code | filecheck %s

// CHECK-LABEL: func.func @merged
// CHECK-NEXT:  nn.reshape %x : tensor<2x6xf32> -> tensor<4x3xf32>
// CHECK-NEXT:  func.return
func.func @merged(%x: tensor<2x6xf32>) -> tensor<4x3xf32> {
  %0 = nn.reshape %x : tensor<2x6xf32> -> tensor<12xf32>
  %1 = nn.reshape %0 : tensor<12xf32> -> tensor<4x3xf32>
  func.return %1 : tensor<4x3xf32>
}

// CHECK-LABEL: func.func @dropped
// CHECK-NEXT:  func.return %x
func.func @dropped(%x: tensor<2x6xf32>) -> tensor<2x6xf32> {
  %0 = nn.reshape %x : tensor<2x6xf32> -> tensor<12xf32>
  %1 = nn.reshape %0 : tensor<12xf32> -> tensor<2x6xf32>
  func.return %1 : tensor<2x6xf32>
}
