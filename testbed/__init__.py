"""Links, devices, brokers and models to try Isthmus with, on one machine."""
