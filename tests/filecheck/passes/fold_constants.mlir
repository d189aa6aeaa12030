// RUN: uqfc-opt %s -p fold-constants,eliminate-dead-code | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK-NEXT:  nn.constant {value = dense<[{{\[}}2.000000e+00], [5.000000e+00]]> : tensor<2x1xf32>}
// CHECK-NEXT:  nn.add %x
// CHECK-NEXT:  func.return
func.func @main(%x: tensor<2x1xf32>) -> tensor<2x1xf32> {
  %a = nn.constant {value = dense<[[-1.0, 4.0]]> : tensor<1x2xf32>} : tensor<1x2xf32>
  %b = nn.constant {value = dense<[2.0, 1.0]> : tensor<2xf32>} : tensor<2xf32>
  %0 = nn.unary %a {fn = #nn.fn<relu>} : tensor<1x2xf32> -> tensor<1x2xf32>
  %1 = nn.transpose %0 {permutation = array<i64: 1, 0>} : tensor<1x2xf32> -> tensor<2x1xf32>
  %2 = nn.reshape %b : tensor<2xf32> -> tensor<2x1xf32>
  %3 = nn.add %1, %2 : tensor<2x1xf32>, tensor<2x1xf32> -> tensor<2x1xf32>
  %4 = nn.add %x, %3 : tensor<2x1xf32>, tensor<2x1xf32> -> tensor<2x1xf32>
  func.return %4 : tensor<2x1xf32>
}
