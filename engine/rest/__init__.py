"""The HTTP front: AWS's Lambda API, shaped by botocore's service model. Decodes, asks the rooms below, encodes."""
