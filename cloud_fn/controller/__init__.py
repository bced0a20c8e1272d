"""What the gateways of one Ray must agree about: how much of each node's memory each may use."""
