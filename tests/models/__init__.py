"""Models to test on: where to find them (`catalog`), how to make them (`torchvision_models`)."""
