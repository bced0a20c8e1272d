"""The daemon on the device: requests over MQTT, heads run here, tails asked of the cloud."""
