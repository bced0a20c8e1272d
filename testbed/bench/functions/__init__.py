"""Benchmarks of the functions: cold starts, density and the data plane, from outside.

The server is a real ``isthmus serve`` that is asked over gRPC; nothing here knows how it starts
instances. Beside it, in the same run, stand what people would use instead.
"""
