// RUN: uqfc-opt %s -p fold-batch-norm,eliminate-dead-code | filecheck %s

// CHECK-LABEL: func.func @layer
// CHECK-NEXT:  %[[W:.*]] = nn.constant {value = dense<[{{\[}}1.000000e+00, 1.000000e+00], [2.000000e+00, 2.000000e+00]]> : tensor<2x2xf32>}
// CHECK-NEXT:  %[[B:.*]] = nn.constant {value = dense<[3.000000e+00, 5.000000e+00]> : tensor<2xf32>}
// CHECK-NEXT:  nn.linear %x, %[[W]] bias %[[B]] : tensor<2xf32> {layer = "fc"
// CHECK-NEXT:  func.return
func.func @layer(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = nn.constant {value = dense<0.5> : tensor<2x2xf32>} : tensor<2x2xf32>
  %s = nn.constant {value = dense<[2.0, 4.0]> : tensor<2xf32>} : tensor<2xf32>
  %t = nn.constant {value = dense<[3.0, 5.0]> : tensor<2xf32>} : tensor<2xf32>
  %0 = nn.linear %x, %w {layer = "fc"} : tensor<1x2xf32>, tensor<2x2xf32> -> tensor<1x2xf32>
  %1 = nn.mul %0, %s : tensor<1x2xf32>, tensor<2xf32> -> tensor<1x2xf32>
  %2 = nn.add %1, %t : tensor<1x2xf32>, tensor<2xf32> -> tensor<1x2xf32>
  func.return %2 : tensor<1x2xf32>
}

// Without a layer, two batch norms are one.
// CHECK-LABEL: func.func @chain
// CHECK-NEXT:  %[[F:.*]] = nn.constant {value = dense<4.000000e+00> : tensor<f32>}
// CHECK-NEXT:  %[[P:.*]] = nn.mul %x, %[[F]]
// CHECK-NEXT:  %[[S:.*]] = nn.constant {value = dense<9.000000e+00> : tensor<f32>}
// CHECK-NEXT:  nn.add %[[P]], %[[S]]
// CHECK-NEXT:  func.return
func.func @chain(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %s = nn.constant {value = dense<2.0> : tensor<f32>} : tensor<f32>
  %t = nn.constant {value = dense<3.0> : tensor<f32>} : tensor<f32>
  %0 = nn.mul %x, %s : tensor<1x2xf32>, tensor<f32> -> tensor<1x2xf32>
  %1 = nn.add %0, %t : tensor<1x2xf32>, tensor<f32> -> tensor<1x2xf32>
  %2 = nn.mul %1, %s : tensor<1x2xf32>, tensor<f32> -> tensor<1x2xf32>
  %3 = nn.add %2, %t : tensor<1x2xf32>, tensor<f32> -> tensor<1x2xf32>
  func.return %3 : tensor<1x2xf32>
}
