"""What people use instead: a plain process, a Ray actor, Ray Serve, and a plain gRPC server."""
