"""Quantization-aware training in PyTorch: what it trains is what the compiler deploys."""
