"""The part of sensitivity that needs PyTorch."""
