"""The centre's MQTT client: from devices to the inbox, and from the store to the broker."""
