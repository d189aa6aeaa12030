"""The other runtimes: for each, factories of calls that run a workload once."""
