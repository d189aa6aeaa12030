// RUN: uqfc-opt %s | filecheck %s

func.func @main(%x: memref<2x4xf32>, %y: memref<2x4xf32>) {
  // CHECK: qkernel.arena : memref<256xui8>
  %a = qkernel.arena : memref<256xui8>
  // CHECK-NEXT: qkernel.view %a {offset = 64 : i64} : memref<256xui8> -> memref<2x4xf32>
  %v = qkernel.view %a {offset = 64 : i64} : memref<256xui8> -> memref<2x4xf32>
  // CHECK-NEXT: qkernel.launch %x : memref<2x4xf32> into %v : memref<2x4xf32> {
  // CHECK: (%0: tensor<2x4xf32>):
  // CHECK: qkernel.yield %{{.*}} : tensor<2x4xf32>
  // CHECK-NEXT: } {kernel = "relu_f32"}
  qkernel.launch %x : memref<2x4xf32> into %v : memref<2x4xf32> {
  ^bb0(%0: tensor<2x4xf32>):
    %1 = nn.unary %0 {fn = #nn.fn<relu>} : tensor<2x4xf32> -> tensor<2x4xf32>
    qkernel.yield %1 : tensor<2x4xf32>
  } {kernel = "relu_f32"}
  func.return
}
