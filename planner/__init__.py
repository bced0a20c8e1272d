"""The library about models: read, profile, price, cut, plan, split and run a piece."""
