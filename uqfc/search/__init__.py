"""Which bits where: search over the weight types of a network's layers."""
