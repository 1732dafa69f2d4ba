"""The gRPC front: engine.v1 on grpc.aio. Decodes, hands on, encodes; keeps no state of its own."""
