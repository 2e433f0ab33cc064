"""The centre's MQTT client: what devices say goes to the inbox in batches; what the store wants published goes out."""
